"""`facebatch verify --deep` as a user runs it, on a dataset of files, tars and rows of a table."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from facebatch.storage import Storage
from tests.conftest import encode
from tests.e2e.conftest import command, table
from tests.e2e.test_inputs import as_parquet_bytes, as_tars
from tests.test_audit import swapped
from tests.test_verify import rewritten


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, astronaut: bytes, hopper: bytes, group: np.ndarray) -> Path:
    """Six photos in each of three forms, and their dataset."""
    folder = tmp_path_factory.mktemp("audit")
    grey = encode(np.full((80, 120, 3), 128, np.uint8))
    photos = {"a.png": astronaut, "b.jpg": hopper, "c.jpg": encode(group, "JPEG"), "d.png": grey, "e.txt": b"none"}
    photos["cut.jpg"] = hopper[:20_000]
    (folder / "files").mkdir()
    for name, data in photos.items():
        (folder / "files" / name).write_bytes(data)
    tars, rows = (form(Storage(), str(folder / form.__name__), photos) for form in (as_tars, as_parquet_bytes))
    inputs = [word for given in (str(folder / "files"), tars, rows) for word in ("--input", given)]
    done = command("index", *inputs, "--output", str(folder / "out"))
    assert done.returncode == 0, done.stderr
    return folder


def test_a_fresh_dataset_is_right(indexed: Path) -> None:
    done = command("verify", str(indexed / "out"), "--deep")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[0] == "18 images (3 failed, 3 no_face, 9 ok, 3 skipped), 18 faces in 2 files"
    assert re.search(r"^18 of 18 drawn images \(--seed \d+\) were computed again and compared$", done.stdout, re.M)
    assert "  boxes and landmarks within 0.01 px, scores within 0.0001, vectors within 1e-5: made with" in done.stdout
    assert done.stdout.splitlines()[-1] == "the dataset is whole"


def test_a_seed_repeats_what_was_drawn(indexed: Path) -> None:
    first, again = (command("verify", str(indexed / "out"), "--deep", "--sample", "5", "--seed", "7") for _ in range(2))
    assert first.returncode == 0
    assert "5 of 5 drawn images (--seed 7)" in first.stdout
    assert first.stdout == again.stdout


def test_two_vectors_that_changed_places_are_found_by_deep_alone(indexed: Path, tmp_path: Path) -> None:
    """Hashes and records are mended, as by a bug of ours: nothing is wrong with the files."""
    output = tmp_path / "out"
    shutil.copytree(indexed / "out", output)
    before = table(output, "faces")
    rewritten(output, "faces", swapped())
    assert not before["embedding"].equals(table(output, "faces")["embedding"])
    assert isinstance(before, pa.Table)
    plain = command("verify", str(output))
    assert (plain.returncode, plain.stdout.splitlines()[-1]) == (0, "the dataset is whole")
    deep = command("verify", str(output), "--deep")
    assert deep.returncode == 3
    assert deep.stdout.count("its vector is another one: cosine") == 2


def test_a_replaced_source_is_named_apart(indexed: Path, tmp_path: Path) -> None:
    shutil.copytree(indexed, tmp_path, dirs_exist_ok=True)
    photo, tar = indexed / "files" / "a.png", indexed / "as_tars" / "0.tar"
    kept = photo.stat(), photo.read_bytes(), tar.read_bytes()
    try:
        photo.write_bytes(kept[1] + b"\0")
        tar.unlink()
        done = command("verify", str(indexed / "out"), "--deep")
    finally:
        shutil.copy2(tmp_path / "files" / "a.png", photo)
        shutil.copy2(tmp_path / "as_tars" / "0.tar", tar)
    assert done.returncode == 0, done.stdout
    assert "15 of 18 drawn images" in done.stdout
    assert "  3 of 18 sources could not be compared: NOT_FOUND 2, SOURCE_CHANGED 1, e.g. " in done.stdout


def test_other_models_and_settings_are_refused_before_anything_is_read(indexed: Path) -> None:
    done = command("verify", str(indexed / "out"), "--deep", "detect.score=0.3")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.search(r"another contract .*: detector.score was 0\.\d+ and is now 0.3. Take the settings", done.stderr)
