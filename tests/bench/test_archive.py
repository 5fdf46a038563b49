"""Archives to measure on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from facebatch.bench.archive import lay, photos
from facebatch.errors import UsageError
from tests.conftest import encode


def _pixels(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    made.mkdir()
    for width in (40, 80, 120):
        (made / f"{width}.jpg").write_bytes(encode(_pixels(width, 50), "JPEG"))
    return made


def test_photographs_are_sound_upright_jpegs(folder: Path) -> None:
    (folder / "other.png").write_bytes(encode(_pixels(40, 50), "PNG"))
    (folder / "broken.jpg").write_bytes((folder / "120.jpg").read_bytes()[:-300])
    (folder / "grey.jpg").write_bytes(encode(_pixels(40, 50)[:, :, 0], "JPEG"))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(_pixels(40, 50)).save(folder / "turned.jpg", exif=turned)
    (folder / "text.jpg").write_text("no image")
    assert [photo.path.name for photo in photos(folder)] == ["120.jpg", "40.jpg", "80.jpg"]


def test_what_the_floors_decoder_does_not_know_is_no_photograph(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """simplejpeg decodes chroma at 4:4:1, and knows no word for it."""
    strange = (folder / "80.jpg").read_bytes()
    known = simplejpeg.decode_jpeg_header

    def header(data: bytes) -> object:
        if data == strange:
            raise KeyError(6)
        return known(data)

    monkeypatch.setattr(simplejpeg, "decode_jpeg_header", header)
    assert [photo.path.name for photo in photos(folder)] == ["120.jpg", "40.jpg"]


def test_they_may_be_chosen_by_their_size(folder: Path) -> None:
    assert [photo.path.name for photo in photos(folder, least_pixels=4000)] == ["120.jpg", "80.jpg"]
    assert [photo.path.name for photo in photos(folder, most_pixels=4000)] == ["40.jpg", "80.jpg"]
    middle = (folder / "80.jpg").stat().st_size
    assert [photo.path.name for photo in photos(folder, least_bytes=middle)] == ["120.jpg", "80.jpg"]


def test_nothing_to_measure_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no sound, upright JPEG of the size that is wanted"):
        photos(tmp_path)


def test_a_few_photographs_stand_under_as_many_names_as_wanted(folder: Path, tmp_path: Path) -> None:
    found = photos(folder)
    archive = lay(tmp_path / "archive", found, 2500)
    files = sorted(path for path in archive.folder.rglob("*") if path.is_file())
    assert files == archive.files()
    assert len(files) == 2500
    assert files[1].read_bytes() == found[1].path.read_bytes()
    assert files[2499].read_bytes() == found[2499 % 3].path.read_bytes()
    assert archive.bytes == sum(file.stat().st_size for file in files)
    assert archive.megapixels == pytest.approx(sum(found[k % 3].pixels for k in range(2500)) / 2500 / 1e6)


def test_an_archive_is_laid_anew_over_an_old_one(folder: Path, tmp_path: Path) -> None:
    found = photos(folder)
    lay(tmp_path / "archive", found, 30)
    archive = lay(tmp_path / "archive", found, 2)
    assert sorted(path for path in archive.folder.rglob("*") if path.is_file()) == archive.files()
    assert len(archive.photos) == 2


def test_photographs_stay_as_they_are(folder: Path, tmp_path: Path) -> None:
    """The names are links, and what writes to one must not reach the user's files."""
    found = photos(folder)
    before = found[0].path.read_bytes()
    archive = lay(tmp_path / "archive", found, 3)
    archive.files()[0].write_bytes(b"scribble")
    assert found[0].path.read_bytes() == before
