"""Colours: profiles are applied where they matter, cost nothing where they are sRGB, and never stop a picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from facebatch.colour import Colours, colours, space
from facebatch.config import Decode
from facebatch.decode import decode, probe
from facebatch.fingerprint import phash
from facebatch.geometry import Picture, letterbox, warp
from facebatch.plugins import plugin
from tests.conftest import encode
from tests.containers import P3, grey_profile, ink_profile, rgb_profile

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _opened(data: bytes) -> Picture:
    limits = Decode()
    return decode(data, probe(data, limits), limits)


def _saved(image: Image.Image, format: str, profile: bytes, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, icc_profile=profile, **options)
    return file.getvalue()


def _p3_to_srgb(pixels: np.ndarray) -> np.ndarray:
    """By the book: gamma, Display P3's matrix to XYZ, sRGB's back, sRGB's curve."""
    to_srgb = np.array([[3.1342, -1.6172, -0.4907], [-0.9788, 1.9161, 0.0335], [0.0720, -0.2290, 1.4057]])
    linear = np.clip((pixels / 255) ** 2.2 @ np.array(P3) @ to_srgb.T, 0, 1)
    return _srgb_curve(linear)


def _seen(picture: Picture) -> np.ndarray:
    """The whole picture as a network would be shown it."""
    return picture.shown(picture.levels[0])


PATCHES = (
    np.array([[[200, 120, 90], [90, 160, 110], [128, 128, 128], [40, 60, 160]]], np.uint8).repeat(16, 0).repeat(16, 1)
)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        *[("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})],
        *[("JPEG", {"quality": 100}), ("AVIF", {"quality": 100}), ("HEIF", {"quality": 100})],
    ],
)
def test_a_wider_space_becomes_srgb_in_every_format(format: str, options: dict[str, object]) -> None:
    if format == "HEIF":
        plugin("HEIF")
    picture = _opened(_saved(Image.fromarray(PATCHES), format, rgb_profile(), **options))
    expected = _p3_to_srgb(PATCHES)
    assert np.abs(expected - PATCHES).max() > 15, "the test would see a profile that is not applied"
    assert np.abs(_seen(picture)[8, 8::16].astype(int) - expected[8, 8::16]).max() <= 4
    assert picture.remark is None


def test_srgb_is_recognised_under_any_name_and_leaves_the_pixels_alone(hopper: bytes) -> None:
    assert colours(SRGB, "RGB") == Colours()
    plain = Image.open(io.BytesIO(hopper))
    with_profile = _saved(plain, "JPEG", SRGB, quality=90)
    without = _saved(plain, "JPEG", b"", quality=90)
    assert np.array_equal(_seen(_opened(with_profile)), _seen(_opened(without)))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_no_profile_means_srgb(mode: str) -> None:
    assert colours(None, space(mode)) == Colours()


def test_grey_has_its_own_curve() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(20, 0)
    expected = _srgb_curve(np.arange(256) / 255)
    assert np.abs(expected - ramp[0])[8:].max() > 60
    for format in ("PNG", "TIFF"):
        picture = _opened(_saved(Image.fromarray(ramp), format, grey_profile(1.0)))
        assert np.abs(_seen(picture)[5, 8:, 1] - expected[8:]).max() <= 2, format
        assert (_seen(picture)[:, :, 0] == _seen(picture)[:, :, 2]).all()
    jpeg = _opened(_saved(Image.fromarray(ramp), "JPEG", grey_profile(1.0), quality=100))
    assert np.abs(_seen(jpeg)[5, 20:, 1] - expected[20:]).max() <= 6


def test_a_grey_picture_may_have_an_rgb_profile() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(20, 0)
    picture = _opened(_saved(Image.fromarray(ramp), "PNG", rgb_profile(gamma=1.0)))
    assert np.abs(_seen(picture)[5, :, 1] - _srgb_curve(np.arange(256) / 255)).max() <= 2
    assert colours(SRGB, "GRAY") == Colours()


def _srgb_curve(linear: np.ndarray) -> np.ndarray:
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * curve))


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_inks_are_those_of_their_profile(format: str) -> None:
    inks = Image.new("CMYK", (48, 16))
    inks.paste((255, 255, 255, 0), (16, 0, 32, 16))
    inks.paste((0, 0, 0, 255), (32, 0, 48, 16))
    seen = _seen(_opened(_saved(inks, format, ink_profile())))[8, 8::16].astype(int)
    paper, red, black = seen
    assert paper.min() > 245
    assert red[0] - red[1] > 100, "by Pillow's rule of thumb it would be black"
    assert black.max() < 10


def test_lab_needs_no_profile() -> None:
    file = io.BytesIO()
    image = Image.fromarray(PATCHES)
    lab = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    lab.save(file, "TIFF")
    assert np.abs(_seen(_opened(file.getvalue())).astype(int) - PATCHES).max() <= 3


@pytest.mark.parametrize(
    ("profile", "mode", "words"),
    [
        (b"no profile", "RGB", "cannot open profile"),
        (rgb_profile()[:200], "RGB", "cannot open profile"),
        (ink_profile(), "RGB", "it is for CMYK, the picture is RGB"),
        (grey_profile(2.2), "RGB", "it is for GRAY, the picture is RGB"),
        (rgb_profile(), "CMYK", "it is for RGB, the picture is CMYK"),
        (bytes(5_000_000), "RGB", "it has 5000000 bytes"),
    ],
)
def test_an_unsuitable_profile_is_ignored_with_a_remark(profile: bytes, mode: str, words: str) -> None:
    found = colours(profile, mode)
    assert found.trouble is not None
    assert found.trouble.startswith("colour profile ignored: ")
    assert words in found.trouble
    assert (found.ink, found.light, found.grey) == (None, None, None)


def test_the_remark_reaches_the_picture() -> None:
    picture = _opened(_saved(Image.fromarray(PATCHES), "PNG", b"damaged"))
    assert np.array_equal(_seen(picture), PATCHES)
    assert picture.remark is not None
    assert "colour profile ignored" in picture.remark


def test_a_transform_is_made_once_for_each_profile() -> None:
    assert colours(rgb_profile(), "RGB") is colours(rgb_profile(), "RGB")
    limit = colours.cache_info().maxsize
    assert limit is not None
    assert limit <= 32


def test_profiles_of_the_archive_are_srgb_or_far_from_it(archive: Path, manifest: list[dict[str, str]]) -> None:
    """The bar of two levels lies in a gap: profiles move colours by one level at most, or by very many."""
    found = {}
    for row in manifest:
        if row["pillow13"] == "ok":
            image = Image.open(archive / row["path"])
            if (profile := image.info.get("icc_profile")) and space(image.mode) == "RGB":
                found[profile] = colours(profile, "RGB")
    kinds = [bool(c.light) for c in found.values() if not c.trouble]
    assert (kinds.count(False), kinds.count(True)) == (8, 5)


def test_pixels_of_a_scaled_picture_are_converted_too() -> None:
    wide = np.full((200, 3300, 3), (200, 120, 90), np.uint8)
    for format, profile in (("PNG", rgb_profile()), ("JPEG", rgb_profile())):
        picture = _opened(_saved(Image.fromarray(wide), format, profile))
        assert picture.scale == 2
        assert np.abs(_seen(picture)[50, 800].astype(int) - _p3_to_srgb(wide[:1, :1])[0, 0]).max() <= 3


def test_transparency_is_laid_on_the_white_that_stays_white() -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    file = io.BytesIO(encode(clear))
    image = Image.open(file)
    assert (_seen(_opened(_saved(image, "PNG", rgb_profile()))) == 255).all()


def test_what_networks_are_shown_is_srgb_and_what_is_beside_the_picture_stays_black() -> None:
    tall = Image.fromarray(np.full((600, 400, 3), (200, 120, 90), np.uint8))
    picture = _opened(_saved(tall, "PNG", rgb_profile()))
    expected = _p3_to_srgb(np.array([[[200, 120, 90]]], np.uint8))[0, 0]
    view = letterbox(picture, [(320, 320)]).pixels
    assert np.abs(view[100, 50].astype(int) - expected).max() <= 3
    assert (view[:, 230:] == 0).all()
    chip = warp(picture, np.array([[0.5, 0, 60], [0, 0.5, 60]]), 112, 112)
    assert np.abs(chip[90, 90].astype(int) - expected).max() <= 3
    assert (chip[:50, :50] == 0).all()
    assert phash(picture) == phash(_opened(encode(_seen(picture))))
