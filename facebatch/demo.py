"""A small archive of real photographs that well-kept packages carry, to try facebatch on without any of your own."""

from __future__ import annotations

import io
import tarfile
from importlib import resources
from pathlib import Path

from PIL import Image

from facebatch.errors import UsageError

_PHOTOS = {
    "astronaut.png": ("skimage", "data/astronaut.png"),  # Eileen Collins, NASA, public domain
    "grace_hopper.jpg": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),  # US Navy, public domain
}


def build(folder: Path) -> list[str]:
    """Write the archive below a folder and return the inputs that name it: a prefix and a tar.

    Two photos as they come, one of them again lying on its side with the EXIF tag that says so, a text file, and a tar
    with both photos and a sidecar. Raises UsageError when a package that carries a photo is not installed.
    """
    originals = {name: _photo(*place) for name, place in _PHOTOS.items()}
    for name, data in originals.items():
        _write(folder / "photos" / name, data)
    _write(folder / "photos" / "lying.jpg", _lying(originals["grace_hopper.jpg"]))
    _write(folder / "photos" / "notes.txt", b"not every file of an archive is a photo\n")
    _write(folder / "shards" / "00000.tar", _tar({**originals, "astronaut.json": b'{"taken": "1999"}'}))
    return [str(folder / "photos"), str(folder / "shards" / "*.tar")]


def _photo(package: str, path: str) -> bytes:
    try:
        return resources.files(package).joinpath(path).read_bytes()
    except ModuleNotFoundError:
        raise UsageError("the demo's photographs come with other packages: pip install 'facebatch[demo]'") from None


def _lying(photo: bytes) -> bytes:
    """The photo with its pixels turned left and the EXIF orientation that turns them back."""
    image = Image.open(io.BytesIO(photo)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(f"1999/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _write(file: Path, data: bytes) -> None:
    """Leaves a file alone that holds this already, so that a second demo finds nothing new."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_bytes() != data:
        file.write_bytes(data)
