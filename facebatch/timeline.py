"""How far a run was at which time: a few hundred points, however long it lasts."""

from __future__ import annotations

from collections.abc import Mapping

MOST = 240
"""Points that are kept: more than a plot is wide enough to show apart."""
EVERY = 2.0
"""Seconds between points at first."""
COUNTED = ("images", "faces", "bytes")
"""The counters of a point, in this order."""

Point = tuple[float, int, int, int]
"""Seconds, and the counters."""


class Timeline:
    """Counters over time. When there are too many points every second one goes, and the next come half as often."""

    def __init__(self, every: float = EVERY, most: int = MOST) -> None:
        """every: seconds between points at first; most: of them, an even number."""
        self._every, self._most = every, most
        self._points: list[Point] = []

    def due(self, now: float) -> bool:
        """Whether it is time for the next point."""
        return not self._points or now - self._points[-1][0] >= self._every

    def note(self, now: float, counts: Mapping[str, int]) -> None:
        """Add a point. now: seconds of a clock that goes forward, behind those of the last point."""
        images, faces, size = (counts.get(name, 0) for name in COUNTED)
        self._points.append((now, images, faces, size))
        if len(self._points) == self._most:
            self._points = self._points[1::2]  # the newest stays, from which the time to the next is counted
            self._every *= 2

    def since(self, start: float) -> list[Point]:
        """The points behind a time of the same clock, in seconds from then on; before them one of that time, at which
        nothing was done. Nothing where there are no points."""
        placed = [(round(point[0] - start, 2), *point[1:]) for point in self._points]
        later = [point for point in placed if point[0] > 0]
        return [(0.0, 0, 0, 0), *later] if later else []
