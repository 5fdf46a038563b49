"""The demo's archive: who is where, and that the files are what their names say."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facebatch import demo
from facebatch.config import Decode
from facebatch.decode import decode, probe
from facebatch.demo import COLLINS, HOPPER, Entry
from facebatch.errors import UsageError
from facebatch.formats import sniff
from facebatch.geometry import Picture
from facebatch.reasons import Reason, Status, Undecodable


@pytest.fixture(scope="module")
def archive() -> dict[str, Entry]:
    return {entry.name: entry for entry in demo.archive()}


def _picture(entry: Entry) -> Picture:
    return decode(entry.data, probe(entry.data, Decode()), Decode())


def _face(entry: Entry, number: int = 0, side: int = 16) -> np.ndarray:
    """What is in the box of a known face, grey and small, so that size, format and colours make no difference."""
    x_min, y_min, x_max, y_max = entry.faces[number].box
    cut = (
        Image.fromarray(_picture(entry).levels[0])
        .convert("L")
        .crop((round(x_min), round(y_min), round(x_max), round(y_max)))
    )
    return np.asarray(cut.resize((side, side), Image.Resampling.BOX)).astype(float)


def test_it_says_how_many_faces_there_are_and_whose(archive: dict[str, Entry]) -> None:
    people = Counter(face.person for entry in archive.values() for face in entry.faces)
    assert people == {COLLINS: 10, HOPPER: 9}
    assert Counter(entry.status for entry in archive.values()) == {
        Status.OK: 16,
        Status.NO_FACE: 1,
        Status.FAILED: 1,
        Status.SKIPPED: 2,
    }
    group = [face.person for face in archive["photos/group.jpg"].faces]
    assert Counter(group) == {COLLINS: 2, HOPPER: 2}
    assert {entry.status for entry in archive.values() if entry.faces} == {Status.OK}


def test_a_face_is_where_the_archive_says(archive: dict[str, Entry]) -> None:
    """In every file the box holds what it holds in the photograph."""
    originals = {COLLINS: _face(archive["photos/astronaut.png"]), HOPPER: _face(archive["photos/grace_hopper.jpg"])}
    for entry in archive.values():
        for number, known in enumerate(entry.faces):
            alike = {
                person: np.corrcoef(pixels.ravel(), _face(entry, number).ravel())[0, 1]
                for person, pixels in originals.items()
            }
            assert alike.pop(known.person) > 0.95, entry.name
            assert max(alike.values()) < 0.7, entry.name


def test_faces_lie_in_their_pictures_and_are_large_enough_to_be_found(archive: dict[str, Entry]) -> None:
    sides = []
    for entry in archive.values():
        for x_min, y_min, x_max, y_max in (face.box for face in entry.faces):
            picture = _picture(entry)
            assert 0 <= x_min < x_max <= picture.width
            assert 0 <= y_min < y_max <= picture.height
            sides.append(x_max - x_min)
    assert min(sides) > 32
    assert max(sides) > 8 * min(sides), "sizes differ"


def test_formats_are_what_the_names_say_and_there_are_six(archive: dict[str, Entry]) -> None:
    formats = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".gif": "GIF", ".bmp": "BMP"}
    found = Counter(sniff(e.data) for e in archive.values() if e.status is not Status.SKIPPED)
    for entry in archive.values():
        assert sniff(entry.data) == formats.get(Path(entry.member or entry.file).suffix), entry.name
    assert found.keys() == set(formats.values())
    grey = Image.open(io.BytesIO(archive["photos/hopper-grey.bmp"].data))
    few = Image.open(io.BytesIO(archive["photos/collins-palette.gif"].data))
    assert (grey.mode, few.mode) == ("L", "P")


@pytest.mark.parametrize(
    ("name", "orientation", "size"),
    [
        ("photos/collins-head-down.jpg", 3, (512, 512)),
        ("photos/hopper-mirrored.jpg", 5, (600, 512)),  # width and height as the pixels lie in the file
        ("photos/hopper-lying.jpg", 6, (600, 512)),
        ("photos/collins-lying.webp", 8, (512, 512)),
    ],
)
def test_pixels_lie_and_the_tag_rights_them(
    archive: dict[str, Entry], name: str, orientation: int, size: tuple[int, int]
) -> None:
    data = archive[name].data
    stored, upright = Image.open(io.BytesIO(data)), _picture(archive[name])
    assert probe(data, Decode()).exif.orientation == orientation
    assert (upright.width, upright.height) == (size[::-1] if orientation > 4 else size)
    assert stored.size == size
    pixels = np.asarray(stored.convert("RGB").resize((64, 64))).astype(float)
    righted = np.asarray(Image.fromarray(upright.levels[0]).resize((64, 64))).astype(float)
    assert np.abs(pixels - righted).mean() > 20, "the pixels themselves do not stand upright"


def test_nobody_is_the_photograph_below_the_face(archive: dict[str, Entry]) -> None:
    nobody, whole = (_picture(archive[f"photos/{name}"]).levels[0] for name in ("nobody.jpg", "astronaut.png"))
    _, _, _, chin = archive["photos/astronaut.png"].faces[0].box
    top = whole.shape[0] - nobody.shape[0]
    assert top > chin
    assert np.abs(nobody.astype(float) - whole[top:]).mean() < 4


def test_the_broken_photo_ends_early_and_the_others_are_sound(archive: dict[str, Entry]) -> None:
    for entry in archive.values():
        if entry.status in (Status.OK, Status.NO_FACE):
            assert _picture(entry).remark is None
        else:
            with pytest.raises(Undecodable) as refused:
                _picture(entry)
            expected = Reason.TRUNCATED if entry.status == Status.FAILED else Reason.NOT_AN_IMAGE
            assert refused.value.reason == expected


def test_no_two_files_have_the_same_bytes_or_end_in_the_same_name(archive: dict[str, Entry]) -> None:
    assert len({hashlib.sha256(entry.data).digest() for entry in archive.values()}) == len(archive)
    assert len({(Path(entry.file).name, entry.member) for entry in archive.values()}) == len(archive)


def test_a_second_time_nothing_is_written(archive: dict[str, Entry], tmp_path: Path) -> None:
    demo.write(list(archive.values()), tmp_path)
    files = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.rglob("*") if file.is_file()}
    assert len(files) == 18
    demo.write(demo.archive(), tmp_path)
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files} == files
    changed = tmp_path / "photos" / "notes.txt"
    changed.write_bytes(b"other")
    demo.write(demo.archive(), tmp_path)
    assert changed.read_bytes() == archive["photos/notes.txt"].data


def test_files_and_members_lie_where_the_inputs_point(archive: dict[str, Entry], tmp_path: Path) -> None:
    demo.write(list(archive.values()), tmp_path)
    prefix, pattern = demo.inputs(tmp_path)
    (tar,) = tmp_path.glob(str(Path(pattern).relative_to(tmp_path)))
    with tarfile.open(tar) as members:
        packed = {f"shards/{tar.name} {m.name}": members.extractfile(m).read() for m in members}  # type: ignore[union-attr]
    loose = {f"photos/{file.name}": file.read_bytes() for file in Path(prefix).iterdir()}
    assert loose | packed == {name: entry.data for name, entry in archive.items()}


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo._PHOTOS, COLLINS, demo._Photo("no_such_package", "a.png", (0, 0, 1, 1)))
    with pytest.raises(UsageError, match=r"come with other packages: pip install 'facebatch\[demo\]'"):
        demo.archive()
