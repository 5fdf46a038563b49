"""Colours as sRGB, which is what the networks were trained on: embedded ICC profiles are applied, by LittleCMS.

Which profiles matter is found out by trying: one that moves no colour of a grid by more than two levels is sRGB under
any of its names and costs nothing. In the test archive that are all eight sRGB profiles (they move by at most 1, the
others by 64 to 120).

Costs on one core, for each megapixel: RGB 23 ms to, through and from LittleCMS, CMYK 33 ms. So CMYK is converted after
it was scaled down, RGB only where a network looks at it (`Picture.shown`), and a transform is made once for each
profile (2 ms; CMYK 21 ms). RGB profiles that are three curves and a matrix, nearly all that photos carry, are applied
in 5 ms (`facebatch.shaper`), where that and LittleCMS agree.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import cast

import cv2
import numpy as np
from PIL import Image, ImageCms

from facebatch.geometry import Pixels
from facebatch.shaper import read_shaper

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
_NO_MORE_THAN = 2
"""Levels of 255 by which a profile may move colours and still pass for sRGB."""
_ROUNDING = 1
"""Levels by which two ways to apply a profile may differ. Ours and LittleCMS do for 2 % of all colours."""
_RAMPS = ((1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1))
"""Colours of whose every level the two are compared."""
_LARGEST = 4 << 20
"""Bytes of a profile; printers' are the largest, up to 3 MB."""
_GREY = ("1", "L", "LA", "La", "I", "F")


@dataclass(frozen=True, slots=True)
class Colours:
    """How a picture's numbers become sRGB. One of the first three is set at most; none where nothing is to be done."""

    ink: ImageCms.ImageCmsTransform | None = None
    """From CMYK or LAB, before anything else makes RGB of it."""
    light: Callable[[Pixels], Pixels] | None = None
    """From another RGB."""
    grey: Pixels | None = None
    """A table of 256 levels, from another grey."""
    trouble: str | None = None
    """Why the profile was ignored. The picture is indexed all the same."""

    @property
    def moves(self) -> bool:
        """Whether `srgb` does anything."""
        return self.light is not None or self.grey is not None

    def rgb(self, image: Image.Image) -> Image.Image:
        """RGB of CMYK or LAB; without a profile of its own, CMYK by Pillow's rule of thumb."""
        if self.ink:
            return cast(Image.Image, ImageCms.applyTransform(image, self.ink))
        return image.convert("RGB")

    def srgb(self, pixels: Pixels) -> Pixels:
        """sRGB of RGB, or of grey as RGB."""
        if self.light:
            return self.light(pixels)
        if self.grey is not None:
            return cast(Pixels, cv2.LUT(pixels, self.grey))
        return pixels


def space(mode: str) -> str:
    """The colour space that a mode of Pillow's has, in ICC's words."""
    if mode in ("CMYK", "LAB"):
        return mode
    return "GRAY" if mode in _GREY or mode.startswith("I;") else "RGB"


@lru_cache(16)
def colours(profile: bytes | None, space: str) -> Colours:
    """How a picture of a colour space with this embedded profile becomes sRGB.

    A grey picture may have an RGB profile, whose greys it then uses; any other combination is an error in the file.
    """
    plain = Colours(ink=_transform(_LAB, "LAB")) if space == "LAB" else Colours()
    if not profile:
        return plain
    try:
        if len(profile) > _LARGEST:
            raise ValueError(f"it has {len(profile)} bytes")
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        meant = source.profile.xcolor_space.strip().upper()
        if meant != space and (meant, space) != ("RGB", "GRAY"):
            raise ValueError(f"it is for {meant}, the picture is {space}")
        if meant in ("CMYK", "LAB"):
            return Colours(ink=_transform(source, meant))
        return _light(source, profile) if meant == "RGB" else _grey(source)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - LittleCMS raises nearly anything on hostile profiles
        words = f"colour profile ignored: {error or type(error).__name__}"[:200]
        return Colours(plain.ink, trouble=words)


def _transform(source: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(source, _SRGB, mode, "RGB")


def _light(source: ImageCms.ImageCmsProfile, profile: bytes) -> Colours:
    by_littlecms = partial(_applied, _transform(source, "RGB"))
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    moved = by_littlecms(grid)
    if not _differ(moved, grid, _NO_MORE_THAN):
        return Colours()
    shaper = read_shaper(profile)
    ramps = np.arange(256, dtype=np.uint8)[:, None] * np.array(_RAMPS, np.uint8)[:, None]
    tried = shaper and all(not _differ(shaper(each), by_littlecms(each), _ROUNDING) for each in (grid, ramps))
    return Colours(light=shaper if tried else by_littlecms)


def _applied(transform: ImageCms.ImageCmsTransform, pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    ImageCms.applyTransform(image, transform, inPlace=True)
    return np.asarray(image)


def _grey(source: ImageCms.ImageCmsProfile) -> Colours:
    ramp = np.arange(256, dtype=np.uint8)[None]
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(ramp), _transform(source, "L")))[:, :, 1]
    return Colours(grey=moved[0]) if _differ(moved, ramp, _NO_MORE_THAN) else Colours()


def _differ(a: Pixels, b: Pixels, levels: int) -> bool:
    """By more than so many."""
    return int(np.abs(a.astype(np.int16) - b).max()) > levels
