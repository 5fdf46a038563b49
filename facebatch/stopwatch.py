"""Where the time of a worker goes: seconds, added up by the name of what took them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Stopwatch:
    """Seconds of one process by part, until they are taken away to be counted with those of others. Parts do not
    overlap, but where pictures are decoded ahead of a GPU: what a part does is measured once."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add what the block takes, also when it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[part] += time.perf_counter() - started  # type: ignore[assignment]

    def around(self, part: str, stage: Callable[[Given], Made]) -> Callable[[Given], Made]:
        """The same function, timed."""

        def call(given: Given) -> Made:
            with self.timing(part):
                return stage(given)

        return call

    def waiting_for(self, part: str, stream: Iterator[Made]) -> Iterator[Made]:
        """The same stream; the part is what its items take to come."""
        while True:
            with self.timing(part):
                item = next(stream, _END)
            if item is _END:
                return
            yield item  # type: ignore[misc]

    def taken(self) -> dict[str, int]:
        """Microseconds by part (`decode_us`) since this was last asked."""
        taken = {f"{part}_us": round(1e6 * seconds) for part, seconds in self._seconds.items()}
        self._seconds.clear()
        return taken


_END = object()


def parts(counts: dict[str, int]) -> dict[str, float]:
    """Seconds by part, from counts in which the microseconds of all processes were added up."""
    return {key.removesuffix("_us"): n / 1e6 for key, n in counts.items() if key.endswith("_us")}
