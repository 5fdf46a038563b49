"""The watch over a running job, with a cluster and a clock that are told what to be. No Ray is started here."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.exceptions

from facebatch.budget import Spent
from facebatch.pipeline import watch
from facebatch.pipeline.watch import SHRUNK_PATIENCE, Stranded, Watch


class Autoscaler:
    """Tells what may be used when it has been asked so many times before."""

    def __init__(self, unknown: int = 0) -> None:
        self.asked, self._unknown = 0, unknown

    def get_total_resources(self) -> Any:
        self.asked += 1
        return SimpleNamespace(cpu=0 if self.asked <= self._unknown else 4)


class World:
    """Nodes, a clock, and an operator that moves when told to."""

    def __init__(self, patience: float, desk: Any = None) -> None:
        self.desk = desk or Desk()
        self.nodes, self.now, self.taken = {"a", "b", "c"}, 1000.0, 0
        self._patience = patience
        self._watch = Watch()
        self._watch.before_execution_starts(self._executor())

    def wait(self, seconds: float) -> None:
        """Ray's loop goes round, ten times a second."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.1
            self._watch.on_execution_step(self._executor())

    def _executor(self) -> Any:
        operator = SimpleNamespace(metrics=SimpleNamespace(num_outputs_taken=self.taken))
        state = SimpleNamespace(total_enqueued_input_blocks=lambda: 3, total_enqueued_output_blocks=lambda: 0)
        topology = SimpleNamespace(items=lambda: [(operator, state)])
        known = {"facebatch.desk": self.desk, "facebatch.unreadable": 0.5, "facebatch.actors": 0}
        context = SimpleNamespace(execution_no_progress_timeout_s=self._patience, get_config=known.get)
        return SimpleNamespace(_topology=topology, _data_context=context, _cluster_autoscaler=Autoscaler())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return _world(monkeypatch, patience=900)


def _world(monkeypatch: pytest.MonkeyPatch, patience: float, desk: Any = None) -> World:
    made: list[World] = []
    monkeypatch.setattr(watch, "alive", lambda: set(made[0].nodes) if made else {"a", "b", "c"})
    monkeypatch.setattr(ray, "get", (desk or Desk()).get)
    monkeypatch.setattr(time, "monotonic", lambda: made[0].now if made else 1000.0)
    made.append(World(patience, desk))
    return made[0]


def test_a_standstill_of_a_whole_cluster_is_left_to_rays_own_guard(world: World) -> None:
    world.wait(800)


def test_a_lost_node_is_no_trouble_while_something_moves(world: World) -> None:
    world.nodes.remove("b")
    for _ in range(20):
        world.wait(SHRUNK_PATIENCE / 2)
        world.taken += 1


def test_a_standstill_after_a_loss_ends_the_execution_and_says_so(world: World) -> None:
    world.nodes.remove("b")
    world.wait(SHRUNK_PATIENCE - 2)
    with pytest.raises(Stranded, match=r"1 of 3 nodes were lost, and for 6\d s nothing has moved on those"):
        world.wait(5)


def test_a_node_that_came_instead_of_a_lost_one_does_not_hide_the_loss(world: World) -> None:
    """Ray keeps what waits for room waiting where the new node has less of it."""
    world.nodes = {"a", "b", "d"}
    with pytest.raises(Stranded):
        world.wait(SHRUNK_PATIENCE + 5)


def test_it_is_earlier_than_rays_guard_also_where_that_is_set_short(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(monkeypatch, patience=20)
    world.nodes.remove("b")
    with pytest.raises(Stranded, match="for 1[01] s"):
        world.wait(15)


class Desk:
    """Counters that answer, or do not."""

    def __init__(self) -> None:
        self.counts: dict[str, int] | None = {}
        self.born = 1.0
        self.told = SimpleNamespace(remote=lambda: self)

    def get(self, desk: Desk, timeout: float) -> tuple[float, dict[str, int]]:
        if self.counts is None:
            raise ray.exceptions.GetTimeoutError("busy")
        return self.born, self.counts


def test_a_storage_that_fails_for_most_images_ends_the_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    monkeypatch.setattr(ray, "get", desk.get)
    world = _world(monkeypatch, 900, desk)
    desk.counts = {"images": 1000, "STORAGE_ERROR": 100}
    world.wait(70)
    desk.counts = None
    world.wait(20)
    desk.counts = {"images": 2000, "STORAGE_ERROR": 1000}
    with pytest.raises(Spent, match="900 of the last 1000 images"):
        world.wait(70)


def test_a_desk_that_was_started_again_is_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    monkeypatch.setattr(ray, "get", desk.get)
    world = _world(monkeypatch, 900, desk)
    desk.counts = {"images": 300}
    world.wait(70)
    desk.born, desk.counts = 2.0, {"images": 600, "STORAGE_ERROR": 160}
    world.wait(70)


def test_a_watch_that_was_told_nothing_does_not_begin() -> None:
    context = SimpleNamespace(get_config=lambda key: None)
    with pytest.raises(RuntimeError, match="before it was told"):
        Watch().before_execution_starts(SimpleNamespace(_data_context=context))


def test_work_is_dealt_out_when_it_is_known_what_may_be_used() -> None:
    """Ray Data takes the first answer, which is that there is nothing, for a second."""
    autoscaler = Autoscaler(unknown=3)
    watch._limited(autoscaler)
    assert autoscaler.asked == 4


def test_an_autoscaler_that_never_tells_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LIMITS_PATIENCE", 0.05)
    autoscaler = Autoscaler(unknown=10**9)
    watch._limited(autoscaler)
    assert 0 < autoscaler.asked < 10


class Pool:
    """Stands for the operator of a pool of actors, which has finished so many parcels."""

    def __init__(self, finished: int) -> None:
        self.metrics = SimpleNamespace(num_tasks_finished=finished)


def _rests(monkeypatch: pytest.MonkeyPatch, queued: int, seconds: float, actors: int = 2) -> list[float]:
    """What Ray's loop rests when so many parcels lie before two actors, and the last ten took so many seconds each."""
    rested: list[float] = []
    now = [1000.0]
    monkeypatch.setattr(time, "sleep", rested.append)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(watch, "ActorPoolMapOperator", Pool)
    before = SimpleNamespace(total_enqueued_input_blocks=lambda: 100)
    here = SimpleNamespace(total_enqueued_input_blocks=lambda: queued)
    ours = Watch()
    ours._actors, ours._pace, ours._looked = actors, watch.Pace(), float("inf")
    for finished, now[0] in ((0, 1000.0), (3, 1100.0), (13, 1100.0 + seconds * 10 / 2)):
        topology = SimpleNamespace(items=lambda done=finished: [(SimpleNamespace(), before), (Pool(done), here)])
        ours.on_execution_step(SimpleNamespace(_topology=topology))
    return rested


@pytest.mark.parametrize(("queued", "rests"), [(3, [0.25]), (2, [0.25]), (1, [])])
def test_rays_loop_rests_while_there_is_work_for_all_actors(
    monkeypatch: pytest.MonkeyPatch, queued: int, rests: list[float]
) -> None:
    """At the end, and at the beginning, it goes round as often as it can."""
    assert _rests(monkeypatch, queued, seconds=3.0) == rests


@pytest.mark.parametrize(("seconds", "rests"), [(100, [0.25]), (1, [0.125]), (0.3, [])])
def test_it_rests_for_a_part_of_what_a_parcel_takes_and_not_between_short_ones(
    monkeypatch: pytest.MonkeyPatch, seconds: float, rests: list[float]
) -> None:
    """On a GPU, or where archives are cut into small containers, it is the loop that actors wait for."""
    assert _rests(monkeypatch, 10, seconds) == rests


def test_rays_loop_goes_on_where_tasks_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _rests(monkeypatch, 10, 3.0, actors=0) == []
