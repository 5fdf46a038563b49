"""8-bit RGB of whatever Pillow decoded, at a fraction of its size.

It is made in strips of about a megapixel, so that beside Pillow's own picture there is never another of full size. Peak
memory of a process (72 MB before) that decodes 100 megapixels, and what it was when the whole was converted: PNG in RGB
485 MB (1408), with transparency 492 (2173), in a palette 186 (1115), 16 bit 296 (741); TIFF of floats 879 (3500), of
which the file is 400. Pillow's picture has 4 bytes a pixel, palettes 1, 16 bit 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from facebatch.colour import Colours
from facebatch.geometry import Pixels

_STRIP = 1 << 20
"""Pixels converted at a time."""
_TRANSPARENT = ("LA", "RGBA", "PA", "La", "RGBa")


def rgb(image: Image.Image, scale: int, colours: Colours) -> Pixels:
    """A loaded image at 1/scale (means of scale x scale pixels; rounded up, as JPEG decoders do), as RGB.

    Deep and float samples become 8 bit, transparency is laid on white, `colours` takes CMYK and LAB to RGB.
    """
    width, height = image.size
    grey = _range(image) if image.mode.startswith("I") or image.mode == "F" else None
    pixels = np.empty((-(-height // scale), -(-width // scale), 3), np.uint8)
    for top, strip in _strips(image, scale):
        if grey:
            strip = Image.fromarray(_eight_bit(np.asarray(strip), *grey)).convert("RGB")
        elif strip.mode in _TRANSPARENT or "transparency" in strip.info:
            strip = _on_white(strip)
        elif strip.mode not in ("CMYK", "LAB"):
            strip = strip.convert("RGB")
        small = strip.reduce(scale) if scale > 1 else strip
        part = np.asarray(small if small.mode == "RGB" else colours.rgb(small))
        pixels[top // scale : top // scale + len(part)] = part
    return pixels


def _strips(image: Image.Image, scale: int) -> Iterator[tuple[int, Image.Image]]:
    """The image from top to bottom, and where each strip begins: at multiples of `scale`."""
    rows = max(1, _STRIP // image.width // scale) * scale
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    ground.alpha_composite(layer)
    return ground.convert("RGB")


def _range(image: Image.Image) -> tuple[float, float]:
    """The samples that become 0 and 255: by their type's range where it tells, else the least and the greatest.

    Floats are taken as 0..1 where all are; whole numbers as 8 bit where all fit, as 16 bit where all fit.
    """
    if image.mode.startswith("I;16"):
        return 0.0, 65535.0
    extremes = [(float(v.min()), float(v.max())) for v in (_finite(np.asarray(s)) for _, s in _strips(image, 1))]
    low, high = min(least for least, _ in extremes), max(greatest for _, greatest in extremes)
    if low >= 0 and high <= 1 and image.mode == "F":
        return 0.0, 1.0
    if low >= 0 and high <= 255:
        return 0.0, 255.0
    return (0.0, 65535.0) if low >= 0 and high <= 65535 else (low, high)


def _eight_bit(samples: np.ndarray, low: float, high: float) -> Pixels:
    if samples.dtype.itemsize == 2:
        return (samples >> 8).astype(np.uint8)
    return np.rint((_finite(samples) - low) / max(high - low, 1e-12) * 255).astype(np.uint8)


def _finite(samples: np.ndarray) -> np.ndarray:
    return np.nan_to_num(samples.astype(np.float64), posinf=0, neginf=0)
