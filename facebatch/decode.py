"""From bytes to an upright picture, or to the reason why not.

One JPEG decoder, fixed by measurement: libjpeg-turbo with its accurate DCT, through simplejpeg, which on one core takes
7.6 ms for a 2.7-megapixel camera file where Pillow takes 11.6 and OpenCV 9.0. What simplejpeg finds odd is decided by
Pillow, whose pixels are the same (123 of 123 sound files of the test archive) and whose tolerance is what users know.

One scale rule, a function of the header alone: JPEGs are decoded at 1/2, 1/4 or 1/8 as long as the long side keeps
`decode.scale_above` pixels. At 1600 that makes a 9.6-megapixel file 1.2 to 1.5 times faster, and a face of 16 pixels in
the 640-pixel view of a detector still has 40 pixels to be embedded from.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError

from facebatch.config import Decode
from facebatch.exif import Exif, read_exif
from facebatch.formats import DECODED, sniff
from facebatch.geometry import Picture, Pixels, halvings, upright
from facebatch.reasons import Reason

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is an error of ours, not a warning
_PLUGINS = {"JPEG": ["JPEG", "MPO"], "BMP": ["BMP", "DIB"]}
_TURNED = (5, 6, 7, 8)
_CUT_SHORT = ("truncated", "unexpected end", "not enough image data", "premature", "ended before")


class Undecodable(Exception):
    """The image cannot be used. `reason` is one of the content reasons, `detail` a sentence."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an image before its pixels are decoded. Width and height are those of the upright picture."""

    format: str
    width: int
    height: int
    mode: str
    exif: Exif
    upright_already: bool
    """Pillow turns TIFFs itself."""

    def scale(self, above: int) -> int:
        """The divisor, 1 to 8, at which a JPEG of this size is decoded."""
        if not above or self.format != "JPEG":
            return 1
        return next((s for s in (8, 4, 2) if max(self.width, self.height) / s >= above), 1)


def probe(data: bytes, limits: Decode) -> Header:
    """The header, within the limits. Raises Undecodable before any pixel is allocated."""
    if not data:
        raise Undecodable(Reason.EMPTY, "the file has no bytes")
    format = sniff(data[:64])
    if format is None:
        raise Undecodable(Reason.NOT_AN_IMAGE, f"it begins with {data[:8]!r}")
    if format not in DECODED:
        raise Undecodable(Reason.UNSUPPORTED_FORMAT, f"{format} is not decoded; {', '.join(DECODED)} are")
    Image.MAX_IMAGE_PIXELS = limits.max_pixels // 2  # Pillow refuses from twice this on, also frames inside a file
    with _content_errors(format):
        image = Image.open(io.BytesIO(data), formats=_PLUGINS.get(format, [format]))
        size, mode, exif = image.size, image.mode, read_exif(image)
    width, height = size[::-1] if exif.orientation in _TURNED and format != "TIFF" else size
    header = Header(format, width, height, mode, exif, upright_already=format == "TIFF")
    if max(size) > limits.max_side:
        raise Undecodable(Reason.SIDE_TOO_LONG, f"{width}x{height}, at most {limits.max_side} a side (decode.max_side)")
    if width * height > limits.max_pixels:
        raise Undecodable(
            Reason.TOO_MANY_PIXELS, f"{width}x{height}, at most {limits.max_pixels} pixels (decode.max_pixels)"
        )
    return header


def decode(data: bytes, header: Header, limits: Decode) -> Picture:
    """The picture, upright, RGB. Raises Undecodable."""
    scale = header.scale(limits.scale_above)
    with _content_errors(header.format):
        pixels = _jpeg(data, header, scale) if header.format == "JPEG" else None
        if pixels is None:
            pixels = _pillow(data, header, scale, limits.truncated == "accept")
    if not header.upright_already:
        pixels = upright(pixels, header.exif.orientation)
    # Pillow scales less than it is asked to where the short side has few pixels.
    scale = round(max(header.width, header.height) / max(pixels.shape))
    return Picture(halvings(pixels), header.width, header.height, scale)


def decoded_pixels(data: bytes, limits: Decode) -> int:
    """How many pixels `decode` will allocate, from the header alone; 0 where it will refuse."""
    try:
        header = probe(data, limits)
    except Undecodable:
        return 0
    return header.width * header.height // header.scale(limits.scale_above) ** 2


def _jpeg(data: bytes, header: Header, scale: int) -> Pixels | None:
    """The fast path; None where simplejpeg finds anything odd, so that Pillow decides."""
    if header.mode not in ("RGB", "L"):
        return None
    turned = header.exif.orientation in _TURNED
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    try:
        return cast(
            Pixels,
            simplejpeg.decode_jpeg(data, "RGB", min_width=-(-width // scale), min_height=-(-height // scale))
            if scale > 1
            else simplejpeg.decode_jpeg(data, "RGB"),
        )
    except ValueError:
        return None


def _pillow(data: bytes, header: Header, scale: int, accept_truncated: bool) -> Pixels:
    image = Image.open(io.BytesIO(data), formats=_PLUGINS.get(header.format, [header.format]))
    if scale > 1:
        image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
    ImageFile.LOAD_TRUNCATED_IMAGES = accept_truncated  # one switch for the process, as is the configuration
    image.load()
    return _rgb(image)


def _rgb(image: Image.Image) -> Pixels:
    """8-bit RGB of whatever Pillow decoded: deep and float samples are scaled, transparency is laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_eight_bit(np.asarray(image))[:, :, None], 3, axis=2)
    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        ground.alpha_composite(layer)
        image = ground
    return np.ascontiguousarray(image.convert("RGB"))


def _eight_bit(samples: np.ndarray) -> Pixels:
    """Grey samples of any depth as uint8: by their type's range where it tells, else stretched from least to greatest.

    Floats are taken as 0..1 where all are; whole numbers as 8 bit where all fit, as 16 bit where all fit.
    """
    if samples.dtype == np.uint16:
        return (samples >> 8).astype(np.uint8)
    values = np.nan_to_num(samples.astype(np.float64), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1 and samples.dtype.kind == "f":
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    return np.rint((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)


@contextmanager
def _content_errors(format: str) -> Iterator[None]:
    """Turns whatever a decoder raises on hostile bytes into Undecodable. MemoryError is not the file's fault."""
    try:
        yield
    except (Undecodable, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise Undecodable(Reason.CORRUPT, f"it begins like a {format}, but its header cannot be read") from error
    except Image.DecompressionBombError as error:
        raise Undecodable(Reason.TOO_MANY_PIXELS, f"{format}: {error}") from error
    except Exception as error:
        text = f"{format}: {error or type(error).__name__}"[:200]
        short = isinstance(error, EOFError) or any(words in text.lower() for words in _CUT_SHORT)
        raise Undecodable(Reason.TRUNCATED if short else Reason.CORRUPT, text) from error
