"""An archive to measure on: real photographs, under as many names as it takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import simplejpeg

from facebatch.config import Decode
from facebatch.decode import decode, probe
from facebatch.errors import UsageError
from facebatch.reasons import Undecodable

_FOLDER = 1000
"""Names in one folder."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph that every contestant can read: a sound JPEG that stands upright, so that all find the same."""

    path: Path
    bytes: int
    pixels: int


@dataclass(frozen=True, slots=True)
class Archive:
    """Photographs under `images` names below `folder`."""

    folder: Path
    images: int
    photos: tuple[Photo, ...]

    @property
    def bytes(self) -> int:
        """Of all names together."""
        return sum(photo.bytes * self.copies(k) for k, photo in enumerate(self.photos))

    @property
    def megapixels(self) -> float:
        """Of an image on average."""
        return sum(photo.pixels * self.copies(k) for k, photo in enumerate(self.photos)) / self.images / 1e6

    def copies(self, number: int) -> int:
        """Under how many names a photograph stands."""
        return self.images // len(self.photos) + (number < self.images % len(self.photos))

    def files(self) -> list[Path]:
        """All names, in the order in which they are listed."""
        return [self.folder / _name(k) for k in range(self.images)]


def photos(folder: Path, least_pixels: int = 0, most_pixels: int = 0, least_bytes: int = 0) -> list[Photo]:
    """The photographs below a folder, of at least and at most so many pixels (0: any), in files of so many bytes.

    Raises UsageError where there is none.
    """
    limits = Decode()
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if len(data) < least_bytes:
            continue
        try:
            header = probe(data, limits)
            if header.coding != "JPEG" or header.payload or header.exif.orientation != 1 or header.mode != "RGB":
                continue
            decode(data, header, limits)
            simplejpeg.decode_jpeg_header(data)
            simplejpeg.decode_jpeg(data)
        except (Undecodable, ValueError, KeyError):  # the last for a chroma subsampling that simplejpeg does not know
            continue
        pixels = header.width * header.height
        if pixels >= least_pixels and (not most_pixels or pixels <= most_pixels):
            found.append(Photo(path, len(data), pixels))
    if not found:
        raise UsageError(f"{folder} holds no sound, upright JPEG of the size that is wanted to measure on")
    return found


def lay(folder: Path, photographs: Iterable[Photo], images: int) -> Archive:
    """The photographs under `images` names, one after the other, as links to one copy of each.

    What lies in the folder is taken to be such an archive, and made anew.
    """
    chosen = tuple(photographs)[:images]
    shutil.rmtree(folder, ignore_errors=True)
    originals = folder.with_name(folder.name + "-originals")
    shutil.rmtree(originals, ignore_errors=True)
    originals.mkdir(parents=True)
    for number, photo in enumerate(chosen):
        shutil.copyfile(photo.path, originals / str(number))
    for number in range(images):
        path = folder / _name(number)
        if number % _FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        os.link(originals / str(number % len(chosen)), path)
    return Archive(folder, images, chosen)


def _name(number: int) -> str:
    return f"{number // _FOLDER:04d}/{number:07d}.jpg"
