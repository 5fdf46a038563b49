"""What the user sees while a run works: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.live import Live
from rich.text import Text

from facebatch.family import Family
from facebatch.logs import say
from facebatch.timeline import Point, Timeline

T = TypeVar("T")
PLAIN_EVERY = 10.0
"""Seconds between lines where there is no terminal."""
_EVERY = 2.0
"""Seconds between looks at the counters and at the processes of the run."""
_SELDOM = 16.0
"""Seconds after which these processes are listed anew when a run has been going for a while: that takes most of what a
look costs."""


@dataclass(frozen=True, slots=True)
class Target:
    """What there is to do, for percentages and the estimate of what is left. images: None where it is not known."""

    images: int | None
    bytes: int


class Progress:
    """Shows counters while the block runs, and samples them and the memory of all processes of the run.

    read: gives the counters `images`, `faces`, `failed`, `skipped`, `bytes` at this moment.
    """

    def __init__(self, console: Console, target: Target, read: Callable[[], dict[str, int]]) -> None:
        self._console, self._target, self._read = console, target, read
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._started = time.monotonic()
        self._family = Family()
        self._list, self._gap = self._started, _EVERY
        self._timeline = Timeline()

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:  # else there may be nobody any more to ask
            self._timeline.note(time.monotonic(), self._read())

    def _watch(self) -> None:
        if self._console.is_terminal:
            with Live(console=self._console, refresh_per_second=4, transient=True) as live:
                while not self._stop.wait(_EVERY):
                    self._sample()
                    live.update(Text(self.line()))
            return
        last = time.monotonic()
        while not self._stop.wait(_EVERY):
            self._sample()
            if time.monotonic() - last >= PLAIN_EVERY:
                last = time.monotonic()
                say(self._console, self.line(), "progress", planned=self._target.images, **self._figures())

    def _sample(self) -> None:
        now = time.monotonic()
        self._family.sample(listed=(listed := now >= self._list))
        if listed:
            self._list, self._gap = now + self._gap, min(2 * self._gap, _SELDOM)
        if self._timeline.due(now):
            self._timeline.note(now, self._read())

    def timeline(self, seconds: float) -> list[Point]:
        """What was counted when (`facebatch.timeline`), counted from so many seconds ago."""
        return self._timeline.since(time.monotonic() - seconds)

    @property
    def peak_bytes(self) -> int:
        """The most memory that this process and its descendants used together, shared pages counted once; as far
        as looks told, two seconds apart."""
        return self._family.peak_bytes

    def _figures(self) -> dict[str, int]:
        """What the line tells, for machines."""
        counts = self._read()
        return {name: counts.get(name, 0) for name in ("images", "faces", "failed", "skipped", "bytes")}

    def line(self) -> str:
        """The state of the run in one line."""
        counts = self._read()
        seconds = time.monotonic() - self._started
        images, done_bytes = counts.get("images", 0), counts.get("bytes", 0)
        of = f"/{self._target.images}" if self._target.images is not None else ""
        left = "?"
        if images and self._target.images is not None:
            left = clock(seconds * max(self._target.images - images, 0) / images)
        elif done_bytes:
            left = clock(seconds * max(self._target.bytes - done_bytes, 0) / done_bytes)
        return (
            f"{images}{of} images, {counts.get('faces', 0)} faces, {counts.get('failed', 0)} failed, "
            f"{counts.get('skipped', 0)} skipped, {images / max(seconds, 1e-9):.1f} images/s, {left} left"
        )


def listed(stream: Iterable[T], say: Callable[[str], None], every: float = PLAIN_EVERY) -> Iterator[T]:
    """The same stream; while it takes long, how far it is."""
    told = time.monotonic()
    for number, one in enumerate(stream):
        if number % 256 == 0 and time.monotonic() - told >= every:
            told = time.monotonic()
            say(f"{number:,} objects listed")
        yield one


def clock(seconds: float) -> str:
    """0:07, 12:31, 3:02:11."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
