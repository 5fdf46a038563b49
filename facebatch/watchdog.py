"""The watchdog: ends this process when something keeps it longer than it can possibly need.

Nothing else helps against a decoder that does not come back: a thread cannot be ended from outside, and one that holds
the GIL does not even let another look at the clock. The kernel's timer needs no GIL, and faulthandler's handler of its
signal writes all stacks to the worker's log and leaves the end to the kernel. Ray then starts the worker again, and who
is to blame is found by trial (`facebatch.trial`).

faulthandler has a timer of its own, a thread that is started and joined whenever the deadline moves, some five times
for each image. With it an actor's system time was 0.9 ms for a camera's photo, without it is 0.6 (one core of an AMD
EPYC virtual machine, 2026-11-22).
"""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_PIXEL_SECONDS = 4e-6
"""Seconds for each pixel of an image: ten times what the slowest decoder takes (JPEG 2000 of noise, 0.38e-6 on one
core), because four processes may share a core."""
_BATCH_SECONDS = 600.0
"""Seconds for a network to be called at all: the first call on a GPU compiles."""
_CALL_SECONDS = 60.0
"""And for each picture or face that it is given: on one core SSH needs five for the largest picture, ResNet-100 one for
a face."""
_SLACK = 1.0
"""Seconds that a deadline may be late, so that the timer is not set anew for each of many small images."""
_STDERR = 2


def image_seconds(pixels: int, seconds: float) -> float:
    """The time after which a decoder is believed never to come back. seconds: what it may take whatever the size."""
    return seconds + _PIXEL_SECONDS * pixels


_lock = threading.Lock()
_deadlines: dict[int, float] = {}
"""Of each watchdog at work in this process, which has one timer for all: the next of them counts."""


class Watchdog:
    """The time until which one stage of this process is believed to be at work. For processes that are started again
    only. Stages that work at the same time have one each."""

    def __init__(self, seconds: float) -> None:
        """seconds: for an image of no size."""
        self._seconds = seconds

    def image(self, pixels: int = 0) -> None:
        """The header of an image is going to be read, or its so many pixels."""
        self._expect(image_seconds(pixels, self._seconds))

    def batch(self, count: int) -> None:
        """A network is going to be given so many pictures or faces."""
        self._expect(_BATCH_SECONDS + _CALL_SECONDS * count)

    @contextmanager
    def over(self, count: int) -> Iterator[None]:
        """A network is given so many while the block lasts."""
        self.batch(count)
        try:
            yield
        finally:
            self.rest()

    def rest(self) -> None:
        """Nothing is at work."""
        with _lock:
            if _deadlines.pop(id(self), None):
                _set(time.monotonic())

    def _expect(self, seconds: float) -> None:
        """Where several threads work for one stage, the latest deadline counts."""
        now = time.monotonic()
        with _lock:
            if now + seconds > _deadlines.get(id(self), 0.0):
                _deadlines[id(self)] = now + seconds + _SLACK
                _set(now)


def _set(now: float) -> None:
    """Set the timer to the next deadline; one that has just passed is not put off."""
    _armed()
    left = min(_deadlines.values()) - now if _deadlines else 0.0
    signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3) if _deadlines else 0.0)


@cache
def _armed() -> None:
    """From now on the timer's signal ends this process, once all its stacks are written."""
    faulthandler.register(signal.SIGALRM, file=_STDERR, all_threads=True, chain=True)


class Asleep(Watchdog):
    """A watchdog that lets everything pass: for where nobody would start the process again."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def rest(self) -> None:
        """Nothing was waited for."""

    def _expect(self, seconds: float) -> None:
        """Nothing is waited for."""
