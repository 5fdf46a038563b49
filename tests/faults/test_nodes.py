"""Nodes that are lost in the middle of a run: it goes on with those that are left, and nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.nodes import Nodes
from tests.faults.runs import Run, assert_same, workers

pytestmark = pytest.mark.faults

Start = Callable[..., Nodes]


@pytest.mark.parametrize(("layout", "actors"), [("fused", 3), ("split", 2)])
def test_one_of_three_nodes_is_lost_with_actors_at_work(
    layout: str, actors: int, nodes: Start, photos: Path, expected: Path, tmp_path: Path
) -> None:
    cluster = nodes(2)
    cluster.add(2)
    lost = cluster.add(2)
    words = [f"run.address={cluster.address}", f"run.layout={layout}", f"run.actors={actors}"]
    with Run(photos, tmp_path / "out", *words) as run:
        run.wait_for(run.commits)
        run.wait_for(lambda: workers(lost.processes(), "(index)", "(detect)", "(embed)"))
        assert workers(cluster.head.processes(), "_Desk"), "the desk is where the driver is"
        lost.kill()
        assert run.end() == 0, run.said
    assert_same(tmp_path / "out", expected)


@pytest.mark.parametrize(("layout", "cpus"), [("fused", 1), ("split", 2)])
def test_where_the_lost_actors_take_all_room_the_run_is_laid_out_anew(
    layout: str, cpus: int, nodes: Start, photos: Path, expected: Path, tmp_path: Path
) -> None:
    """One of two nodes: its actors start again on the other, and leave no CPU there for a task. Ray would wait on."""
    cluster = nodes(cpus)
    lost = cluster.add(cpus)
    words = [f"run.address={cluster.address}", f"run.layout={layout}", "run.patience=20"]
    with Run(photos, tmp_path / "out", *words) as run:
        run.wait_for(run.commits)
        lost.kill()
        assert run.end() == 0, run.said
        assert "1 of 2 nodes were lost, and for 1" in run.said
        assert "images are indexed already" in run.said, "what was committed is not computed again"
    assert_same(tmp_path / "out", expected)


def test_nodes_that_are_too_few_for_the_plan_end_the_run_and_with_another_the_same_command_goes_on(
    nodes: Start, photos: Path, expected: Path, tmp_path: Path
) -> None:
    cluster = nodes(1)
    lost = cluster.add(1)
    words = [f"run.address={cluster.address}", "run.layout=fused", "run.actors=3", "run.patience=20"]
    with Run(photos, tmp_path / "out", *words) as run:
        run.wait_for(run.commits)
        lost.kill()
        assert run.end() == 1, run.said
        assert "1 of 2 nodes were lost" in run.said
        assert "they are too few: this plan needs 1.25 CPUs and Ray has 1" in run.said
    cluster.add(1)
    with Run(photos, tmp_path / "out", *words) as run:
        assert run.end() == 0, run.said
    assert_same(tmp_path / "out", expected)
