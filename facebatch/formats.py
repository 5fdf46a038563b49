"""What a file is, by its first bytes. Names lie: `.nef` files hold JPEGs and `.jpg` files hold WebPs."""

from __future__ import annotations

import re

DECODED = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")
"""Formats that `facebatch.decode` reads. Every other one that `sniff` knows is failed/UNSUPPORTED_FORMAT."""

_MAGIC: tuple[tuple[str, bytes], ...] = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", rb"GIF8[79]a"),
    ("WEBP", rb"RIFF....WEBP"),
    ("BMP", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    ("RAW", rb"II\*\0.{4}CR\x02\0|IIRO|IIRS|MMOR|IIU\0|FUJIFILMCCD-RAW|\0MRM|FOVb"),
    ("TIFF", rb"II\*\0|MM\0\*|II\+\0\x08\0|MM\0\+\0\x08"),
    ("AVIF", rb"....ftyp(avif|avis)|....ftypmif1.{4}(.{4})*?avif"),
    ("HEIF", rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)"),
    ("RAW", rb"....ftypcrx "),
    ("JXL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    ("JPEG2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ("ICO", rb"\0\0[\x01\x02]\0[\x01-\xff]\0.{3}\0"),
    ("PNM", rb"P[1-6][ \t\r\n]|P7\n|P[Ff]\n"),
    ("PSD", rb"8BPS\0[\x01\x02]"),
    ("DDS", rb"DDS "),
    ("SGI", rb"\x01\xda[\0\x01][\x01\x02]\0[\x01-\x03]"),
    ("PCX", rb"\n[\0\x02\x03\x04\x05]\x01[\x01\x02\x04\x08]"),
    ("BLP", rb"BLP[12]"),
    ("FLI", rb".{4}[\x11\x12]\xaf.{6}[\x08\0]\0"),
    ("EXR", rb"v/1\x01"),
    ("HDR", rb"#\?RADIANCE"),
    ("ICNS", rb"icns"),
)
_PATTERNS = tuple((name, re.compile(magic, re.DOTALL)) for name, magic in _MAGIC)


def sniff(head: bytes) -> str | None:
    """The format that the first 64 bytes announce, or None when they are those of no known image."""
    for name, pattern in _PATTERNS:
        if pattern.match(head[:64]):
            return name
    return None
