"""What the camera wrote beside the picture: which side is up, when, and with what."""

from __future__ import annotations

import datetime as dt
import io
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_USUAL = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Exif:
    """The EXIF values that the index keeps."""

    orientation: int = 1
    """1 to 8 as the standard numbers them; 1 also where the tag is absent or holds anything else."""
    captured_at: dt.datetime | None = None
    """The camera's own clock, without a time zone, because that is what cameras write."""
    camera: str | None = None
    trouble: str | None = None
    """Why the rest could not be read. The picture is indexed all the same."""


def read_exif(image: Image.Image, otherwise: int = 1) -> Exif:
    """The EXIF of an opened image; damaged EXIF never stops the image. `otherwise`: the orientation where none is said.

    Pillow looks for it in XMP too. Not so in an AVIF, whose container says it (`irot`, `imir`, which Pillow gives as
    EXIF) and whose XMP only remembers how the picture lay before it was turned: Pillow's xmp_tags_orientation.avif
    stands upright and has a 3 there.
    """
    if image.format == "AVIF":
        image.info.pop("xmp", None)
    return _read(partial(_of_png, image) if image.format == "PNG" else image.getexif, otherwise)


def _of_png(image: Image.Image) -> Image.Exif:
    """What Pillow's own way gives, without decoding the picture, which that does to reach what lies behind it."""
    file = cast(BinaryIO, image.fp)  # type: ignore[attr-defined]
    here = file.tell()
    file.seek(8)
    while "exif" not in image.info and len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            image.info["exif"] = b"Exif\0\0" + file.read(size)
        file.seek(size + 4 if kind != b"eXIf" else 4, io.SEEK_CUR)
    file.seek(here)
    return Image.Image.getexif(image)


def read_tags(tiff: bytes, otherwise: int = 1) -> Exif:
    """The EXIF that lies in a TIFF structure: an EXIF block, or a camera's raw file."""

    def load() -> Image.Exif:
        tags = Image.Exif()
        tags.load_from_fp(io.BytesIO(tiff))
        return tags

    return _read(load, otherwise)


def noted(orientation: Any, taken: Any, changed: Any, make: Any, model: Any) -> Exif:
    """What the index keeps of these values, which may be anything. taken: DateTimeOriginal; changed: DateTime."""
    return Exif(_orientation(orientation), _time(taken or changed), _camera(make, model))


def _read(load: Callable[[], Image.Exif], otherwise: int) -> Exif:
    try:
        tags = load()
        details = _details(tags)
        return noted(
            orientation=tags.get(ExifTags.Base.Orientation, otherwise),
            taken=details.get(ExifTags.Base.DateTimeOriginal),
            changed=tags.get(ExifTags.Base.DateTime),
            make=tags.get(ExifTags.Base.Make),
            model=tags.get(ExifTags.Base.Model),
        )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow raises nearly anything on hostile EXIF
        return Exif(orientation=otherwise, trouble=f"EXIF ignored: {type(error).__name__}: {error}"[:200])


def _details(tags: Image.Exif) -> Mapping[int, Any]:
    """The camera's part. Its values are decoded as they are asked for: Pillow's own way decodes all, for one."""
    offset = tags.get(ExifTags.IFD.Exif)
    if not isinstance(offset, int):
        return {}
    tags.fp.seek(offset)
    found = ImageFileDirectory_v2(tags.head, group=ExifTags.IFD.Exif)
    found.load(tags.fp)
    return found


def _orientation(value: Any) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _time(value: Any) -> dt.datetime | None:
    text = _text(value)[:19]
    try:
        if usual := _USUAL.fullmatch(text):  # `strptime` takes five times as long
            year, month, day, hour, minute, second = map(int, usual.groups())
            return dt.datetime(year, month, day, hour, minute, second)
        return dt.datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None  # unset clocks write "0000:00:00 00:00:00" or blanks


def _camera(make: Any, model: Any) -> str | None:
    make, model = _text(make), _text(model)
    name = model if model.lower().startswith(make.lower()) else f"{make} {model}"
    return name.strip()[:100] or None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return ""
    if value.isprintable() and value.isascii():
        return value.strip()
    text = value.encode("utf-8", "replace").decode().split("\0")[0]
    return "".join(c for c in text if c.isprintable()).strip()
