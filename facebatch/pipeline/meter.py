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

    def add(self, counts: dict[str, int]) -> None:
        self._counts.update(counts)

    def read(self) -> dict[str, int]:
        return dict(self._counts)


def counted(works: list[Work]) -> dict[str, int]:
    """Images, faces, bytes, and images by status, of a finished batch."""
    counts: Counter[str] = Counter(str(work.status) for work in works)
    counts["images"] = len(works)
    counts["faces"] = sum(len(work.faces) for work in works)
    counts["bytes"] = sum(work.size_bytes for work in works)
    return dict(counts)
