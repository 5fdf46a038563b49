"""Profiles of three curves and a matrix: as LittleCMS applies them, to a level; anything else is left to it."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from facebatch import colour
from facebatch.colour import colours
from facebatch.geometry import Pixels
from facebatch.shaper import Shaper, read_shaper
from tests.containers import formula_curve, grey_profile, ink_profile, rgb_profile, table_curve

APPLE = formula_curve(3, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
"""What phones write into Display P3: sRGB's own curve."""
EVERY_KIND = {
    "an exponent": rgb_profile(),
    "sRGB's curve": rgb_profile(curve=APPLE),
    "a formula that is an exponent": rgb_profile(curve=formula_curve(0, (1.8,))),
    "a table": rgb_profile(curve=table_curve([round(65535 * (k / 1023) ** 2.2) for k in range(1024)])),
    "a short table": rgb_profile(curve=table_curve([0, 9000, 65535])),
    "the identity": rgb_profile(curve=table_curve([])),
}


def _by_littlecms(profile: bytes, pixels: Pixels) -> Pixels:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    return np.asarray(ImageCms.applyTransform(Image.fromarray(pixels), transform))


def _colours() -> Pixels:
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 32, (100, 300, 3), np.uint8)
    return np.concatenate([rng.integers(0, 256, (200, 300, 3), np.uint8), dark])


def _apart(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_it_does_as_littlecms_to_a_level(kind: str) -> None:
    pixels = _colours()
    shaper = read_shaper(EVERY_KIND[kind])
    assert shaper is not None
    expected = _by_littlecms(EVERY_KIND[kind], pixels)
    assert _apart(pixels, expected) > 20, "the test would see a profile that is not applied"
    assert _apart(shaper(pixels), expected) <= 1
    assert (shaper(pixels) != expected).mean() < 0.05


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_it_is_what_pictures_are_shown_with(kind: str) -> None:
    assert isinstance(colours(EVERY_KIND[kind], "RGB").light, Shaper)


def test_it_does_as_littlecms_with_the_profiles_of_the_archive(archive: Path, manifest: list[dict[str, str]]) -> None:
    pixels = _colours()
    found = set()
    for row in manifest:
        if row["pillow13"] == "ok" and (profile := Image.open(archive / row["path"]).info.get("icc_profile")):
            seen = colours(profile, "RGB")
            if seen.light:
                assert isinstance(seen.light, Shaper), row["path"]
                assert _apart(seen.srgb(pixels), _by_littlecms(profile, pixels)) <= 1, row["path"]
                found.add(profile)
    assert len(found) == 5


def test_it_takes_parts_of_pictures() -> None:
    pixels = _colours()
    shaper = read_shaper(rgb_profile())
    assert shaper is not None
    assert np.array_equal(shaper(pixels[10:90:2, ::3]), shaper(pixels)[10:90:2, ::3])
    assert shaper(pixels).dtype == np.uint8


@pytest.mark.parametrize(
    "profile",
    [
        *[b"", b"no profile", bytes(200), rgb_profile()[:300], grey_profile(2.2), ink_profile()],
        *[rgb_profile(curve=formula_curve(k, (2.2, 1, 0, 0.1, 0.1, 0, 0)[:n])) for k, n in ((1, 3), (2, 4), (4, 7))],
        rgb_profile(curve=struct.pack(">4sII", b"curv", 0, 1 << 31)),
        rgb_profile().replace(b"wtpt", b"A2B0"),
    ],
)
def test_what_it_is_not_made_for_it_does_not_read(profile: bytes) -> None:
    assert read_shaper(profile) is None


def test_kinds_of_curves_that_it_does_not_read_are_applied_by_littlecms() -> None:
    profile = rgb_profile(curve=formula_curve(1, (2.2, 1.0, 0.0)))
    assert np.array_equal(colours(profile, "RGB").srgb(_colours()), _by_littlecms(profile, _colours()))


def test_where_the_two_differ_littlecms_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = rgb_profile(gamma=1.9)
    monkeypatch.setattr(colour, "read_shaper", lambda _: read_shaper(rgb_profile(gamma=1.85)))
    assert np.array_equal(colours(profile, "RGB").srgb(_colours()), _by_littlecms(profile, _colours()))


def test_damaged_profiles_are_applied_as_littlecms_does_or_left_to_it() -> None:
    """Few colours may differ: where a curve has a spike between the levels that were compared."""
    random.seed(0)
    pixels, sound = _colours(), list(EVERY_KIND.values())
    read = 0
    for number in range(300):
        profile = bytearray(sound[number % len(sound)])
        for _ in range(random.randrange(1, 4)):
            profile[random.randrange(128, len(profile))] = random.randrange(256)
        seen = colours(bytes(profile), "RGB")
        if isinstance(seen.light, Shaper):
            expected = _by_littlecms(bytes(profile), pixels)
            assert (np.abs(seen.srgb(pixels).astype(int) - expected) > 1).mean() < 1e-3, number
            read += 1
    assert read > 50
