"""Counters that all workers add to, for the progress display only: what counts in the end are the records.

Losing them must never cost a run, so additions are not awaited, and what cannot be read stays as it was.
"""

from __future__ import annotations

import time
from collections import Counter

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from facebatch.work import Work

_PATIENCE = 5.0
"""Seconds for an answer."""


class Meter:
    """A small actor beside the driver, with whom it lives and dies whatever happens to other nodes.

    `handle` is what workers add to. A process of it that dies is started again; the counts go on from what was read.
    """

    def __init__(self) -> None:
        here = ray.get_runtime_context().get_node_id()
        self.handle = _Counts.options(  # type: ignore[attr-defined]
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
        ).remote()
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


@ray.remote(num_cpus=0, max_restarts=-1)
class _Counts:
    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._seats: dict[str, list[str]] = {}
        self._first: float | None = None

    def began(self) -> None:
        """Note that a reader begins. By the clock of this process, which is the driver's."""
        self._first = self._first or time.time()

    def first(self) -> float | None:
        return self._first

    def add(self, counts: dict[str, int]) -> None:
        self._counts.update(counts)

    def seat(self, stage: str, devices: str) -> None:
        """Note which GPUs a worker of a stage sees."""
        seats = self._seats.setdefault(stage, [])
        if devices or "" not in seats:  # tasks come without end, actors of one GPU each do not
            seats.append(devices)

    def seats(self) -> dict[str, list[str]]:
        return {stage: sorted(seats) for stage, seats in sorted(self._seats.items())}

    def read(self) -> dict[str, int]:
        return dict(self._counts)


def counted(works: list[Work]) -> dict[str, int]:
    """Images, faces, bytes, and images by status, of a finished batch; and of gate and detector, how many images each
    has seen in how many microseconds."""
    counts: Counter[str] = Counter(str(work.status) for work in works)
    counts["images"] = len(works)
    counts["faces"] = sum(len(work.faces) for work in works)
    counts["bytes"] = sum(work.size_bytes for work in works)
    for network, seconds in (
        ("gate", [work.glance_seconds for work in works]),
        ("detector", [work.detect_seconds for work in works]),
    ):
        if took := [each for each in seconds if each is not None]:
            counts[network] = len(took)
            counts[f"{network}_micros"] = round(1e6 * sum(took))
    return dict(counts)
