"""The slowest inputs of a run: of which decoding them and cutting out their faces took longest.

What reading took is not among that, because it goes on beside the work, nor what the networks took, which are given
many pictures at once, and the first of each worker while they warm up.

Each worker tells the desk only of images that are among the slowest which it has met itself: soon of hardly any, and
never of too few, because what is among the slowest of all is among those of its own worker.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from facebatch.work import Work

MOST = 20
"""Inputs that are kept."""


@dataclass(frozen=True, slots=True)
class Slow:
    """An image, named as its row is, its seconds, and these by part (`decode`, `chip`)."""

    uri: str
    member: str
    seconds: float
    parts: dict[str, float]

    @classmethod
    def of(cls, work: Work) -> Slow:
        """What is known of an image that came out of the stages."""
        parts = {part: round(took, 4) for part, took in work.took.items()}
        return cls(work.uri, work.member, round(_seconds(work), 4), parts)


class Slowest:
    """The slowest that were met so far."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._least = most, 0.0
        self._kept: dict[tuple[str, str], Slow] = {}

    def met(self, works: Iterable[Work]) -> list[Slow]:
        """Those of these images that are among the slowest now, which are kept."""
        return self.keep(Slow.of(work) for work in works if _seconds(work) > self._least)

    def keep(self, some: Iterable[Slow]) -> list[Slow]:
        """The same, of what another one has kept. Of an image that was computed twice the slower time counts."""
        new = list(some)
        for one in new:
            key = one.uri, one.member
            self._kept[key] = max(one, self._kept.get(key, one), key=_rank)
        if new and len(self._kept) >= self._most:
            self._kept = {(one.uri, one.member): one for one in self.ranked()}
            self._least = min(map(_rank, self._kept.values()))
        return [one for one in new if self._kept.get((one.uri, one.member)) is one]

    def ranked(self) -> list[Slow]:
        """The slowest first."""
        return heapq.nlargest(self._most, self._kept.values(), key=_rank)


def _rank(slow: Slow) -> float:
    return slow.seconds


def _seconds(work: Work) -> float:
    return sum(work.took.values())
