"""A process and its descendants: what they take of memory and of the cores, together."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

_GROWN = 1.02
_GONE = (psutil.NoSuchProcess, psutil.AccessDenied)
"""It ended between the listing and the question."""


class Family:
    """What a process (this one) and its descendants have used, as far as samples tell.

    peak_bytes: of memory, together, shared pages counted once. own_peak_bytes: of the first process alone, resident.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._first = psutil.Process(pid)
        self._members: list[psutil.Process] = []
        self._resident = 0
        self._cpu: dict[int, float] = {}
        self.peak_bytes = 0
        self.own_peak_bytes = 0

    @property
    def cpu_seconds(self) -> float:
        """Of all cores; what a process did after its last sample is not in it."""
        return sum(self._cpu.values())

    def sample(self, listed: bool = True) -> None:
        """Look at all of them. Cheap: what makes the kernel walk their pages is asked only when they have grown.

        listed: whether they are listed anew, for which the kernel tells of every process of the machine; else those
        are looked at that were listed last.
        """
        if listed:
            self._members = []
            with suppress(*_GONE):
                self._members = [self._first, *self._first.children(recursive=True)]
        resident = 0
        for process in self._members:
            with suppress(*_GONE), process.oneshot():
                own = process.memory_info().rss
                times = process.cpu_times()
                resident += own
                self._cpu[process.pid] = times.user + times.system
                if process.pid == self._first.pid:
                    self.own_peak_bytes = max(self.own_peak_bytes, own)
        # Proportional sizes take 5 ms for each process of a run. Asked twice a second that is a tenth of a core.
        if resident > _GROWN * self._resident:
            self._resident = resident
            self.peak_bytes = max(self.peak_bytes, _proportional(self._members))


def _proportional(processes: list[psutil.Process]) -> int:
    """Their proportional set sizes; resident ones where the system does not tell."""
    total = 0
    for process in processes:
        with suppress(*_GONE):
            full = process.memory_full_info()
            total += getattr(full, "pss", full.rss)
    return total


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
