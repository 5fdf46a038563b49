"""Workers that die: their work is done again by others, a finite number of times."""

from __future__ import annotations

from pathlib import Path

import pytest

from facebatch.failpoints import VARIABLE
from tests.faults.runs import Run, assert_same

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("layout", "names", "points"),
    [
        ("fused", ["ReadShardSource", "(index)", "_Desk"], ["decode 055.jpg", "embed", "images"]),
        ("split", ["(chip)", "_Desk"], ["decode 055.jpg", "detect", "embed", "images"]),
    ],
)
def test_a_worker_of_each_kind_is_killed_at_its_work(
    layout: str, names: list[str], points: list[str], photos: Path, expected: Path, tmp_path: Path
) -> None:
    failpoints = tmp_path / "failpoints"
    failpoints.mkdir()
    (failpoints / "images").write_text("hold")  # somebody stands in a commit: the run does not end before its kills
    with Run(photos, tmp_path / "out", f"run.layout={layout}", **{VARIABLE: str(failpoints)}) as run:
        for name in names:
            run.kill_a_worker(name)
        for point in points:
            if point != "images":
                (failpoints / point).write_text("hold")
        for point in points:
            run.kill_whoever_stands_at(failpoints / f"{point}.held")
        assert run.end() == 0, run.said
        assert "Traceback" not in run.said, "the desk was lost, which costs nothing"
    assert_same(tmp_path / "out", expected)


def test_an_actor_that_dies_again_and_again_ends_the_run_in_our_words(
    photos: Path, expected: Path, tmp_path: Path
) -> None:
    with Run(photos, tmp_path / "out", "run.restarts=2", "run.actors=1") as run:
        for _ in range(3):
            run.kill_a_worker("(index)")
        assert run.end() == 1, run.said
        assert "workers died again and again, and were started again 2 times at most (run.restarts)" in run.said
        assert "worker-*.err" in run.said
        assert "the same command goes on from there" in run.said
        assert "Traceback" not in run.said
    with Run(photos, tmp_path / "out") as run:
        assert run.end() == 0, run.said
    assert_same(tmp_path / "out", expected)
