"""Kill anything at any moment, run the same command again: the dataset is the one of an uninterrupted run.

At least sixty SIGKILLs in all, at every failpoint and at random moments. FACEBATCH_CHAOS_SEED replays a schedule.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from facebatch.dataset import Dataset
from facebatch.failpoints import POINTS
from facebatch.storage import Storage
from tests.faults.archives import mixed, photos
from tests.faults.chaos import (
    Job,
    asleep,
    assert_same_index,
    elsewhere,
    held_at,
    hold_and_kill,
    let_go,
    uninterrupted,
)
from tests.s3 import opened

pytestmark = pytest.mark.faults

SEED = int(os.environ.get("FACEBATCH_CHAOS_SEED") or random.SystemRandom().randrange(1 << 30))
IN_A_WORKER = ["data", "torn images", "images", "faces", "record", "committed"]
_KILLS: list[int] = []


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return mixed(tmp_path_factory.mktemp("chaos") / "archive")


@pytest.fixture(scope="module")
def expected(archive: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, pa.Table], float]:
    """The tables of an uninterrupted run, and how long it took."""
    started = time.monotonic()
    found = uninterrupted(archive, tmp_path_factory.mktemp("uninterrupted") / "index")
    assert found["images"].num_rows == 85
    return found, time.monotonic() - started


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Of this test alone, so that it replays whatever else runs."""
    print(f"FACEBATCH_CHAOS_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def armed(tmp_path: Path) -> Path:
    folder = tmp_path / "failpoints"
    folder.mkdir()
    return folder


@pytest.fixture
def job(request: pytest.FixtureRequest, archive: list[Path]) -> Iterator[Job]:
    """Into a new dataset, on a disk unless a test asks for another storage."""
    storage, root = opened(request, getattr(request, "param", "local"))
    job = Job(archive, Dataset.at(storage, f"{root}/index"))
    yield job
    _KILLS.append(job.kills)


def test_the_driver_is_killed_at_every_failpoint_while_the_archive_grows(tmp_path: Path, armed: Path) -> None:
    """Before each run there are new photos, so that each has something to plan, to commit and to sweep."""
    growing = tmp_path / "growing"
    order = ["data", "torn images", "images", "record", "committed", "faces", "sweep"]  # which needs something to sweep
    points = order + [p for p in POINTS if p not in order]
    job = Job([growing], Dataset.at(Storage(), str(tmp_path / "index")), failpoints=armed)
    photos(growing / "first", 20)
    for number, point in enumerate(points):
        photos(growing / point.replace(" ", "-"), 10, first=20 + 10 * number)
        hold_and_kill(job, point)
    job.finish()
    assert job.kills >= len(points)
    _KILLS.append(job.kills)
    assert_same_index(job, uninterrupted([growing], tmp_path / "uninterrupted"))
    assert "nothing to do" in job.finish()


def test_a_machine_that_was_frozen_for_a_minute_wakes_up_when_its_successor_has_finished(
    job: Job, armed: Path, expected: tuple[dict[str, pa.Table], float]
) -> None:
    """All of the run stands still, one worker in the middle of a commit. Then it goes on where it was."""
    job.failpoints = armed
    sleeper = held_at(job, "images")
    with asleep(sleeper):
        elsewhere(job.dataset, epoch=1)
        said = job.finish()
        let_go(armed, "images")
    told, _ = sleeper.communicate(timeout=300)
    assert "on elsewhere) has not said that it ended; waiting 60 s" in said
    assert sleeper.returncode == 1, told
    assert "run 2 has taken over" in told
    assert_same_index(job, expected[0])
    assert "nothing to do" in job.finish()
    assert_same_index(job, expected[0])


@pytest.mark.parametrize("layout", ["fused", "split"])
def test_a_worker_is_killed_at_every_failpoint_of_a_commit(
    job: Job, armed: Path, expected: tuple[dict[str, pa.Table], float], layout: str
) -> None:
    """Ray repeats the task within the run. The decodes are of images that come first in a parcel: others could be met
    by the process in which suspects are tried, and it is a worker that shall die of them."""
    job.failpoints, job.words = armed, [f"run.layout={layout}"]
    points = [*IN_A_WORKER, "detect", "embed", "decode 0008.jpg", "decode 0056.jpg"]
    for point in points:
        (armed / point).write_text("kill")
    job.finish()
    assert {file.name for file in armed.iterdir()} == {f"{point}.fired" for point in points}, "each has killed once"
    job.kills += len(points)
    assert_same_index(job, expected[0])


@pytest.mark.parametrize("job", ["local", "rgw"], indirect=True)
def test_the_driver_is_killed_at_random_moments(
    job: Job, expected: tuple[dict[str, pa.Table], float], dice: random.Random
) -> None:
    tables, seconds = expected
    for _ in range(9):
        running = job.start()
        wait = dice.uniform(0.1, 0.9) * seconds
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and running.poll() is None:
            time.sleep(0.01)
        job.kill(running, f"after {wait:.2f} s", all_at_once=dice.random() < 0.5)
    job.finish()
    assert_same_index(job, tables)


@pytest.mark.parametrize("layout", ["fused", "split"])
@pytest.mark.parametrize("campaign", range(2))
def test_random_workers_are_killed_during_a_run(
    job: Job, expected: tuple[dict[str, pa.Table], float], dice: random.Random, layout: str, campaign: int
) -> None:
    """Whichever: a reader, a decoder, a detector, a writer, the journal of suspects, the progress display."""
    job.words = [f"run.layout={layout}"]
    running = job.start()
    job.kill_workers(running, dice, most=6)
    said, _ = running.communicate(timeout=420)  # actors that are lost while they begin are waited for for 300
    if running.returncode != 0:  # too many at once for one run: it says so, and the same command goes on
        assert "the same command goes on" in said, f"{said}\n{job.history}"
        job.finish()
    assert_same_index(job, expected[0])


def test_these_were_sixty_kills_at_least() -> None:
    """Counted where they happen, by the tests above."""
    if len(_KILLS) < 4:
        pytest.skip("the tests that kill did not all run")
    print(f"{sum(_KILLS)} SIGKILLs, FACEBATCH_CHAOS_SEED={SEED}")
    assert sum(_KILLS) >= 60
