"""The desk: a small actor beside the driver, where all workers note what they have done and what they are about to do.

Its counters are for the progress display and the run's record: losing them must never cost a run, so additions are not
awaited, and what cannot be read stays as it was. Its journal (`facebatch.suspects`) outlives the workers: what is noted
there is awaited. They are one process, because each of Ray's takes a hundredth of a core to be there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from logging import WARNING
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from facebatch import logs, suspects
from facebatch.budget import REASONS
from facebatch.pipeline.metrics import Metrics
from facebatch.slowest import Slow, Slowest
from facebatch.suspects import Key
from facebatch.trial import Verdict
from facebatch.work import Work

_PATIENCE = 5.0
"""Seconds for an answer."""


class Desk:
    """The desk as the driver knows it, with whom it lives and dies whatever happens to other nodes.

    `handle` is what workers add to. A process of it that dies is started again; the counts go on from what was read.
    """

    def __init__(self, run: int, planned: int) -> None:
        """run: its number; planned: images that it is to commit (both for metrics)."""
        here = ray.get_runtime_context().get_node_id()
        self.handle = _Desk.options(  # type: ignore[attr-defined]
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
        ).remote(run, planned)
        self._before: Counter[str] = Counter()
        self._last: Counter[str] = Counter()

    def read(self) -> dict[str, int]:
        """The counts, as far as they are known."""
        try:
            now = Counter(ray.get(self.handle.read.remote(), timeout=_PATIENCE))
        except ray.exceptions.RayError:
            return dict(self._before + self._last)
        if now["images"] < self._last["images"]:  # another process than before, which began with nothing
            self._before += self._last
        self._last = now
        return dict(self._before + self._last)

    def first_byte(self) -> float | None:
        """When the first reader began, in seconds of the clock; None where that is not known."""
        try:
            first: float | None = ray.get(self.handle.first.remote(), timeout=_PATIENCE)
        except ray.exceptions.RayError:
            return None
        return first

    def seats(self) -> dict[str, list[str]]:
        """For each stage the GPUs that its workers see, as CUDA counts them on their node; '' for none."""
        try:
            seats: dict[str, list[str]] = ray.get(self.handle.seats.remote(), timeout=_PATIENCE)
        except ray.exceptions.RayError:
            return {}
        return seats

    def trouble(self) -> str:
        """Why a worker could not begin, in its own words; '' where none is known to have said so."""
        try:
            trouble: str = ray.get(self.handle.trouble.remote(), timeout=_PATIENCE)
        except ray.exceptions.RayError:
            return ""
        return trouble

    def slowest(self) -> list[Slow]:
        """The slowest images, as far as they are known: of a process that was lost, those before it are not."""
        try:
            slowest: list[Slow] = ray.get(self.handle.slowest.remote(), timeout=_PATIENCE)
        except ray.exceptions.RayError:
            return []
        return slowest


class RemoteJournal:
    """The journal as a worker reaches it: a millisecond for each batch. Small; travels to the workers."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk

    def begin(self, stage: str, keys: list[Key]) -> tuple[int, dict[Key, Verdict]]:
        """Returns when it is noted: what comes next may end this process."""
        noted: tuple[int, dict[Key, Verdict]] = ray.get(self._desk.begin.remote(stage, keys))
        return noted

    def end(self, stage: str, keys: list[Key]) -> None:
        """Not waited for: an end that gets lost costs innocent images a trial, and nothing else."""
        self._desk.end.remote(stage, keys)

    def blame(self, verdicts: dict[Key, Verdict]) -> None:
        """Returns when it is noted."""
        ray.get(self._desk.blame.remote(verdicts))


@ray.remote(num_cpus=0, max_restarts=-1)
class _Desk:
    """What is noted is asked for again when the process was lost meanwhile; what is counted is not, or it would count
    twice."""

    def __init__(self, run: int, planned: int) -> None:
        self._counts: Counter[str] = Counter()
        logs.from_worker(run)
        self._metrics = Metrics(run, planned)
        self._seats: dict[str, list[str]] = {}
        self._first: float | None = None
        self._troubles: dict[str, str] = {}
        self._slowest = Slowest()
        self._journal = suspects.Journal()
        self._born = time.time()

    def began(self) -> None:
        """Note that a reader begins. By the clock of this process, which is the driver's."""
        self._first = self._first or time.time()

    def first(self) -> float | None:
        return self._first

    def add(self, counts: dict[str, int], slow: Sequence[Slow] = ()) -> None:
        self._counts.update(counts)
        self._slowest.keep(slow)
        self._metrics.add(counts)

    def slowest(self) -> list[Slow]:
        return self._slowest.ranked()

    def seat(self, stage: str, devices: str) -> None:
        """Note that a worker of a stage has begun, and which GPUs it sees."""
        self._troubles.pop(stage, None)
        seats = self._seats.setdefault(stage, [])
        if devices or "" not in seats:  # tasks come without end, actors of one GPU each do not
            seats.append(devices)

    def stumbled(self, stage: str, why: str) -> None:
        """Note why a worker of a stage could not begin. Of the deaths of actors Ray tells the last one's reason only,
        which may be that the others had died."""
        self._troubles.setdefault(stage, why)

    def trouble(self) -> str:
        return "; ".join(sorted(set(self._troubles.values())))

    def seats(self) -> dict[str, list[str]]:
        return {stage: sorted(seats) for stage, seats in sorted(self._seats.items())}

    def read(self) -> dict[str, int]:
        return dict(self._counts)

    def told(self) -> tuple[float, dict[str, int]]:
        """The counts, and since when there are these."""
        return self._born, dict(self._counts)

    @ray.method(max_task_retries=-1)
    def begin(self, stage: str, keys: list[Key]) -> tuple[int, dict[Key, Verdict]]:
        return self._journal.begin(stage, keys)

    @ray.method(max_task_retries=-1)
    def end(self, stage: str, keys: list[Key]) -> None:
        self._journal.end(stage, keys)

    @ray.method(max_task_retries=-1)
    def blame(self, verdicts: dict[Key, Verdict]) -> None:
        self._journal.blame(verdicts)


def note(desk: Any, counts: dict[str, int]) -> None:
    """Add, and return when that is counted: of a commit, which may be the last thing before the run ends. desk: its
    handle."""
    try:
        ray.get(desk.add.remote(counts), timeout=_PATIENCE)
    except ray.exceptions.RayError as error:  # what was committed stands
        logs.event("not_counted", "a commit is not in the run's counts", WARNING, error=type(error).__name__)


def counted(works: list[Work]) -> dict[str, int]:
    """Images, faces, bytes, images by status, and those that storage failed for, of a finished batch; and of gate and
    detector, how many images each has seen in how many microseconds."""
    counts: Counter[str] = Counter(str(work.status) for work in works)
    counts["images"] = len(works)
    counts["faces"] = sum(len(work.faces) for work in works)
    counts["bytes"] = sum(work.size_bytes for work in works)
    counts.update(str(work.reason) for work in works if work.reason in REASONS)
    for network, seconds in (
        ("gate", [work.glance_seconds for work in works]),
        ("detector", [work.detect_seconds for work in works]),
    ):
        if took := [each for each in seconds if each is not None]:
            counts[network] = len(took)
            counts[f"{network}_micros"] = round(1e6 * sum(took))
    return dict(counts)
