"""The error budget: where storage fails for most images it fails for all, and a run that went on would give each of
them a row that says so, after all its retries.

Objects that are locked cost their own rows: they are answered at once, and a minute of nothing else is no folder.
"""

from __future__ import annotations

from collections.abc import Mapping

from facebatch.errors import FacebatchError
from facebatch.reasons import Reason

REASONS = (Reason.STORAGE_ERROR, Reason.ACCESS_DENIED)
"""What a storage that fails, or credentials that have expired, make of an image. What is not there is no failure."""
WINDOW, SECONDS = 256, 60.0
"""Images at least, and time at least, that are judged together. A locked folder passes in seconds."""


class Spent(FacebatchError):
    """Too many images in a row could not be read."""


class Budget:
    """Lives as long as a run, and is told its counters from time to time. share: of the last images that may fail."""

    def __init__(self, share: float, now: float) -> None:
        self._share, self._since = share, now
        self._before: Mapping[str, int] = {}

    def check(self, counts: Mapping[str, int], now: float) -> None:
        """Raises Spent when too many of the images since the last judgement failed. counts: of the whole run, `images`
        and those that ended for each of REASONS; now: in seconds of any clock."""
        images = counts.get("images", 0) - self._before.get("images", 0)
        if images < WINDOW or now - self._since < SECONDS:
            return
        failed = {reason: counts.get(reason, 0) - self._before.get(reason, 0) for reason in REASONS}
        self._before, self._since = dict(counts), now
        if sum(failed.values()) <= self._share * images:
            return
        which = ", ".join(f"{reason} {n}" for reason, n in failed.items() if n)
        raise Spent(
            f"{sum(failed.values())} of the last {images} images could not be read ({which}), more than "
            f"run.unreadable={self._share:g} allows: the storage fails, or its credentials have expired. What was "
            "committed stays. Mend it and run the same command again: what is missing is done then, and these images "
            "are tried again. With run.unreadable=1 it goes on whatever fails"
        )
