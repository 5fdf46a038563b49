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
    photos, shards = folder / "photos", folder / "shards"
    photos.mkdir(parents=True, exist_ok=True)
    shards.mkdir(exist_ok=True)
    originals = {name: _photo(*place) for name, place in _PHOTOS.items()}
    for name, data in originals.items():
        (photos / name).write_bytes(data)
    (photos / "lying.jpg").write_bytes(_lying(originals["grace_hopper.jpg"]))
    (photos / "notes.txt").write_text("not every file of an archive is a photo\n", encoding="utf-8")
    with tarfile.open(shards / "00000.tar", "w") as tar:
        for name, data in [*originals.items(), ("astronaut.json", b'{"taken": "1999"}')]:
            member = tarfile.TarInfo(f"1999/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return [str(photos), str(shards / "*.tar")]


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
