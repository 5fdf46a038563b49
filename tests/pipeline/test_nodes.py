"""Which nodes a run may use, and what of them is free. On real clusters: `tests/faults/test_elastic.py`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from facebatch import config
from facebatch.config import Run
from facebatch.errors import FacebatchError, UsageError
from facebatch.pipeline import nodes
from facebatch.pipeline.machine import Machine, Node

HEAD: dict[str, Any] = {"NodeID": "h", "Alive": True, "Resources": {"memory": 9e9}, "Labels": {}}
BIG: dict[str, Any] = {
    "NodeID": "a",
    "Alive": True,
    "Resources": {"CPU": 8.0, "GPU": 2.0, "memory": 8e9},
    "Labels": {"team": "photos", "ray.io/node-id": "a"},
}
SMALL: dict[str, Any] = {"NodeID": "b", "Alive": True, "Resources": {"CPU": 4.0, "memory": 4e9}, "Labels": {}}
DEAD = BIG | {"NodeID": "d", "Alive": False}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tells Ray's part: which nodes there are, and at each look what is free on them."""

    def tell(found: Sequence[dict[str, Any]], *free: dict[str, dict[str, float]]) -> None:
        looks = itertools.chain(free, itertools.repeat(free[-1]))
        monkeypatch.setattr(ray, "nodes", lambda: list(found))
        monkeypatch.setattr(ray._private.state, "available_resources_per_node", lambda: next(looks))
        monkeypatch.setattr(nodes, "_SETTLED", 0.2)
        monkeypatch.setattr(nodes, "_EVERY", 0.01)

    return tell


ALL = {"a": {"CPU": 8.0, "GPU": 2.0, "memory": 8e9}, "b": {"CPU": 4.0, "memory": 4e9}}


def test_what_is_free_is_counted_node_by_node_and_a_head_without_work_is_none(cluster: Any) -> None:
    cluster([HEAD, BIG, SMALL, DEAD], ALL)
    assert nodes.machine(Run()) == Machine((Node(8, 2, 8e9), Node(4, 0, 4e9)))


def test_what_others_hold_is_not_planned_with(cluster: Any) -> None:
    cluster([BIG, SMALL], ALL | {"a": {"CPU": 5.5, "GPU": 1.5, "memory": 6e9}})
    here = nodes.machine(Run())
    assert here.nodes == (Node(5.5, 1, 6e9), Node(4, 0, 4e9)), "a part of a GPU is none"
    assert (here.taken_cpus, here.taken_gpus) == (2.5, 1)


def test_what_a_run_before_this_one_gives_back_is_waited_for(cluster: Any) -> None:
    cluster([BIG], {}, {"a": {"CPU": 3.0}}, {"a": ALL["a"]})
    assert nodes.machine(Run()).nodes == (Node(8, 2, 8e9),)


def test_only_nodes_with_all_labels_take_part(cluster: Any) -> None:
    cluster([BIG, SMALL], ALL)
    assert nodes.machine(Run(labels=("team=photos",))).nodes == (Node(8, 2, 8e9),)
    with pytest.raises(UsageError, match="no node carries the labels team=video, zone=a; there are team=photos"):
        nodes.machine(Run(labels=("team=video", "zone=a")))


@pytest.mark.parametrize("word", ["team", "team=", "=photos", "team=!photos", "team=in(a,b)"])
def test_labels_are_pairs(word: str) -> None:
    with pytest.raises(UsageError, match=r"run.labels.0: string should match"):
        config.load(None, [f'run.labels=["{word}"]'])
    assert nodes.selector(config.load(None, ["run.labels=[team=photos, ray.io/market-type=spot]"]).run) == {
        "team": "photos",
        "ray.io/market-type": "spot",
    }


def test_a_cluster_without_room_says_why(cluster: Any) -> None:
    cluster([HEAD], {})
    with pytest.raises(FacebatchError, match="there are no nodes that offer CPUs: .* with run.min_cpus=16"):
        nodes.machine(Run())
    cluster([BIG], {"a": {"GPU": 2.0}})
    with pytest.raises(FacebatchError, match=r"all CPUs of the nodes are taken by others \(8\): .* run.min_cpus=4"):
        nodes.machine(Run())


def test_a_plan_says_what_is_lacking_where_a_run_would_wait(cluster: Any) -> None:
    cluster([SMALL], ALL)
    assert nodes.lacking(Run()) == nodes.lacking(Run(min_cpus=4)) == ""
    assert nodes.lacking(Run(min_cpus=5)) == nodes.lacking(Run(min_gpus=1)) == "4 CPUs and 0 GPUs are free"
    assert nodes.asked_for(Run(min_cpus=5, min_gpus=1)) == "5 CPUs and 1 GPUs"


def test_gpus_whose_cpus_others_hold_are_taken_and_those_of_a_head_without_work_are_not(cluster: Any) -> None:
    head = HEAD | {"NodeID": "g", "Resources": {"GPU": 1.0}}
    cluster([head, BIG], {"a": {"CPU": 0.0, "GPU": 2.0}, "g": {"GPU": 1.0}})
    with pytest.raises(FacebatchError, match="all CPUs of the nodes are taken"):
        nodes.machine(Run())
    cluster([head, BIG, SMALL], ALL | {"a": {"CPU": 0.0, "GPU": 2.0}})
    assert (nodes.machine(Run()).gpus, nodes.machine(Run()).taken_gpus) == (0, 2)
    cluster([head, SMALL], ALL)
    assert (nodes.machine(Run()).gpus, nodes.machine(Run()).taken_gpus) == (0, 0)


def test_what_is_left_of_a_cpu_is_cut_and_not_rounded(cluster: Any) -> None:
    cluster([BIG], {"a": {"CPU": 7.6667, "GPU": 2.0}})
    assert nodes.machine(Run()).cpus == 7.66


def test_room_that_somebody_else_takes_first_is_waited_for_again(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a group is given back and looked at, a queued run may have it."""
    cluster([BIG], {"a": {"CPU": 1.0}}, {"a": {"CPU": 1.0}})
    groups: list[str] = []
    said: list[str] = []

    class Group:
        def wait(self, seconds: float) -> bool:
            groups.append("reserved")
            if groups.count("reserved") == 2:
                cluster([BIG], ALL)
            return True

    monkeypatch.setattr(nodes, "placement_group", lambda bundles, **_: Group())
    monkeypatch.setattr(nodes, "remove_placement_group", lambda group: groups.append("removed"))
    monkeypatch.setattr(nodes, "_SETTLED", 0.0)
    monkeypatch.setattr(nodes, "_GLANCE", 0.01)
    assert nodes.room(Run(min_cpus=8, address="head"), said.append).cpus == 8
    assert groups[::2] == ["reserved", "reserved"]
    (waited,) = said
    assert waited.startswith("there was room for 8 CPUs, but now 1 CPUs and 0 GPUs are free, 7 CPUs and 2 GPUs")


def test_room_that_others_take_again_and_again_is_given_up(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster([BIG], {"a": {"CPU": 1.0}})
    monkeypatch.setattr(nodes, "placement_group", lambda bundles, **_: SimpleNamespace(wait=lambda seconds: True))
    monkeypatch.setattr(nodes, "remove_placement_group", lambda group: None)
    monkeypatch.setattr(nodes, "_SETTLED", 0.0)
    monkeypatch.setattr(nodes, "_GLANCE", 0.01)
    with pytest.raises(FacebatchError, match="no room for 8 CPUs in 1 s .*: 1 CPUs and 0 GPUs are free, 7 CPUs and 2"):
        nodes.room(Run(min_cpus=8, scale_seconds=1, address="head"), lambda _: None)


def test_a_ray_of_our_own_does_not_grow(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster([BIG], ALL)
    with pytest.raises(FacebatchError, match="this machine has no room for 9 CPUs: 8 CPUs and 2 GPUs are free"):
        nodes.room(Run(min_cpus=9), lambda _: None)
