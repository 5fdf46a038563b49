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
_TURNS = {3: 3, 5: 8, 6: 6}
"""LibRaw's flip (a half turn, a quarter to the left, one to the right) to EXIF's orientation."""


@dataclass(frozen=True, slots=True)
class Preview:
    """`data`: a JPEG or PNM file, `format` which; `turn`: the orientation where the preview itself says none."""

    data: bytes
    format: str
    turn: int


def preview(data: bytes) -> Preview:
    """The largest preview of a raw file. Raises Undecodable."""
    rawpy = plugin("RAW")
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            found, turn = raw.extract_thumb(), _TURNS.get(raw.sizes.flip, 1)
    except rawpy.LibRawFileUnsupportedError as error:
        advice = "LibRaw does not know this camera's file; convert it to DNG or JPEG"
        raise Undecodable(Reason.UNSUPPORTED_FORMAT, f"RAW: {advice}") from error
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as error:
        advice = "the file holds no preview that LibRaw can read; develop it to JPEG or TIFF"
        raise Undecodable(Reason.UNSUPPORTED_FORMAT, f"RAW: {advice}") from error
    except rawpy.LibRawUnsufficientMemoryError as error:
        raise MemoryError(str(error)) from error
    except rawpy.LibRawIOError as error:
        raise Undecodable(Reason.TRUNCATED, f"RAW: {_words(error)}; its preview lies beyond the file's end") from error
    except rawpy.LibRawError as error:
        raise Undecodable(Reason.CORRUPT, f"RAW: {_words(error)}") from error
    if found.format == rawpy.ThumbFormat.JPEG:
        return Preview(found.data, "JPEG", turn)
    return Preview(_pnm(found.data), "PNM", turn)


def read_preview(image: Image.Image, found: Preview, data: bytes) -> Exif:
    """The EXIF of an opened preview; what it does not say, as far as the container says it. Raises Undecodable."""
    if max(image.size) < SMALLEST:
        sizes = f"{image.width}x{image.height}, at least {SMALLEST} are needed"
        raise Undecodable(Reason.THUMBNAIL_ONLY, f"RAW: the largest preview has {sizes}; develop it to JPEG or TIFF")
    own = read_exif(image, otherwise=found.turn)
    if (own.captured_at and own.camera) or data[:4] not in (b"II*\0", b"MM\0*"):
        return own
    container = read_tags(data)
    return replace(own, captured_at=own.captured_at or container.captured_at, camera=own.camera or container.camera)


def _pnm(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """A PPM or PGM file of a bitmap (height x width, with or without x 3)."""
    height, width = pixels.shape[:2]
    kind = b"P6" if pixels.ndim == 3 and pixels.shape[2] == 3 else b"P5"
    return kind + b"\n%d %d\n255\n" % (width, height) + np.ascontiguousarray(pixels).tobytes()


def _words(error: Exception) -> str:
    """LibRaw's errors are bytes."""
    text = error.args[0] if error.args else type(error).__name__
    return text.decode("latin-1") if isinstance(text, bytes) else str(text)
