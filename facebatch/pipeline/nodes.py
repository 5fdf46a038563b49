"""The nodes that a run may use: those that carry its labels, and of them what nobody else has taken.

Ray would take a plan for more than that, too, and let its actors wait without a word.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from facebatch.config import Run
from facebatch.errors import FacebatchError, UsageError
from facebatch.pipeline.machine import LEAST_CPUS, TASK_CPUS, Machine, Node

Say = Callable[[str], object]
_SETTLED, _PATIENCE = 5.0, 30.0
"""Seconds: what is taken for so long is somebody else's; and until then a run before this one may be giving it back."""
_EVERY = 0.25
_GLANCE, _TELL_EVERY = 1, 10.0
"""Seconds in which no signal is noticed, and between words about what is waited for."""
_LEAST = LEAST_CPUS + 2 * TASK_CPUS
"""CPUs: an actor, a task that reads and one that writes."""


def selector(run: Run) -> dict[str, str]:
    """The labels that nodes must carry, as Ray takes them."""
    return dict(label.split("=", 1) for label in run.labels)


def asked_for(run: Run) -> str:
    """The room that a run waits for, in words; '' where it waits for none."""
    asked = (f"{n} {what}" for n, what in ((run.min_cpus, "CPUs"), (run.min_gpus, "GPUs")) if n)
    return " and ".join(asked)


def room(run: Run, tell: Say) -> Machine:
    """What is free on the nodes with the run's labels, as soon as that is what `run.min_cpus` and `run.min_gpus` ask
    for. A cluster that scales is asked for them.

    Raises UsageError where no node has the labels, FacebatchError where there is nothing, or not enough in
    `run.scale_seconds`.
    """
    asked, until = asked_for(run), time.monotonic() + run.scale_seconds
    if asked and not (run.address or os.environ.get("RAY_ADDRESS")) and (have := lacking(run)):
        raise FacebatchError(f"this machine has no room for {asked}: {have}. run.address names a cluster that has")
    while asked:
        _reserve(run, tell, until)
        if not (have := lacking(run)):
            break
        _check(run, until, have)
        tell(f"there was room for {asked}, but now {have}; waiting again")
        time.sleep(_GLANCE)
    return machine(run)


def _reserve(run: Run, tell: Say, until: float) -> None:
    """Return when the room was there, and free again.

    Asked for as a placement group, which is gone with this process whatever happens to it: what `request_resources`
    asks an autoscaler for stays asked for when a run is killed, and keeps the machines running.
    """
    asked, labels = asked_for(run), selector(run)
    bundles = [{"GPU": 1.0}] * run.min_gpus + [{"CPU": 1.0}] * run.min_cpus
    group = placement_group(bundles, bundle_label_selector=[labels] * len(bundles) if labels else None)
    told = time.monotonic()
    try:
        while not group.wait(_GLANCE):
            have = _have(_look(labels))
            _check(run, until, have)
            if time.monotonic() - told >= _TELL_EVERY:
                told = time.monotonic()
                tell(f"waiting for {asked}: {have}")
    finally:
        remove_placement_group(group)


def _check(run: Run, until: float, have: str) -> None:
    if time.monotonic() >= until:
        raise FacebatchError(
            f"the cluster had no room for {asked_for(run)} in {run.scale_seconds} s (run.scale_seconds): {have}. `ray "
            "status` tells what it waits for; or ask for less (run.min_cpus, run.min_gpus)"
        )


def lacking(run: Run) -> str:
    """What there is in place of the room that a run waits for, in words; '' where it is there."""
    if not asked_for(run):
        return ""
    here = _settled(selector(run))
    return _have(here) if here.cpus < run.min_cpus or here.gpus < run.min_gpus else ""


def machine(run: Run) -> Machine:
    """What is free on the nodes with the run's labels. Raises FacebatchError where that is nothing."""
    labels = selector(run)
    here = _settled(labels)
    where = f" with the labels {', '.join(run.labels)}" if labels else ""
    if labels and not here.nodes:
        known = sorted({f"{k}={v}" for node in _alive() for k, v in _labels(node).items() if "node-id" not in k})
        raise UsageError(f"no node carries the labels {', '.join(run.labels)}; there are {', '.join(known) or 'none'}")
    if here.cpus < _LEAST:
        if here.taken_cpus:
            raise FacebatchError(
                f"all CPUs of the nodes{where} are taken by others ({here.taken_cpus:g}): run the same command when "
                "they are free, or let it wait for them, as with run.min_cpus=4"
            )
        raise FacebatchError(
            f"there are no nodes{where} that offer CPUs: start some, or have a cluster that scales start them, as with "
            "run.min_cpus=16 run.min_gpus=2"
        )
    return here


def _settled(labels: dict[str, str]) -> Machine:
    """What is free as soon as it is all, or else when it has not changed for a while."""
    started = since = time.monotonic()
    before = _look(labels)
    while before.taken_cpus or before.taken_gpus:
        now = time.monotonic()
        if now - since >= _SETTLED or now - started >= _PATIENCE:
            break
        time.sleep(_EVERY)
        if (here := _look(labels)) != before:
            before, since = here, time.monotonic()
    return before


def _look(labels: dict[str, str]) -> Machine:
    free = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]
    nodes, cpus, gpus = [], 0.0, 0.0
    for node in _alive():
        if any(_labels(node).get(key) != value for key, value in labels.items()):
            continue
        has, left = node["Resources"], free.get(node["NodeID"], {})
        if not has.get("CPU") and not has.get("GPU"):
            continue  # a head that is kept free of work: its memory is for nobody
        # A GPU of which others have a part is not free: models would not fit beside theirs.
        whole = Node(has.get("CPU", 0.0), has.get("GPU", 0.0))
        mine = Node(_cut(left.get("CPU", 0.0)), float(int(left.get("GPU", 0.0) + 1e-6)), left.get("memory", 0.0))
        cpus += whole.cpus - mine.cpus
        gpus += whole.usable - mine.usable
        nodes.append(mine)
    return Machine(tuple(nodes), round(cpus, 2), gpus)


def _cut(cpus: float) -> float:
    """In hundredths: what is planned must not be more than there is."""
    return math.floor(cpus * 100 + 1e-6) / 100


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _labels(node: dict[str, Any]) -> dict[str, str]:
    return node.get("Labels") or {}


def _have(here: Machine) -> str:
    taken = f", {here.taken_cpus:g} CPUs and {here.taken_gpus:g} GPUs are taken by others"
    free = f"{here.cpus:g} CPUs and {here.gpus:g} GPUs are free"
    return free + (taken if here.taken_cpus or here.taken_gpus else "")
