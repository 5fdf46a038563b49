"""New worlds for runs that are killed, on every storage."""

from __future__ import annotations

from itertools import count

import pytest

from facebatch.storage import Storage, join
from tests.faults.steps import Make, World


@pytest.fixture
def make(place: tuple[Storage, str], monkeypatch: pytest.MonkeyPatch) -> Make:
    """Gives a new world in a folder of its own at each call."""
    monkeypatch.setattr("facebatch.epochs._lives", lambda *_: False)  # all runs are this process: the last one is dead
    monkeypatch.setattr("facebatch.epochs.signal.signal", lambda *_: None)  # of the main thread only; runs have theirs
    monkeypatch.setattr("facebatch.plan._PLAN_ROWS", 3)  # two plan files for six sources
    storage, folder = place
    numbers = count()
    return lambda: World(storage, join(folder, f"world-{next(numbers)}"))
