"""A disk that fills while a run writes to it, and one that cannot be written: whole runs on a small file system."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from facebatch.failpoints import VARIABLE
from tests.faults.runs import Run, assert_same

pytestmark = pytest.mark.faults

GO_ON = "run the same command again"


class Disk:
    """A file system of its own in memory, as small as it is said to be."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))

    def change(self, option: str) -> None:
        """Of the mounted file system: its size, or whether it can be written."""
        self._mount("-o", f"remount,{option}", str(self.folder))

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def _mount(self, *words: str) -> None:
        subprocess.run(["mount", *words], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        made = Disk(tmp_path / "out", "64m")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs to mount a small file system, as root may: {getattr(error, 'stderr', error)!r}")
    yield made
    made.close()


def test_a_disk_that_fills_stops_the_run_with_a_sentence_and_with_room_it_goes_on(
    disk: Disk, photos: Path, expected: Path
) -> None:
    disk.change(f"size={_bytes(expected) // 2}")
    with Run(photos, disk.folder) as run:
        assert run.end() == 1, run.said
        assert f"the disk is full; free some space and {GO_ON}" in run.said
        assert "Traceback" not in run.said
        committed = run.commits()
    assert committed, "half of it had room"
    disk.change("size=64m")
    with Run(photos, disk.folder) as run:
        assert run.end() == 0, run.said
        assert "images are indexed already" in run.said
    assert_same(disk.folder, expected)


def test_where_nothing_can_be_written_nothing_is_computed(disk: Disk, photos: Path, expected: Path) -> None:
    disk.change("ro")
    with Run(photos, disk.folder) as run:
        assert run.end() == 1, run.said
        assert "Read-only file system" in run.said
        assert "Traceback" not in run.said
        assert "shards to do" not in run.said
    disk.change("rw")
    with Run(photos, disk.folder) as run:
        assert run.end() == 0, run.said
    assert_same(disk.folder, expected)


def test_a_disk_that_turns_read_only_in_mid_run_stops_it_and_costs_no_row(
    disk: Disk, photos: Path, expected: Path, tmp_path: Path
) -> None:
    failpoints = tmp_path / "failpoints"
    failpoints.mkdir()
    (failpoints / "committed").write_text("hold")
    with Run(photos, disk.folder, **{VARIABLE: str(failpoints)}) as run:
        held = failpoints / "committed.held"
        run.wait_for(held.exists)
        run.wait_for(lambda: _turned(disk, "ro"))
        held.unlink()
        assert run.end() == 1, run.said
        assert "Read-only file system" in run.said
        assert "Traceback" not in run.said
        assert run.commits()
    disk.change("rw")
    with Run(photos, disk.folder) as run:
        assert run.end() == 0, run.said
        assert "images are indexed already" in run.said
    assert_same(disk.folder, expected)


def _turned(disk: Disk, option: str) -> bool:
    """False while a file on it is being written."""
    try:
        disk.change(option)
    except subprocess.CalledProcessError:
        return False
    return True


def _bytes(folder: Path) -> int:
    """What its files take in pages of 4 kB."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())
