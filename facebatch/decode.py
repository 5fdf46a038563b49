"""From bytes to an upright picture, or to the reason why not.

One JPEG decoder, fixed by measurement: libjpeg-turbo with its accurate DCT, through simplejpeg, which on one core takes
7.6 ms for a 2.7-megapixel camera file where Pillow takes 11.6 and OpenCV 9.0. What simplejpeg finds odd is decoded by
Pillow, whose pixels are the same (123 of 123 sound files of the test archive) and whose tolerance is what users know.
Pillow decodes everything else, some formats by packages of their own (`facebatch.plugins`).

One scale rule, a function of the header alone: pictures are kept at 1/2, 1/4 or 1/8 as long as the long side has
`decode.scale_above` pixels then. JPEGs are decoded so: at 1600 that makes a 9.6-megapixel file 1.2 to 1.5 times faster,
and a face of 16 pixels in the 640-pixel view of a detector still has 40 pixels to be embedded from. Other formats are
decoded whole and reduced before anything else is done with them, so that large ones do not stay in memory.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError

from facebatch.colour import colours, space
from facebatch.config import Decode
from facebatch.exif import Exif, read_exif, read_tags
from facebatch.formats import DECODED, sniff
from facebatch.geometry import Picture, Pixels, halvings, upright
from facebatch.jpeg import read_jpeg
from facebatch.jxl import read_codestream
from facebatch.plugins import EXTRAS, plugin
from facebatch.raw import preview, read_preview
from facebatch.reasons import Reason, Undecodable
from facebatch.rgb import rgb

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is an error of ours, not a warning
_PLUGINS = {"JPEG": ["JPEG", "MPO"], "BMP": ["BMP", "DIB"], "PNM": ["PPM"]}
_TURNED = (5, 6, 7, 8)
_CUT_SHORT = ("truncated", "unexpected end", "not enough image data", "premature", "ended before")
_ONE_PICTURE = ("PSD", "ICO", "ICNS")
"""Formats whose other pictures are layers or sizes of the one."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an image before its pixels are decoded. Width and height are those of the upright picture."""

    format: str
    width: int
    height: int
    mode: str
    exif: Exif
    upright_already: bool
    """Pillow turns TIFFs itself, libheif turns HEIFs by their container and no EXIF counts."""
    frames: int | None = 1
    """How many the file holds. None: the file is damaged behind the first, or only a whole decode would tell."""
    profile: bytes | None = None
    """The embedded ICC profile."""
    payload: bytes | None = None
    """What is decoded instead of the file: a raw file's preview."""
    coding: str = ""
    """The format of what is decoded."""

    def scale(self, above: int) -> int:
        """The divisor, 1 to 8, at which a picture of this size is kept."""
        if not above:
            return 1
        return next((s for s in (8, 4, 2) if max(self.width, self.height) / s >= above), 1)

    def decoded_pixels(self, limits: Decode) -> int:
        """How many pixels `decode` will allocate."""
        scale = self.scale(limits.scale_above) if self.coding == "JPEG" else 1
        return self.width * self.height // scale**2


def probe(data: bytes, limits: Decode) -> Header:
    """The header, within the limits. Raises Undecodable before any pixel is allocated."""
    if not data:
        raise Undecodable(Reason.EMPTY, "the file has no bytes")
    format = sniff(data)
    if format is None:
        raise Undecodable(Reason.NOT_AN_IMAGE, f"it begins with {data[:8]!r}")
    if format not in DECODED:
        raise Undecodable(Reason.UNSUPPORTED_FORMAT, f"{format} is not decoded; {', '.join(DECODED)} are")
    if format in EXTRAS:
        plugin(format)
    _set_switches(limits)
    with _content_errors(format):
        header = _probe_jpeg(data, limits) if format == "JPEG" else None
        header = header or (_probe_jxl(data) if format == "JXL" else _probe(data, format))
    width, height = header.width, header.height
    if max(width, height) > limits.max_side:
        raise Undecodable(Reason.SIDE_TOO_LONG, f"{width}x{height}, at most {limits.max_side} a side (decode.max_side)")
    if width * height > limits.max_pixels:
        raise Undecodable(
            Reason.TOO_MANY_PIXELS, f"{width}x{height}, at most {limits.max_pixels} pixels (decode.max_pixels)"
        )
    return header


def decode(data: bytes, header: Header, limits: Decode) -> Picture:
    """The picture, upright; `Picture.shown` makes sRGB of its pixels. Raises Undecodable."""
    scale = header.scale(limits.scale_above)
    _set_switches(limits)
    with _content_errors(header.format):
        picture = _jpeg(data, header, scale) if header.coding == "JPEG" else None
        return picture or _pillow(data, header, scale)


def decoded_pixels(data: bytes, limits: Decode) -> int:
    """How many pixels `decode` will allocate, from the header alone; 0 where it will refuse."""
    try:
        return probe(data, limits).decoded_pixels(limits)
    except Undecodable:
        return 0


def _set_switches(limits: Decode) -> None:
    """Pillow has one of each for the process, as there is one configuration."""
    Image.MAX_IMAGE_PIXELS = limits.max_pixels // 2  # it refuses from twice this on, also frames inside a file
    ImageFile.LOAD_TRUNCATED_IMAGES = limits.truncated == "accept"


def _probe(data: bytes, format: str) -> Header:
    found = preview(data) if format == "RAW" else None
    coding, payload = (found.format, found.data) if found else (format, None)
    image = _open(payload or data, coding)
    mode, (width, height) = image.mode, image.size
    exif = read_preview(image, found, data) if found else read_exif(image)
    if format == "HEIF":
        exif = replace(exif, orientation=1)
    upright_already = coding in ("TIFF", "HEIF")
    if exif.orientation in _TURNED and not upright_already:
        width, height = height, width
    frames = 1 if found else _frames(image)
    profile = image.info.get("icc_profile")
    return Header(format, width, height, mode, exif, upright_already, frames, profile, payload, coding)


def _probe_jpeg(data: bytes, limits: Decode) -> Header | None:
    """The fast path; None where anything is odd, so that Pillow decides."""
    found = read_jpeg(data, limits.max_pixels)
    if found is None:
        return None
    width, height = found.width, found.height
    if found.exif.orientation in _TURNED:
        width, height = height, width
    return Header(
        "JPEG", width, height, found.mode, found.exif, upright_already=False, profile=found.profile, coding="JPEG"
    )


def _probe_jxl(data: bytes) -> Header:
    stream = read_codestream(data)
    unread = Exif(trouble="EXIF ignored: it is compressed by Brotli") if stream.packed else Exif()
    exif = replace(read_tags(stream.exif) if stream.exif else unread, orientation=stream.orientation)
    width, height = stream.width, stream.height
    if exif.orientation in _TURNED:
        width, height = height, width
    return Header("JXL", width, height, "", exif, upright_already=False, frames=stream.frames, coding="JXL")


def _frames(image: Image.Image) -> int | None:
    """Counting walks through the whole file, and never stops the image: what is damaged may lie behind the first."""
    if image.format in _ONE_PICTURE:
        return 1
    try:
        frames = int(getattr(image, "n_frames", 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises nearly anything on hostile files
        return None
    return frames if 0 < frames < 1 << 31 else None


def _jpeg(data: bytes, header: Header, scale: int) -> Picture | None:
    """The fast path; None where simplejpeg finds anything odd, so that Pillow decides."""
    if header.mode not in ("RGB", "L"):
        return None
    turned = header.exif.orientation in _TURNED
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    try:
        pixels = cast(
            Pixels,
            simplejpeg.decode_jpeg(
                header.payload or data, "RGB", min_width=-(-width // scale), min_height=-(-height // scale)
            )
            if scale > 1
            else simplejpeg.decode_jpeg(header.payload or data, "RGB"),
        )
    except ValueError:
        return None
    return _picture(pixels, width, height, header.exif.orientation, header.profile, header.mode)


def _pillow(data: bytes, header: Header, scale: int) -> Picture:
    image = _open(header.payload or data, header.coding)
    width, height = image.size
    if header.coding == "JPEG" and scale > 1:
        image.draft(None, (max(1, width // scale), max(1, height // scale)))
    try:
        image.load()
    except OSError as error:
        _name_compression(image, error)
        raise
    if header.coding == "JPEG":
        scale = 1  # it was decoded so
    else:
        width, height = image.size  # an ICO's or HEIF's directory may err
    upright_already = header.upright_already or (header.coding == "JXL" and not vars(image).get("jpeg"))
    orientation = 1 if upright_already else header.exif.orientation
    profile = image.info.get("icc_profile")
    pixels = rgb(image, scale, colours(profile, space(image.mode)))
    return _picture(pixels, width, height, orientation, profile, image.mode)


def _picture(pixels: Pixels, width: int, height: int, orientation: int, profile: bytes | None, mode: str) -> Picture:
    """The picture of pixels that lie as in the file, of width x height at full size."""
    scheme = colours(profile, space(mode))
    # Pillow scales less than it is asked to where the short side has few pixels.
    scale = round(max(width, height) / max(pixels.shape))
    pixels = upright(pixels, orientation)
    if orientation in _TURNED:
        width, height = height, width
    return Picture(halvings(pixels), width, height, scale, scheme.trouble, scheme.srgb if scheme.moves else None)


def _open(data: bytes, format: str) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=_PLUGINS.get(format, [format]))


def _name_compression(image: Image.Image, error: OSError) -> None:
    """Libtiff says only a number where it was built without a compression."""
    compression = image.info.get("compression")
    if image.format == "TIFF" and compression and not _writes_tiff(compression):
        words = (
            f"TIFF: compression {compression!r} is not built into Pillow; save it with another, as in `tiffcp -c lzw`"
        )
        raise Undecodable(Reason.UNSUPPORTED_FORMAT, words) from error


@cache
def _writes_tiff(compression: str) -> bool:
    """Whether libtiff has this compression: it is tried."""
    try:
        Image.new("RGB", (16, 16)).save(io.BytesIO(), "TIFF", compression=compression)
    except (OSError, RuntimeError, KeyError, ValueError):
        return False
    return True


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
        raise Undecodable(_reason(error, text.lower()), text) from error


def _reason(error: Exception, text: str) -> Reason:
    if isinstance(error, EOFError) or any(words in text for words in _CUT_SHORT):
        return Reason.TRUNCATED
    return Reason.UNSUPPORTED_FORMAT if "unsupported" in text else Reason.CORRUPT
