"""What a file is, by its first bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from facebatch.formats import _MAGIC, DECODED, sniff


@pytest.mark.parametrize(
    ("pillow", "ours"),
    [
        ("JPEG", "JPEG"),
        ("PNG", "PNG"),
        ("GIF", "GIF"),
        ("WEBP", "WEBP"),
        ("TIFF", "TIFF"),
        ("BMP", "BMP"),
        ("AVIF", "AVIF"),
        ("JPEG2000", "JPEG2000"),
        ("ICO", "ICO"),
        ("PPM", "PNM"),
        ("DDS", "DDS"),
        ("SGI", "SGI"),
        ("PCX", "PCX"),
    ],
)
def test_a_format_is_recognised_from_a_file_that_pillow_wrote(pillow: str, ours: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(file, pillow)
    assert sniff(file.getvalue()) == ours


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "RAW"),
        (b"II*\0\x10\0\0\0CR\x02\0", "RAW"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
        (b"8BPS\0\x01", "PSD"),
    ],
)
def test_formats_that_pillow_does_not_write_are_recognised_by_their_magic(head: bytes, format: str) -> None:
    assert sniff(head) == format


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"{}",
        b"<?xml version='1.0'?><svg/>",
        b"BMW is a car, no bitmap",
        b"P1 is urgent",
        b"%PDF-1.7",
        b"\x1f\x8b\x08",
        b"PK\3\4",
    ],
)
def test_anything_else_is_no_image(head: bytes) -> None:
    assert sniff(head) is None


def test_what_is_decoded_can_be_recognised() -> None:
    assert {name for name, _ in _MAGIC} - set(DECODED) == {"PAM", "DDS", "BLP", "FLI", "EXR", "HDR"}
    assert set(DECODED) <= {name for name, _ in _MAGIC}
