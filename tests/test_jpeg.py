"""Headers of JPEGs: read fast where they are sound, and in any case as Pillow reads them."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from facebatch import decode
from facebatch.config import Decode
from facebatch.decode import Header
from facebatch.formats import sniff
from facebatch.jpeg import Jpeg, read_jpeg

_TAGS = {0x010F: "Canon", 0x0110: "Canon EOS 5D", 0x0112: 6, 0x0132: "2020:01:02 03:04:05"}
_TAKEN = {0x9003: "2019:07:20 20:17:40"}
_LIMITS = Decode()
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _jpeg(
    tags: dict[int, Any] | None = None, details: dict[int, Any] | None = None, order: str = "<", **options: Any
) -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif.update(tags or {})
    exif.get_ifd(0x8769).update(details or {})
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    file = io.BytesIO()
    if tags or details:
        options["exif"] = exif
    Image.fromarray(pixels).convert(options.pop("mode", "RGB")).save(file, "JPEG", **options)
    return file.getvalue()


def _read(data: bytes) -> Jpeg | None:
    return read_jpeg(data, _LIMITS.max_pixels)


def _fast(data: bytes) -> Header | None:
    return decode._probe_jpeg(data, _LIMITS)


def _slow(data: bytes) -> Header | None:
    """What Pillow makes of it; None where it refuses it."""
    try:
        return decode._probe(data, "JPEG")
    except Exception:  # noqa: BLE001 - whatever it raises on damage
        return None


SOUND = {
    "plain": _jpeg(),
    "grey": _jpeg(mode="L"),
    "progressive": _jpeg(progressive=True),
    "a comment": _jpeg(comment=b"by hand"),
    "a camera's": _jpeg(_TAGS, _TAKEN),
    "a camera's, big end first": _jpeg(_TAGS, _TAKEN, order=">"),
    "turned": _jpeg({0x0112: 3}),
    "a resolution": _jpeg({0x0112: 3, 0x011A: 72.0, 0x011B: 72.0, 0x0128: 2}),
    "an orientation that there is not": _jpeg({0x0112: 77}),
    "a short maker": _jpeg({0x010F: "LG", 0x0110: "LG G2"}),
    "no time of the shot": _jpeg(_TAGS),
    "words that are not ASCII": _jpeg({0x0110: "Caméra\x07 X"}),
    "a profile": _jpeg(icc_profile=_SRGB),
    "a profile in pieces": _jpeg(_TAGS, icc_profile=_SRGB + bytes(100_000)),
    "more tables": _jpeg(qtables=[list(range(1, 65))] * 3),
    "XMP beside EXIF": _jpeg(_TAGS, xmp=b'<x tiff:Orientation="8"/>'),
}


@pytest.mark.parametrize("data", SOUND.values(), ids=SOUND)
def test_a_sound_header_is_read_as_pillow_reads_it(data: bytes) -> None:
    assert _read(data) is not None
    assert _fast(data) == _slow(data)


def test_what_a_camera_has_written_is_there() -> None:
    found = _read(_jpeg(_TAGS, _TAKEN, icc_profile=_SRGB))
    assert found is not None
    assert (found.width, found.height, found.mode, found.profile) == (40, 24, "RGB", _SRGB)
    assert (found.exif.orientation, str(found.exif.captured_at), found.exif.camera) == (
        6,
        "2019-07-20 20:17:40",
        "Canon EOS 5D",
    )


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _with(segment: bytes) -> bytes:
    """A JPEG with one more segment at its beginning."""
    return SOUND["plain"][:2] + segment + SOUND["plain"][2:]


def _exif(*entries: tuple[int, int, int, int], then: bytes = b"") -> bytes:
    """A JPEG whose EXIF has these entries: tag, type, length, value or where it lies."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return _with(_segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + then))


ODD = {
    "only XMP says how it lies": _jpeg(xmp=b'<x tiff:Orientation="6"/>'),
    "several pictures": _with(_segment(0xE2, b"MPF\0" + bytes(20))),
    "Photoshop's resources": _with(_segment(0xED, b"Photoshop 3.0\0" + bytes(20))),
    "CMYK": _jpeg(mode="CMYK"),
    "two blocks of EXIF": _jpeg(_TAGS)[:2] + _segment(0xE1, b"Exif\0\0MM\0*") + _jpeg(_TAGS)[2:],
    "EXIF that is none": _with(_segment(0xE1, b"Exif\0\0no TIFF at all")),
    "two orientations": SOUND["turned"].replace(b"\x12\x01\3\0\1\0\0\0", b"\x12\x01\3\0\2\0\0\0"),
    "a value that lies behind the end": SOUND["a camera's"].replace(b"\x0f\x01\2\0\6\0", b"\x00\x01\2\0\6\7"),
    "values that share their bytes": _exif(*((tag, 2, 60, 50) for tag in (0x010F, 0x0110, 0x0132)), then=bytes(60)),
    "a resolution that is none": _exif((0x011A, 1, 1, 72), (0x0128, 3, 1, 2)),
    "fill bytes": SOUND["plain"][:2] + b"\xff\xff" + SOUND["plain"][2:],
    "junk between markers": SOUND["plain"][:2] + b"junk" + SOUND["plain"][2:],
    "arithmetic coding": SOUND["plain"].replace(b"\xff\xc0", b"\xff\xc9"),
    "no width": SOUND["plain"].replace(struct.pack(">HH", 24, 40), struct.pack(">HH", 24, 0)),
    "more pixels than any limit": SOUND["plain"].replace(struct.pack(">HH", 24, 40), b"\xff\xff\xff\xff"),
    "two frames": _with(SOUND["plain"][(at := SOUND["plain"].index(b"\xff\xc0")) : at + 19]),
    "cut off in its header": SOUND["plain"][:100],
    "no scan": SOUND["plain"][: SOUND["plain"].index(b"\xff\xda")],
    "nothing": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_what_is_odd_is_left_to_pillow(data: bytes) -> None:
    assert _read(data) is None


def test_more_pixels_than_are_allowed_are_left_to_pillow() -> None:
    assert read_jpeg(SOUND["plain"], 40 * 24) is not None
    assert read_jpeg(SOUND["plain"], 40 * 24 - 1) is None


_DAMAGED = ["a camera's", "a camera's, big end first", "a resolution", "a profile", "XMP beside EXIF"]


@pytest.mark.parametrize("name", _DAMAGED)
def test_damage_is_never_read_otherwise_than_by_pillow(name: str) -> None:
    """Bytes of the header are changed, one to three at a time; the pixels behind it are another's business."""
    sound, rng, read = SOUND[name], random.Random(0), 0
    end = sound.index(b"\xff\xda") + 14
    for _ in range(3000):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(3, end)] = rng.choice([0, 1, 2, 4, 8, 0xFF, rng.randrange(256)])
        if _read(bytes(data)) is not None:
            read += 1
            assert _fast(bytes(data)) == _slow(bytes(data)), bytes(data).hex()
    assert read > 300, "else nothing was compared"


def test_the_headers_of_the_archive_are_read_as_pillow_reads_them(
    archive: Path, manifest: list[dict[str, str]]
) -> None:
    fast = others = 0
    for row in manifest:
        data = (archive / row["path"]).read_bytes()
        if sniff(data) == "JPEG" and _read(data) is None:
            others += 1
        elif sniff(data) == "JPEG":
            fast += 1
            assert _fast(data) == _slow(data), row["path"]
    assert fast > 100
    assert others > 100
