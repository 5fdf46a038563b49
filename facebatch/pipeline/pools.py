"""How the work is laid out on a machine: which layout, how many actors, with which share of what. Pure arithmetic.

The plan is printed with its reasons before a run starts, and one that cannot fit is refused then: Ray would not refuse
it. Two pools that each ask for a whole GPU of one crawl at a block every ten seconds, without a word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from facebatch import config
from facebatch.errors import UsageError
from facebatch.session import CPU, CUDA
from facebatch.stages import Place

TASK_CPUS = 0.25
"""What a read, decode, chip or write task asks for. They are short, and an actor pool must never starve them."""
_LEAST_CPUS = 0.25
"""What an actor asks for at least: more than four on a core only take turns."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What Ray says it has, on all nodes together. Memory in bytes."""

    cpus: float
    gpus: float
    memory: float


@dataclass(frozen=True, slots=True)
class Work:
    """How much there is to do. `images` is an estimate where containers have not been read yet."""

    images: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Pool:
    """Actors of one kind: how many, the CPUs and GPUs each asks for, and where its stages run."""

    name: str
    actors: int
    cpus: float
    gpus: float
    place: Place


@dataclass(frozen=True, slots=True)
class Layout:
    """A plan that fits. `why` holds a sentence for each decision."""

    name: str
    pools: tuple[Pool, ...]
    tasks: int
    """Kinds of tasks beside the pools."""
    block_bytes: int
    commit_images: int
    why: tuple[str, ...]


def lay_out(machine: Machine, run: config.Run, work: Work, available: list[str]) -> Layout:
    """The layout for this machine, configuration and amount of work. available: providers of the installed runtime.

    Raises UsageError for a plan that cannot fit.
    """
    provider, why_provider = _provider(machine, run, available)
    name, why_name = _name(machine, run, provider)
    pools, why_pools = (_fused if name == "fused" else _split)(machine, run, provider)
    tasks = 2 if name == "fused" else 4
    actors = sum(pool.actors for pool in pools)
    block = min(max(work.bytes // (8 * actors), 2 << 20), 16 << 20)
    commit = run.commit_images or min(max(work.images // 16, 128), 2048)
    why_sizes = f"blocks of {block >> 20} MiB, a commit every {commit} images: about {work.images} images to do"
    layout = Layout(name, pools, tasks, block, commit, (why_provider, why_name, why_pools, why_sizes))
    check(layout, machine)
    return layout


def check(layout: Layout, machine: Machine) -> None:
    """Raises UsageError unless all pools and one task of each kind fit on the machine at the same time."""
    cpus = sum(pool.actors * pool.cpus for pool in layout.pools) + layout.tasks * TASK_CPUS
    gpus = sum(pool.actors * pool.gpus for pool in layout.pools)
    pools = ", ".join(f"{p.actors} {p.name} x ({p.cpus:g} CPU, {p.gpus:g} GPU)" for p in layout.pools)
    for need, have, what in ((cpus, machine.cpus, "CPUs"), (gpus, machine.gpus, "GPUs")):
        if need > have + 1e-6:
            raise UsageError(
                f"this plan needs {need:g} {what} and Ray has {have:g}: {pools}, and {layout.tasks} kinds of tasks of "
                f"{TASK_CPUS:g} CPU; lower run.actors, or leave it at 0 and the planner decides"
            )


def _provider(machine: Machine, run: config.Run, available: list[str]) -> tuple[str, str]:
    if run.provider != "auto":
        if run.provider == CUDA and not machine.gpus:
            raise UsageError("run.provider=cuda, but Ray sees no GPU on this machine; leave it at auto, or add one")
        return run.provider, f"on {run.provider}, as asked for"
    if machine.gpus and CUDA in available:
        return CUDA, f"on cuda: Ray sees {machine.gpus:g} GPU"
    if machine.gpus:
        return CPU, f"on cpu: there is a GPU, but this ONNX Runtime has only {', '.join(available)}"
    return CPU, "on cpu: there is no GPU"


def _name(machine: Machine, run: config.Run, provider: str) -> tuple[str, str]:
    if run.layout != "auto":
        return run.layout, f"layout {run.layout}, as asked for"
    if provider == CUDA and machine.gpus >= 2:
        return "split", "layout split: with two GPUs or more, detection and embedding scale apart"
    return "fused", "layout fused: each image is decoded once and no pixels change process"


def _fused(machine: Machine, run: config.Run, provider: str) -> tuple[tuple[Pool, ...], str]:
    spare = max(machine.cpus - max(2 * TASK_CPUS, machine.cpus / 16), 0.0)
    if provider == CUDA:
        actors = run.actors or max(1, min(int(machine.gpus), int(spare / _LEAST_CPUS)))
        gpus = _share(machine.gpus, actors)
        cpus = max(_floor(spare / actors), _LEAST_CPUS)
        place = Place(CUDA, run.threads or max(1, int(cpus)), gpus)
        why = f"{actors} actor(s) with {gpus:g} GPU each, decoding on {place.threads} thread(s)"
    else:
        actors = run.actors or max(1, int(machine.cpus - machine.cpus // 8))
        gpus, cpus = 0.0, max(_floor(min(1.0, spare / actors)), _LEAST_CPUS)
        place = Place(CPU, run.threads or 1)
        why = f"{actors} actor(s) of {place.threads} thread(s) on {machine.cpus:g} CPUs: more actors beat more threads"
    return (Pool("index", actors, cpus, gpus, place),), why


def _split(machine: Machine, run: config.Run, provider: str) -> tuple[tuple[Pool, ...], str]:
    spare = max(machine.cpus - 4 * TASK_CPUS, 0.0)
    most = int(machine.gpus) if provider == CUDA else int(machine.cpus)
    most = min(most, int(spare / _LEAST_CPUS))
    embedders = run.actors or max(1, most // 3 if provider == CUDA else most // 2)
    detectors = run.actors or max(1, most - embedders)
    gpus = _share(machine.gpus, detectors + embedders) if provider == CUDA else 0.0
    cpus = _LEAST_CPUS if provider == CUDA else max(_floor(min(1.0, spare / (detectors + embedders))), _LEAST_CPUS)
    place = Place(provider, run.threads or 1, gpus or 1.0)
    pools = (Pool("detect", detectors, cpus, gpus, place), Pool("embed", embedders, cpus, gpus, place))
    return pools, f"{detectors} detector(s) and {embedders} embedder(s), {gpus:g} GPU each; decoding in tasks"


def _share(gpus: float, actors: int) -> float:
    """A whole GPU for each actor where there are enough, else equal parts."""
    return 1.0 if actors <= gpus else _floor(gpus / actors)


def _floor(share: float) -> float:
    """Shares are cut, not rounded: Ray counts in steps of 0.0001 and the sum must not exceed the machine."""
    return math.floor(share * 100) / 100
