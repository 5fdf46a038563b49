"""What a process counts where nobody hands it a counter, as deep inside storage: added up until it is taken away to be
counted with that of others, once for each batch."""

from __future__ import annotations

import threading
from collections import Counter

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def add(what: str, count: int = 1) -> None:
    """From any thread. What is none leaves no trace."""
    if not count:
        return
    with _lock:
        _counts[what] += count


def taken() -> dict[str, int]:
    """What was counted since this was last asked."""
    with _lock:
        taken = dict(_counts)
        _counts.clear()
    return taken
