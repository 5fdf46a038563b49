"""The header of a JPEG XL file, read here because the plugin decodes the whole picture to tell its size.

ISO/IEC 18181-1 (codestream: SizeHeader, then ImageMetadata) and 18181-2 (boxes). The orientation in the codestream is
the one that holds, and an EXIF block may say something else: measured, pillow-jxl-plugin gives pictures that libjxl has
turned upright, but for those that were made of a JPEG file without loss: of these it gives the JPEG as it lay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZES = ((1, 9), (1, 13), (1, 18), (1, 30))
"""Of a U32 that holds a side: offset and bits of its four forms."""
_ENOUGH = 64
"""Bytes in which every header ends, as far as it is read here."""


@dataclass(frozen=True, slots=True)
class Codestream:
    """Width and height as the picture lies, before `orientation` (as EXIF numbers it) turns it.

    `frames` is None where there is an animation: how long it is, only its decoder knows. `exif`: the block of the file;
    `packed`: there is one that Brotli compressed, as libjxl does when it packs JPEG files.
    """

    width: int
    height: int
    orientation: int
    frames: int | None
    exif: bytes | None
    packed: bool


def read_codestream(data: bytes) -> Codestream:
    """The header. Raises EOFError where it is cut off, ValueError where there is none."""
    exif, packed = None, False
    stream = b""
    if data[:2] == b"\xff\x0a":
        stream = data[:_ENOUGH]
    else:
        for kind, body in _boxes(data):
            if kind in (b"jxlc", b"jxlp") and len(stream) < _ENOUGH:
                stream += body[0 if kind == b"jxlc" else 4 :][:_ENOUGH]
            if kind == b"Exif" and exif is None:
                exif = _tiff(body)
            packed |= kind == b"brob" and body[:4] == b"Exif"
    if stream[:2] != b"\xff\x0a":
        raise ValueError("there is no codestream")
    bits = _Bits(stream[2:])
    width, height = _size(bits)
    orientation, frames = 1, 1
    if not bits.take(1) and bits.take(1):  # not all is default, and of the rare fields some are not
        orientation = 1 + bits.take(3)
        if bits.take(1):
            _size(bits)  # the size at which it is meant to be shown
        frames = 0 if bits.take(1) or bits.take(1) else 1  # a preview, whose fields hide the answer, or an animation
    return Codestream(width, height, orientation, frames or None, exif, packed)


def _tiff(body: bytes) -> bytes:
    """The TIFF structure of an Exif box; the 4 bytes that say where it begins are missing in some writers' files."""
    return body if body[:4] in (b"II*\0", b"MM\0*") else body[4 + int.from_bytes(body[:4], "big") :]


class _Bits:
    """Bits from the least significant one on."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` bits as a number."""
        if count > self._left:
            raise EOFError("the header is cut off")
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        self._left -= count
        return value


def _size(bits: _Bits) -> tuple[int, int]:
    """A SizeHeader: width, height."""
    small = bits.take(1)
    height = _side(bits, small)
    ratio = bits.take(3)
    if ratio == 0:
        return _side(bits, small), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _side(bits: _Bits, small: int) -> int:
    if small:
        return 8 * (1 + bits.take(5))
    offset, width = _SIZES[bits.take(2)]
    return offset + bits.take(width)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of the file, one behind the other: their kind and what is in them."""
    at = 0
    while at + 8 <= len(data):
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if size == 0:
            size = len(data) - at
        if size < head:
            raise ValueError(f"a box of {size} bytes")
        yield kind, data[at + head : at + size]
        at += size
