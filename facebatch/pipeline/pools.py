"""How the work is laid out on a machine: which layout, how many actors, with which share of what. Pure arithmetic.

The plan is printed with its reasons before a run starts, and one that cannot fit is refused then: Ray would not refuse
it. Two pools that each ask for a whole GPU of one crawl at a block every ten seconds, without a word; an actor that
asks for more than any node has waits for ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from facebatch import config
from facebatch.errors import FacebatchError, UsageError
from facebatch.forecast import Sample
from facebatch.pipeline.machine import LEAST_CPUS, TASK_CPUS, Machine, Node, provider_of
from facebatch.reader import Parcels
from facebatch.session import CPU, CUDA
from facebatch.sink import commit_images
from facebatch.stages import Place

_WORKER_BYTES = 600 << 20
"""Of an actor without pictures: Python, ONNX Runtime and both default networks (measured: 450 MiB), and a block."""
_TASK_BYTES = 300 << 20
"""Of a worker without networks and pictures."""
_PARCEL_SECONDS, _BATCH_SECONDS = 3.0, 0.5
"""Of one actor's work in a parcel: what the last ones may take alone, against the 20 ms that Ray takes for each; and in
a batch, which is what is tried again where a worker dies."""
_LARGEST_BATCH, _LARGEST_PARCEL = 256, 4096
_ON_CPU, _ON_GPU, _WITH_VIEWS = 128, 256, 64
"""Images in a parcel at most where nothing was measured: three seconds of a core, on a GPU less than one; and two
batches where views travel."""
_VIEWS = 96 << 20
"""Bytes of the views in a parcel at most: a few small files have more of them than a hundred large ones."""
_PIXEL_BYTES = 8
"""Of a decoded pixel: four in Pillow's buffer, three in ours, and the pyramid above it."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much there is to do, in how many shards. `images` is an estimate where containers have not been read yet.
    view_bytes: what the detector is shown of an image."""

    images: int
    bytes: int
    shards: int = 1
    view_bytes: int = 0


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
    tasks: tuple[float, ...]
    """The CPUs that a task of each kind beside the pools asks for."""
    readers: int | None
    writers: int | None
    """Tasks that read and write at the same time at most; None: as many as there is room for."""
    parcels: Parcels
    batch: int
    """Images that an actor is given of its parcel at once."""
    commit_parcels: int
    memory: int
    """Bytes that the workers hold at most, each as many pixels as it may."""
    why: tuple[str, ...]

    @property
    def decode_cpus(self) -> float:
        """What a task that decodes asks for."""
        return self.tasks[-1]

    @property
    def actors(self) -> int:
        return sum(pool.actors for pool in self.pools)

    @property
    def facts(self) -> dict[str, dict[str, float]]:
        """Of each pool what a run's record says: without it, a worker's seconds are neither a core's nor a GPU's."""
        return {
            pool.name: {"actors": pool.actors, "threads": pool.place.threads, "cpus": pool.cpus, "gpus": pool.gpus}
            for pool in self.pools
        }


def lay_out(
    machine: Machine, run: config.Run, work: Work, available: list[str], sample: Sample | None = None
) -> Layout:
    """The layout for this machine, configuration and amount of work. available: providers of the installed runtime.
    sample: what some of the images took there.

    Raises UsageError for a plan that cannot fit.
    """
    provider, why_provider = provider_of(machine, run, available)
    name, why_name = _name(machine, run, provider)
    if name == "split" and run.layout == "auto" and sum(map(_split_actors, machine.with_gpus())) < 2:
        name, why_name = "fused", "layout fused: beside their GPUs these nodes have too few CPUs for pools apart"
    pools, why_pools = (_fused if name == "fused" else _split)(machine, run, provider, sample)
    if machine.taken_cpus or machine.taken_gpus:
        why_pools += f"; others have taken {machine.taken_cpus:g} CPUs and {machine.taken_gpus:g} GPUs"
    actors = sum(pool.actors for pool in pools)
    tasks, decoding = _tasks(machine, run, name, pools, sample)
    each = _worker_bytes(sample)
    memory = actors * each + (actors * _pictures(run) if name == "fused" else decoding * _task_bytes(run))
    commit = commit_images(run.commit_images, work.images)
    threads = max(pool.place.threads for pool in pools)
    seconds = _seconds(sample, provider, threads) if sample else None
    parcels = replace(_parcels(name, provider, actors, work, commit, run.parcel_images, seconds), hands=actors)
    batch = run.batch or _batch(seconds)
    holders = f"{actors} actor(s)" if name == "fused" else f"{decoding} decoding task(s) beside {actors} actor(s)"
    hold = f"{run.megapixels} megapixels each, or one larger image"
    if 0 < machine.memory < memory:
        hold += f". Ray has {machine.memory / 2**30:.1f} GiB: lower run.megapixels or run.actors if workers are killed"
    why_memory = f"about {memory / 2**30:.1f} GiB of memory: {holders} hold {hold}"
    files = "; loose files are read by the actors" if parcels.unread else ""
    sizes = (
        f"parcels of {parcels.images} images or {parcels.bytes >> 20} MiB in batches of {batch}{files}, a commit every "
        f"{commit} images"
    )
    why_sizes = f"{sizes}: about {work.images} images to do"
    why = (why_provider, why_name, why_pools, why_memory, why_sizes)
    # Each is a process, which costs two seconds of a core to start. What a CPU computes, one of them writes for twenty
    # actors; one that reads does so for containers, since actors read what is loose.
    few = math.ceil(actors / 2)
    readers, writers = few if parcels.unread else None, few if provider == CPU else None
    commits = math.ceil(commit / _usual(parcels, work))
    layout = Layout(name, pools, tasks, readers, writers, parcels, batch, commits, memory, why)
    if not _placed(layout, machine):  # what is free is in pieces, into which small tasks fit
        layout = replace(layout, tasks=(TASK_CPUS,) * len(tasks))
    check(layout, machine)
    return layout


def _parcels(
    name: str, provider: str, actors: int, work: Work, commit: int, asked: int, seconds: float | None
) -> Parcels:
    """What a stage gets at once: on a GPU enough for some batches, on a CPU little to hold, to lose, and to wait for at
    the end. seconds: of an actor for an image, where that was measured."""
    largest = (64 << 20) if provider == CUDA else (16 << 20)
    size = min(max(work.bytes // (8 * actors), 2 << 20), largest)
    if name == "split":
        return Parcels(max(1, min(asked or _WITH_VIEWS, _VIEWS // max(work.view_bytes, 1))), size)
    fitting = min(max(round(_PARCEL_SECONDS / seconds), 8), _LARGEST_PARCEL) if seconds else None
    if provider == CUDA:
        images = asked or min(fitting or _ON_GPU, max(work.images // (8 * actors), _ON_GPU))
        return Parcels(min(images, commit), size)  # which would wait for files that its actor reads
    # Handed over, the bytes of loose files would be copied four times.
    images = asked or min(max(work.images // (32 * actors), 8), fitting or _ON_CPU)
    return Parcels(min(images, commit), size, unread=True)


def _seconds(sample: Sample, provider: str, threads: int) -> float:
    """Of an actor for an image. Beside a GPU its threads decode while that works; else they share all of it."""
    if provider == CPU:
        return sample.seconds / sample.images / threads
    cores, networks = _apart(sample)
    return max(cores / threads, networks) / sample.images


def _apart(sample: Sample) -> tuple[float, float]:
    """Seconds of decoding and cutting out, and of both networks."""
    decode, detect, chip, embed = (sample.spent.get(part, 0.0) for part in ("decode", "detect", "chip", "embed"))
    return decode + chip, max(detect + embed, 1e-9)


def _batch(seconds: float | None) -> int:
    """Images that are handed to a stage at once."""
    return min(max(round(_BATCH_SECONDS / seconds), config.BATCH), _LARGEST_BATCH) if seconds else config.BATCH


def _worker_bytes(sample: Sample | None) -> int:
    """Of an actor without pictures. What was measured may hold some, so it never makes an actor smaller."""
    return max(_WORKER_BYTES, _TASK_BYTES + sample.network_bytes) if sample else _WORKER_BYTES


def _usual(parcels: Parcels, work: Work) -> float:
    """Images in a parcel on average: the last one of each shard is smaller."""
    shard = max(work.images / work.shards, 1)
    most = parcels.images if parcels.unread else min(parcels.images, parcels.bytes * work.images / max(work.bytes, 1))
    return shard / math.ceil(shard / max(most, 1))


def check(layout: Layout, machine: Machine) -> None:
    """Raises UsageError unless all pools and one task of each kind fit on the nodes at the same time; FacebatchError
    where they would, had others not taken a part of these."""
    pools = ", ".join(f"{p.actors} {p.name} x ({p.cpus:g} CPU, {p.gpus:g} GPU)" for p in layout.pools)
    asked = f"{pools}, and {len(layout.tasks)} kinds of tasks of {TASK_CPUS:g} CPU or more"
    cpus = sum(pool.actors * pool.cpus for pool in layout.pools) + sum(layout.tasks)
    gpus = sum(pool.actors * pool.gpus for pool in layout.pools)
    advice = "lower run.actors, or leave it at 0 and the planner decides"
    for need, have, taken, what in (
        (cpus, machine.cpus, machine.taken_cpus, "CPUs"),
        (gpus, machine.gpus, machine.taken_gpus, "GPUs"),
    ):
        if need > have + 1e-6:
            free = f" free, {taken:g} are taken by others" if taken else ""
            later = taken and need <= have + taken + 1e-6
            kind = FacebatchError if later else UsageError
            raise kind(f"this plan needs {need:g} {what} and Ray has {have:g}{free}: {asked}; {advice}")
    if not _placed(layout, machine):
        nodes = ", ".join(f"({n.cpus:g} CPU, {n.gpus:g} GPU)" for n in machine.nodes)
        raise UsageError(f"this plan does not fit on the nodes {nodes}: {asked}; {advice}")


def _placed(layout: Layout, machine: Machine) -> bool:
    """Whether every actor and a task of each kind find a node, the hungriest first, each where most is free."""
    free = [[node.cpus, node.gpus] for node in machine.nodes]
    asked = [(pool.gpus, pool.cpus) for pool in layout.pools for _ in range(pool.actors)]
    for gpus, cpus in sorted(asked, reverse=True) + [(0.0, cpus) for cpus in layout.tasks]:
        fitting = [node for node in free if node[0] + 1e-6 >= cpus and node[1] + 1e-6 >= gpus]
        if not fitting:
            return False
        # What needs no GPU goes where there is none, as long as there is room.
        best = max(fitting, key=lambda node: (bool(node[1]) == bool(gpus), node[0]))
        best[0] -= cpus
        best[1] -= gpus
    return True


def _tasks(
    machine: Machine, run: config.Run, name: str, pools: tuple[Pool, ...], sample: Sample | None
) -> tuple[tuple[float, ...], int]:
    """The kinds of tasks (read, write; chip, decode), and how many may decode at a time."""
    if name == "fused":
        return (TASK_CPUS, TASK_CPUS), 0
    left = machine.cpus - sum(pool.actors * pool.cpus for pool in pools) - 2 * TASK_CPUS
    # A task that decodes keeps a core busy and holds a picture. Where cores are few, four of them take turns on one.
    decode = 1.0 if left >= 4 * len(machine.nodes) else TASK_CPUS
    if machine.memory:  # where memory is for fewer, each asks for more of the cores
        spare = machine.memory - sum(pool.actors for pool in pools) * _worker_bytes(sample)
        widest = max(node.cpus for node in machine.nodes) / 4
        decode = min(max(decode, _floor(left / max(1, spare // _task_bytes(run)))), max(decode, widest))
        decode = min(decode, max(_floor(left / 2), TASK_CPUS))  # one of each kind has to fit
    return (TASK_CPUS, TASK_CPUS, decode, decode), max(1, int(left / decode))


def _name(machine: Machine, run: config.Run, provider: str) -> tuple[str, str]:
    if run.layout != "auto":
        return run.layout, f"layout {run.layout}, as asked for"
    if provider == CUDA and machine.gpus >= 2:
        return "split", "layout split: with two GPUs or more, detection and embedding scale apart"
    if provider == CUDA and any(node.cpus >= 1 and not node.gpus for node in machine.nodes):
        return "split", "layout split: nodes without a GPU decode for the one that has it"
    return "fused", "layout fused: each image is decoded once and no pixels change process"


Pools = tuple[tuple[Pool, ...], str]
"""And why."""


def _fused(machine: Machine, run: config.Run, provider: str, sample: Sample | None) -> Pools:
    if provider == CUDA:
        nodes = machine.with_gpus()
        most = sum(int(n.usable) for n in nodes)
        actors = run.actors or max(1, most)
        gpus = _share(machine.gpus, actors)
        each = [_floor(n.spare / max(1, int(n.usable / gpus))) for n in nodes if n.spare >= LEAST_CPUS]
        cpus = max(min(each, default=0.0), LEAST_CPUS)
        place = Place(CUDA, run.threads or max(1, int(cpus)), gpus)
        why = f"{actors} actor(s) with {gpus:g} GPU each, decoding on {place.threads} thread(s)"
        if sample:
            why += f"; to keep it busy takes {_decoders(sample):.1f}"
        return (Pool("index", actors, cpus, gpus, place),), why
    wanted = [max(1, int(n.cpus - n.cpus // 8)) if n.spare >= LEAST_CPUS else 0 for n in machine.nodes]
    holds = _worker_bytes(sample) + _pictures(run)
    fitting = [_in_memory(n, w, holds) for n, w in zip(machine.nodes, wanted, strict=True)]
    actors = run.actors or max(1, sum(fitting))
    cpus = _each(machine, run, fitting, _spare_fused)
    idle = min((w // f for w, f in zip(wanted, fitting, strict=True) if f), default=1)
    place = Place(CPU, run.threads or (1 if run.actors else max(idle, 1)))
    why = f"{actors} actor(s) of {place.threads} thread(s) on {machine.cpus:g} CPUs: more actors beat more threads"
    if sum(fitting) < sum(wanted) and not run.actors:
        why += f"; memory is for {actors}, not for {sum(wanted)} (lower run.megapixels for more)"
    return (Pool("index", actors, cpus, 0.0, place),), why


def _split(machine: Machine, run: config.Run, provider: str, sample: Sample | None) -> Pools:
    nodes = machine.with_gpus() if provider == CUDA else list(machine.nodes)
    wanted = [int(n.usable if provider == CUDA else n.cpus) for n in nodes]
    fitting = [min(w, _split_actors(n)) for n, w in zip(nodes, wanted, strict=True)]
    if provider == CPU:
        holds = _worker_bytes(sample) + _task_bytes(run)
        fitting = [_in_memory(n, w, holds) for n, w in zip(nodes, fitting, strict=True)]
    most = sum(fitting)
    share = _embedding(sample) if sample and sample.faces else 1 / 3 if provider == CUDA else 1 / 2
    embedders = run.actors or max(1, min(int(most * share + 1e-9), most - 1))
    detectors = run.actors or max(1, most - embedders)
    gpus = _share(machine.gpus, detectors + embedders) if provider == CUDA else 0.0
    if provider == CUDA:
        cpus = LEAST_CPUS
    elif run.actors or most < 2:
        spare = sum(map(_spare_split, nodes))
        cpus = max(_floor(min(1.0, spare / (detectors + embedders))), LEAST_CPUS)
    else:
        cpus = _each(machine, run, fitting, _spare_split)
    place = Place(provider, run.threads or 1, gpus or 1.0)
    pools = (Pool("detect", detectors, cpus, gpus, place), Pool("embed", embedders, cpus, gpus, place))
    where = " on all nodes" if len(machine.nodes) > 1 else ""
    return pools, f"{detectors} detector(s) and {embedders} embedder(s), {gpus:g} GPU each; decoding in tasks{where}"


def _embedding(sample: Sample) -> float:
    """The share of the embedder in what both networks take."""
    return sample.spent.get("embed", 0.0) / _apart(sample)[1]


def _decoders(sample: Sample) -> float:
    """Threads that have to decode and cut out for one that is busy with the networks."""
    cores, networks = _apart(sample)
    return cores / networks


def _each(machine: Machine, run: config.Run, actors: Iterable[int], spare: Callable[[Node], float]) -> float:
    """The CPUs that each actor asks for, so that on every node there is room for tasks beside its actors."""
    if run.actors:
        return max(_floor(min(1.0, sum(map(spare, machine.nodes)) / run.actors)), LEAST_CPUS)
    shares = [spare(node) / n for node, n in zip(machine.nodes, actors, strict=True) if n]
    return max(_floor(min(1.0, *shares)) if shares else 0.0, LEAST_CPUS)


def _spare_fused(node: Node) -> float:
    return node.spare


def _split_actors(node: Node) -> int:
    """As many as there are CPUs for."""
    return int(_spare_split(node) / LEAST_CPUS + 1e-9)


def _spare_split(node: Node) -> float:
    return max(node.cpus - 4 * TASK_CPUS, 0.0)


def _pictures(run: config.Run) -> int:
    """Bytes of the pixels that a worker may hold."""
    return run.megapixels * 1_000_000 * _PIXEL_BYTES


def _task_bytes(run: config.Run) -> int:
    """Bytes of a worker that decodes and has no network."""
    return _TASK_BYTES + _pictures(run)


def _in_memory(node: Node, actors: int, actor_bytes: int) -> int:
    """As many of these actors as the node has memory for; one in any case."""
    return actors if not node.memory or not actors else max(1, min(actors, int(node.memory / actor_bytes)))


def _share(gpus: float, actors: int) -> float:
    """A whole GPU for each actor where there are enough, else an equal part of one: actors do not reach across two."""
    return 1.0 if actors <= gpus else _floor(1 / math.ceil(actors / max(gpus, 1)))


def _floor(share: float) -> float:
    """Shares are cut, not rounded: Ray counts in steps of 0.0001 and the sum must not exceed the machine."""
    return math.floor(share * 100 + 1e-9) / 100
