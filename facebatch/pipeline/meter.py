"""Counters that all workers add to, for the progress display only: what counts in the end are the records."""

from __future__ import annotations

from collections import Counter

import ray

from facebatch.work import Work


@ray.remote(num_cpus=0)
class Meter:
    """One small actor. Additions are not awaited, so it costs a batch some microseconds."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._seats: dict[str, list[str]] = {}

    def add(self, counts: dict[str, int]) -> None:
        self._counts.update(counts)

    def seat(self, stage: str, devices: str) -> None:
        """Note which GPUs a worker of a stage sees."""
        seats = self._seats.setdefault(stage, [])
        if devices or "" not in seats:  # tasks come without end, actors of one GPU each do not
            seats.append(devices)

    def seats(self) -> dict[str, list[str]]:
        """For each stage the GPUs that its workers see, as CUDA counts them on their node; '' for none."""
        return {stage: sorted(seats) for stage, seats in sorted(self._seats.items())}

    def read(self) -> dict[str, int]:
        return dict(self._counts)


def counted(works: list[Work]) -> dict[str, int]:
    """Images, faces, bytes, and images by status, of a finished batch."""
    counts: Counter[str] = Counter(str(work.status) for work in works)
    counts["images"] = len(works)
    counts["faces"] = sum(len(work.faces) for work in works)
    counts["bytes"] = sum(work.size_bytes for work in works)
    return dict(counts)
