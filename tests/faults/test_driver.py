"""The driver is stopped or dies, here or on a cluster that lives on: the same command goes on at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.nodes import Nodes
from tests.faults.runs import Run, assert_same, workers

pytestmark = pytest.mark.faults

Start = Callable[..., Nodes]
STOPPED = "stopped; what was committed stays, and the same command goes on from there"


def test_a_driver_that_dies_leaves_a_cluster_on_which_the_same_command_goes_on_at_once(
    nodes: Start, photos: Path, expected: Path, tmp_path: Path
) -> None:
    cluster = nodes(4)
    address = f"run.address={cluster.address}"
    with Run(photos, tmp_path / "out", address) as run:
        run.wait_for(run.commits)
        orphans = run.wait_for(lambda: workers(cluster.head.processes(), "(index)"))
        run.process.send_signal(signal.SIGKILL)
        assert run.end() == -signal.SIGKILL
    with Run(photos, tmp_path / "out", address) as run:
        assert run.end() == 0, run.said
        assert "images are indexed already" in run.said
    assert_same(tmp_path / "out", expected)
    assert psutil.wait_procs(orphans, timeout=60)[1] == [], "the workers of a dead driver end"


def test_a_job_that_is_stopped_like_ray_job_stop_does_has_ended_when_it_is_killed(
    nodes: Start, photos: Path, expected: Path, tmp_path: Path
) -> None:
    """SIGTERM, three seconds, SIGKILL: at the start, while actors start, and in the middle."""
    cluster, output = nodes(4), tmp_path / "out"
    address = f"run.address={cluster.address}"
    moments: list[Callable[[Run], object]] = [
        lambda run: "shards to do" in run.said,
        lambda run: "a commit every" in run.said,
        lambda run: run.commits() > before + 1,
    ]
    for number, moment in enumerate(moments, 1):
        with Run(photos, output, address) as run:
            before = run.commits()
            run.wait_for(lambda run=run, moment=moment: moment(run))  # type: ignore[misc]
            run.process.terminate()
            time.sleep(3)
            run.process.kill()
            run.end()
        assert (output / "_facebatch" / "epochs" / f"{number:05d}.ended").exists(), "another host need not wait"
    with Run(photos, output, address) as run:
        assert run.end() == 0, run.said
    assert_same(output, expected)


@pytest.mark.parametrize("signals", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_ends_in_seconds_and_leaves_nothing_behind(
    signals: signal.Signals, photos: Path, tmp_path: Path
) -> None:
    with Run(photos, tmp_path / "out") as run:
        run.wait_for(run.commits)
        family = run.family()
        assert len(family) > 5
        run.process.send_signal(signals)
        assert run.end(longest=60) == 1, run.said
        assert STOPPED in run.said
        assert "Traceback" not in run.said
        assert psutil.wait_procs(family, timeout=30)[1] == []
    assert (tmp_path / "out" / "_facebatch" / "epochs" / "00001.ended").exists()
