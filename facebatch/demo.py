"""A small archive of two real photographs that well-kept packages carry, to try facebatch on without any of your own.

They come as they are, and again small and large, grey, with few colours, lying, mirrored, in a group, in a tar, in
other formats; beside them a picture of nobody, a broken one, and files that are none. Who is where is known, so that a
run can be judged (`facebatch.verdict`).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePath

from PIL import Image

from facebatch.errors import UsageError
from facebatch.reasons import Status

COLLINS, HOPPER = "Eileen Collins", "Grace Hopper"
Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the upright picture, edge coordinates."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face that is known, in an upright picture."""

    person: str
    box: Box


@dataclass(frozen=True, slots=True)
class Entry:
    """A file below the archive's folder, or a member of a tar there, and what a run must make of it."""

    file: str
    member: str
    data: bytes
    status: Status
    faces: tuple[Face, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.file} {self.member}".strip()


@dataclass(frozen=True, slots=True)
class _Photo:
    """A photograph in a package, and the box on whose place seven detectors agree within a few pixels."""

    package: str
    path: str
    box: Box

    @property
    def data(self) -> bytes:
        try:
            return resources.files(self.package).joinpath(self.path).read_bytes()
        except ModuleNotFoundError:
            raise UsageError("the demo's photographs come with other packages: pip install 'facebatch[demo]'") from None


@dataclass(frozen=True, slots=True)
class _Placed:
    """A photograph at so many times its size, its corner at x, y of a picture."""

    person: str
    times: float = 1.0
    x: int = 0
    y: int = 0

    @property
    def box(self) -> Box:
        x_min, y_min, x_max, y_max = (self.times * side for side in _PHOTOS[self.person].box)
        return self.x + x_min, self.y + y_min, self.x + x_max, self.y + y_max


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture to be made. canvas: width and height; where there are none, those of the one photograph on it.

    mode: of Pillow, which the file is stored in. orientation: of EXIF; the pixels are laid so that it rights them.
    """

    name: str
    shows: tuple[_Placed, ...]
    canvas: tuple[int, int] | None = None
    mode: str = "RGB"
    orientation: int = 1


_PHOTOS = {
    COLLINS: _Photo("skimage", "data/astronaut.png", (179, 58, 271, 176)),  # NASA, public domain
    HOPPER: _Photo("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (178, 120, 353, 333)),  # US Navy, likewise
}
_GROUP = (
    _Placed(COLLINS, 0.66, 10, 20),
    _Placed(HOPPER, 0.57, 360, 240),
    _Placed(COLLINS, 0.39, 680, 20),
    _Placed(HOPPER, 0.5, 740, 290),
)
_LOOSE = (
    _Picture("collins-half.webp", (_Placed(COLLINS, 0.5),)),
    _Picture("collins-large.jpg", (_Placed(COLLINS, 3),)),
    _Picture("collins-grey.png", (_Placed(COLLINS),), mode="L"),
    _Picture("collins-palette.gif", (_Placed(COLLINS),), mode="P"),
    _Picture("collins-head-down.jpg", (_Placed(COLLINS),), orientation=3),
    _Picture("collins-lying.webp", (_Placed(COLLINS),), orientation=8),
    _Picture("hopper-half.png", (_Placed(HOPPER, 0.5),)),
    _Picture("hopper-large.tif", (_Placed(HOPPER, 2),)),
    _Picture("hopper-grey.bmp", (_Placed(HOPPER),), mode="L"),
    _Picture("hopper-lying.jpg", (_Placed(HOPPER),), orientation=6),
    _Picture("hopper-mirrored.jpg", (_Placed(HOPPER),), orientation=5),
    _Picture("group.jpg", _GROUP, (1024, 600)),
    _Picture("nobody.jpg", (_Placed(COLLINS, 1, 0, -220),), (512, 292)),  # suit and flag: the face is above the edge
)
"""Below photos/, beside the photographs as they come."""
_PACKED = (
    _Picture("1999/collins.jpg", (_Placed(COLLINS, 0.75),)),
    _Picture("1999/hopper.webp", (_Placed(HOPPER, 0.75),)),
)
"""In the tar, beside a text."""
_TAR = "shards/00000.tar"
_FORMATS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    ".jpg": ("JPEG", {"quality": 92}),
    ".webp": ("WEBP", {"quality": 90}),
    ".tif": ("TIFF", {"compression": "tiff_lzw"}),
    ".png": ("PNG", {}),
    ".gif": ("GIF", {}),
    ".bmp": ("BMP", {}),
}
_LAID = {
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""How upright pixels are laid so that the orientation rights them."""
_WALL = (90, 110, 130)


def archive() -> list[Entry]:
    """All files of the archive, their bytes the same every time. Raises UsageError when a package that carries a
    photograph is not installed."""
    entries = []
    for person, photo in _PHOTOS.items():
        file = f"photos/{PurePath(photo.path).name}"
        entries.append(Entry(file, "", photo.data, Status.OK, (Face(person, photo.box),)))
    entries += [_entry(f"photos/{picture.name}", "", picture) for picture in _LOOSE]
    whole = _PHOTOS[HOPPER].data
    entries.append(Entry("photos/broken.jpg", "", whole[: len(whole) // 2], Status.FAILED))
    entries.append(Entry("photos/notes.txt", "", b"not every file of an archive is a photo\n", Status.SKIPPED))
    entries += [_entry(_TAR, picture.name, picture) for picture in _PACKED]
    entries.append(Entry(_TAR, "1999/collins.json", b'{"taken": "1999"}', Status.SKIPPED))
    return entries


def inputs(folder: Path) -> tuple[str, ...]:
    """What names the archive below a folder: a prefix and a pattern of tars."""
    return str(folder / "photos"), str(folder / "shards" / "*.tar")


def write(entries: Sequence[Entry], folder: Path) -> None:
    """Write the archive below a folder. A file that holds this already is left alone, so that a second run over it
    finds nothing new."""
    files = {entry.file: entry.data for entry in entries if not entry.member}
    packed = [entry for entry in entries if entry.member]
    for name in {entry.file: None for entry in packed}:
        files[name] = _tar({entry.member: entry.data for entry in packed if entry.file == name})
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_bytes() != data:
            file.write_bytes(data)


def _entry(file: str, member: str, picture: _Picture) -> Entry:
    image = _painted(picture)
    faces = tuple(Face(placed.person, placed.box) for placed in picture.shows)
    seen = tuple(face for face in faces if face.box[3] > 0)
    return Entry(file, member, _encoded(image, picture), Status.OK if seen else Status.NO_FACE, seen)


def _painted(picture: _Picture) -> Image.Image:
    """The upright picture, RGB."""
    photos = [_scaled(placed.person, placed.times) for placed in picture.shows]
    canvas = Image.new("RGB", picture.canvas or photos[0].size, _WALL)
    for photo, placed in zip(photos, picture.shows, strict=True):
        canvas.paste(photo, (placed.x, placed.y))
    return canvas


@cache
def _pixels(person: str) -> Image.Image:
    return Image.open(io.BytesIO(_PHOTOS[person].data)).convert("RGB")


def _scaled(person: str, times: float) -> Image.Image:
    photo = _pixels(person)
    size = round(photo.width * times), round(photo.height * times)
    return photo.resize(size, Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, picture: _Picture) -> bytes:
    format, options = _FORMATS[PurePath(picture.name).suffix]
    exif = Image.Exif()
    if picture.orientation != 1:
        image = image.transpose(_LAID[picture.orientation])
        exif[0x0112] = picture.orientation
    stored = image.quantize(256) if picture.mode == "P" else image.convert(picture.mode)
    file = io.BytesIO()
    stored.save(file, format, **options, **({"exif": exif} if exif else {}))
    return file.getvalue()


def _tar(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()
