"""`facebatch plan`: a dry run says what `facebatch index` then does."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from facebatch import config
from facebatch.errors import UsageError
from facebatch.pipeline.dryrun import dry_run
from tests.e2e.conftest import command, run

pytestmark = pytest.mark.usefixtures("a_ray")


@pytest.fixture
def photos(tmp_path: Path, astronaut: bytes, hopper: bytes) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i in range(20):
        (folder / "deep" / f"{i:02d}.jpg").write_bytes(hopper)
    with tarfile.open(folder / "0.tar", "w") as tar:
        for i in range(10):
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(astronaut)
            tar.addfile(info, io.BytesIO(astronaut))
    return folder


def planned(inputs: Path | str, output: Path | None = None, list_to: Path | None = None) -> dict[str, tuple[str, str]]:
    settings = config.load(None, [], inputs=(str(inputs),), output=str(output) if output else "")
    rows = dry_run(settings, Console(file=io.StringIO()), str(list_to) if list_to else None)
    return {title: (number, remark) for title, number, remark in rows}


def test_it_says_what_there_is_to_do_and_how(photos: Path, tmp_path: Path) -> None:
    rows = planned(photos, tmp_path / "out")
    assert rows["new"] == ("21", "20 files, 1 tars; 0 were planned before")
    assert rows["shards"][0] == "2"
    assert rows["images"][0] == str(20 + round((photos / "0.tar").stat().st_size / _average(photos)))
    assert "actor(s)" in rows["pools"][1]
    assert "GiB of memory" in rows["memory"][1]
    assert "images/s: 24 sampled images took" in rows["time"][1]
    assert not (tmp_path / "out").exists()


def _average(photos: Path) -> float:
    """Bytes an image of what is sampled: all the loose files, and four members of the tar."""
    jpeg = (photos / "deep" / "00.jpg").stat().st_size
    return (20 * jpeg + 4 * ((photos / "0.tar").stat().st_size // 10)) / 24


def test_after_a_run_there_is_nothing_to_do_until_the_archive_grows(
    photos: Path, tmp_path: Path, hopper: bytes
) -> None:
    run([photos], tmp_path / "out")
    rows = planned(photos, tmp_path / "out")
    assert rows["new"] == ("0", "nothing; 21 were planned before")
    assert rows["shards"] == ("0", "of 2 to do, 0.0 MB")
    assert set(rows) == {"new", "shards"}
    (photos / "new.jpg").write_bytes(hopper)
    (photos / "deep" / "00.jpg").write_bytes(hopper + b"changed")
    rows = planned(photos, tmp_path / "out")
    assert rows["new"][0] == rows["shards"][0] == rows["images"][0] == "1"
    assert rows["changed"][0] == "1"


def test_a_manifest_is_made_by_the_way_and_can_be_indexed(photos: Path, tmp_path: Path) -> None:
    rows = planned(photos, list_to=tmp_path / "list.parquet")
    assert rows["manifest"] == ("21", f"files in {tmp_path / 'list.parquet'}")
    assert sorted(pq.read_table(tmp_path / "list.parquet")["uri"].to_pylist()) == sorted(
        str(p) for p in photos.rglob("*") if p.is_file()
    )
    listed = run([tmp_path / "list.parquet"], tmp_path / "out")
    assert listed.summary.new_images == 30
    assert run([photos], tmp_path / "out").summary.new_images == 0, "and the prefix itself holds nothing new"


def test_what_index_would_refuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names nothing"):
        planned(tmp_path / "none")


def test_the_command_prints_it_also_without_an_output(photos: Path) -> None:
    done = command("plan", "--input", str(photos), "--exclude", "*.tar")
    assert done.returncode == 0, done.stderr
    assert "20 files" in done.stdout
    assert "images/s" in done.stdout
    assert command("plan").returncode == 2
