"""What a file is, by its bytes. Names lie: `.nef` files hold JPEGs and `.jpg` files hold WebPs."""

from __future__ import annotations

import re
import struct

DECODED = (
    *("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "HEIF", "JXL", "RAW"),
    *("JPEG2000", "PSD", "ICO", "ICNS", "PNM", "SGI", "PCX"),
)
"""Formats that `facebatch.decode` reads. Every other one that `sniff` knows is failed/UNSUPPORTED_FORMAT: textures of
games (DDS, BLP), cartoons (FLI), and light without an upper end (EXR, HDR)."""

_MAGIC: tuple[tuple[str, bytes], ...] = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", rb"GIF8[79]a"),
    ("WEBP", rb"RIFF....WEBP"),
    ("BMP", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    ("RAW", rb"II\*\0.{4}CR\x02\0|IIRO|IIRS|MMOR|IIU\0|FUJIFILMCCD-RAW|\0MRM|FOVb"),
    ("TIFF", rb"II\*\0|MM\0\*|II\+\0\x08\0|MM\0\+\0\x08"),
    ("AVIF", rb"....ftyp(avif|avis)|....ftypmif1.{4}(.{4})*?avif"),
    ("HEIF", rb"....ftyp(heic|heix|heim|heis|hevc|hevx|hevm|hevs|mif1|msf1)"),
    ("RAW", rb"....ftypcrx "),
    ("JXL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    ("JPEG2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ("ICO", rb"\0\0[\x01\x02]\0[\x01-\xff]\0.{3}\0"),
    ("PNM", rb"P[1-6][ \t\r\n]+[#0-9]|Pf\n"),
    ("PAM", rb"P7\n|PF\n"),
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

_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 259, 262, 330, 50706
_MOSAIC = (32803, 34892)
"""TIFF/EP's photometric interpretations of a sensor's own samples: colour filter array, linear raw."""
_CAMERA_COMPRESSIONS = (32767, 34713, 65535)
"""Sony's, Nikon's, Pentax's."""


def sniff(data: bytes) -> str | None:
    """The format that a file's bytes announce, or None when they are those of no known image.

    The first 64 bytes tell, but for cameras' raw files in the clothes of a TIFF, whose first directory tells.
    """
    head = data[:64]
    name = next((name for name, pattern in _PATTERNS if pattern.match(head)), None)
    return "RAW" if name == "TIFF" and _from_a_sensor(data) else name


def _from_a_sensor(data: bytes) -> bool:
    """Whether the first directory of a TIFF is that of a DNG, NEF, ARW or PEF.

    That is: it says DNG; or its picture is a sensor's mosaic or packed in a camera's own way (PEF); or it is a reduced
    one (NewSubfileType 1) whose originals lie in SubIFDs, where a plain TIFF has the original first (NEF, ARW).
    """
    tags = _first_directory(data)
    return (
        _DNG_VERSION in tags
        or tags.get(_PHOTOMETRIC) in _MOSAIC
        or tags.get(_COMPRESSION) in _CAMERA_COMPRESSIONS
        or (tags.get(_SUBFILE) == 1 and _SUB_IFDS in tags)
    )


def _first_directory(data: bytes) -> dict[int, int]:
    """Tag to value of the first directory of a TIFF: right where the value is one SHORT or LONG, arbitrary elsewhere.

    What is cut off or not classic TIFF gives what can be read of it, at worst nothing.
    """
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8 or data[2:4] not in (b"*\0", b"\0*"):
        return {}
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at + 2 > len(data):
        return {}
    (count,) = struct.unpack_from(order + "H", data, at)
    tags = {}
    for entry in range(at + 2, min(at + 2 + 12 * count, len(data) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    return tags
