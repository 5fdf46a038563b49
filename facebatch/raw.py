"""Cameras' raw files: their picture is the preview that the camera embedded, as every photo manager shows it.

Developing the sensor's samples takes seconds, and what comes out depends on LibRaw's version; the preview is the
camera's own JPEG, mostly of full size, and decoding it costs what any JPEG costs.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from facebatch.exif import Exif, read_exif, read_tags
from facebatch.plugins import plugin
from facebatch.reasons import Reason, Undecodable

SMALLEST = 640
"""Pixels of the long side below which a preview is a thumbnail: the width at which detectors look."""
_MARKER = 2
"""Bytes at the head of a JPEG that LibRaw writes itself."""
_TURNS = {3: 3, 5: 8, 6: 6}
"""LibRaw's flip (a half turn, a quarter to the left, one to the right) to EXIF's orientation."""


@dataclass(frozen=True, slots=True)
class Preview:
    """`data`: a JPEG or PNM file as the camera embedded it, `format` which; `turn`: the orientation by the container.

    `known`: what LibRaw knows of the shot, as an EXIF block, where the preview began without one.
    """

    data: bytes
    format: str
    turn: int
    known: bytes | None = None


def preview(data: bytes) -> Preview:
    """The largest preview of a raw file, which must lie in it as it is: where a file is cut off, LibRaw fills with what
    lay in memory, another picture's end or this one's. Raises Undecodable."""
    rawpy = plugin("RAW")
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            found, turn = raw.extract_thumb(), _TURNS.get(raw.sizes.flip, 1)
    except rawpy.LibRawFileUnsupportedError as error:
        advice = "LibRaw does not know this camera's file; convert it to DNG or JPEG"
        raise Undecodable(Reason.UNSUPPORTED_FORMAT, f"RAW: {advice}") from error
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as error:
        advice = "the file holds no preview that LibRaw can read, or is cut off; develop it to JPEG or TIFF"
        raise Undecodable(Reason.UNSUPPORTED_FORMAT, f"RAW: {advice}") from error
    except rawpy.LibRawUnsufficientMemoryError as error:
        raise MemoryError(str(error)) from error
    except rawpy.LibRawIOError as error:
        raise Undecodable(Reason.TRUNCATED, f"RAW: {_words(error)}; its preview lies beyond the file's end") from error
    except rawpy.LibRawError as error:
        raise Undecodable(Reason.CORRUPT, f"RAW: {_words(error)}") from error
    if found.format == rawpy.ThumbFormat.JPEG:
        jpeg, known = _as_embedded(found.data)
        if jpeg[_MARKER:] not in data:
            raise Undecodable(Reason.TRUNCATED, "RAW: the file ends before its preview does")
        return Preview(jpeg, "JPEG", turn, known)
    if found.data.tobytes() not in data:
        advice = "its preview is cut off, or a bitmap of another kind than 8 bit RGB; develop it to JPEG or TIFF"
        raise Undecodable(Reason.UNSUPPORTED_FORMAT, f"RAW: {advice}")
    return Preview(_pnm(found.data), "PNM", turn)


def read_preview(image: Image.Image, found: Preview, data: bytes) -> Exif:
    """The EXIF of an opened preview; what it does not say, as the container or LibRaw say it. Raises Undecodable."""
    if max(image.size) < SMALLEST:
        sizes = f"{image.width}x{image.height}, at least {SMALLEST} are needed"
        raise Undecodable(Reason.THUMBNAIL_ONLY, f"RAW: the largest preview has {sizes}; develop it to JPEG or TIFF")
    exif = read_exif(image, otherwise=found.turn)
    for more in (data if data[:4] in (b"II*\0", b"MM\0*") else None, found.known):
        if more and not (exif.captured_at and exif.camera):
            other = read_tags(more)
            time, camera = exif.captured_at or other.captured_at, exif.camera or other.camera
            exif = replace(exif, captured_at=time, camera=camera)
    return exif


def _as_embedded(jpeg: bytes) -> tuple[bytes, bytes | None]:
    """The JPEG without the EXIF block that LibRaw puts before one that does not begin with its own, and that block.

    Pillow would take it for the file's, whose orientation may differ and whose camera has its full name.
    """
    length = int.from_bytes(jpeg[4:6], "big")
    block = jpeg[12 : 4 + length]
    if jpeg[2:4] != b"\xff\xe1" or jpeg[6:12] != b"Exif\0\0" or b"dcraw v" not in block:
        return jpeg, None
    return jpeg[:2] + jpeg[4 + length :], block


def _pnm(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """A PPM or PGM file of a bitmap (height x width, with or without x 3)."""
    height, width = pixels.shape[:2]
    kind = b"P6" if pixels.ndim == 3 and pixels.shape[2] == 3 else b"P5"
    return kind + b"\n%d %d\n255\n" % (width, height) + np.ascontiguousarray(pixels).tobytes()


def _words(error: Exception) -> str:
    """LibRaw's errors are bytes."""
    text = error.args[0] if error.args else type(error).__name__
    return text.decode("latin-1") if isinstance(text, bytes) else str(text)
