"""Runs that are killed, go on, and overtake each other; and what must hold behind all that, which is what the README
promises. Each scenario raises AssertionError where it does not.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from facebatch import epochs, ledger
from facebatch.reasons import Status
from facebatch.sources import Source
from facebatch.storage import scheme
from facebatch.verify import verify
from tests.faults.steps import SICK, Anew, History, Run

T = TypeVar("T")
_GAVE_WAY = re.compile("^Superseded: |plan/.* was written by another run; run the same command again")


def sound(history: History) -> set[str]:
    """What holds at any moment: what counts is there and undamaged, no row of it twice. Returns the files that do not
    count, which a plain glob finds all the same."""
    records = ledger.state(history.dataset).records
    rows = [
        (shard, i)
        for r in records
        for shard, ranges in r.ranges.items()
        for low, high in ranges
        for i in range(low, high)
    ]
    assert len(rows) == len(set(rows)), "a row counts twice"
    assert history.committed() <= set(rows), "a committed row does not count"
    listed = history.listed()
    for file in [file for record in records for file in (record.images, record.faces)]:
        assert file.path in listed, f"{file.path} counts and is not there"
        data = history.storage.read(history.dataset.path(file.path))[0]
        assert hashlib.sha256(data).hexdigest() == file.sha256, f"{file.path} counts and is damaged"
    return listed - {file.path for record in records for file in (record.images, record.faces)}


def whole(history: History, reference: History, unless: Sequence[str] = ()) -> None:
    """What holds when a run has come to its end: the dataset is the one that a single, undisturbed run makes, unless in
    these columns."""
    assert sound(history) == set(), "a plain glob finds files that do not count"
    for name, key in (("images", "image_id"), ("faces", "face_id")):
        ours, theirs = (
            table.drop_columns([c for c in unless if c in table.column_names])
            for table in (history.table(name), reference.table(name))
        )
        ids = ours[key].to_pylist()
        assert len(ids) == len(set(ids)), f"a plain glob of {name} gives rows twice"
        assert ids == theirs[key].to_pylist(), f"{name} are not those of an undisturbed run"
        assert ours.equals(theirs), f"{name} have other contents than those of an undisturbed run"
    problems = verify(history.dataset).problems
    assert not problems, problems


def undisturbed(anew: Anew, sick: bool = False) -> tuple[History, Run]:
    """A history in which one run came to its end, and that run."""
    history = anew()
    return history, history.run(sick=sick)


@dataclass(frozen=True)
class Crash:
    """A kill before a step, or right behind it."""

    step: int
    behind: bool = False


Past = Callable[[History], object]
"""What happened to a dataset before a scenario begins."""


def nothing(_: History) -> None:
    """It is new."""


def sickness(history: History) -> None:
    """A run came to its end for which some images could not be read: each has a row, and is to be tried again."""
    history.run(sick=True)
    held = verify(history.dataset)
    assert not held.problems, held.problems
    rows = held.retryable, held.statuses[Status.FAILED]
    assert rows == (len(SICK), len(SICK) + 1), "an image has no row while it is to be tried again"


def litter(history: History) -> None:
    """A run was killed before its second record, so that there are files to sweep."""
    history.run(at=13)  # of the steps that test_a_run_takes_these_steps lists
    assert {path.partition("/")[0] for path in sound(history)} == {"images", "faces"}, "there is nothing to sweep"


def crashed(anew: Anew, reference: History, *crashes: Crash, past: Past = nothing) -> bool:
    """Runs that are killed one after the other; then the same command until it comes to its end.

    Returns whether the last crash came to pass: a run may have fewer steps.
    """
    history = anew()
    with told(f"{crashes} after {past.__name__}"):
        past(history)
        for crash in crashes:
            run = history.run(at=crash.step, behind=crash.behind)
            sound(history)
        history.run()
        whole(history, reference)
    return run.killed


def overtaken(
    anew: Anew,
    reference: History,
    step: int,
    crash: Crash | None = None,
    past: Past = nothing,
    grown: Sequence[Source] = (),
) -> set[str]:
    """A run stops before a step, after its last look at who owns the dataset. A second run takes over and comes to its
    end, or is killed itself. Then the first wakes up and goes on until it ends or gives up; then comes a third run.

    Behind the zombie, what counts is what its successor made, whole and unchanged; at most files of the zombie lie
    beside it, and `facebatch verify` names them. Behind the next run, nothing is left of them. Returns those files.
    grown: what the archive has become when the second run lists it; where a photo is planned is then another matter.
    """
    history = anew()
    past(history)
    before: list[set[str]] = []
    unless = ("shard_id", "index") if grown else ()

    def successor() -> None:
        history.sources = grown or history.sources
        run = history.run(at=crash.step if crash else 0, behind=bool(crash and crash.behind))
        if not run.killed:
            whole(history, reference, unless)
        before.append(_accepted(history))

    with told(f"a zombie before step {step}, its successor with {crash}, after {past.__name__}"):
        zombie = history.run(at=step, event=successor)
        assert before, f"there is no step {step}"
        assert zombie.stopped is None or _GAVE_WAY.search(zombie.stopped), zombie.stopped
        late = sound(history)
        if crash is None:
            assert _accepted(history) == before[0], "a zombie changed what counts"
            number = f"{epochs.last_epoch(history.dataset) - 1:05d}-"
            assert all(path.partition("/")[2].startswith(number) for path in late), f"not all of the zombie: {late}"
            said = [
                f"{history.dataset.path(p)} belongs to no record (a run at work, or one that was killed)" for p in late
            ]
            problems = verify(history.dataset).problems
            assert sorted(problems) == sorted(said), problems
        last = history.run()
        assert crash or not last.computed, "there was nothing left to do"
        whole(history, reference, unless)
    return late


def overlapping(anew: Anew, reference: History, step: int, at: int) -> None:
    """Two runs at once. The first stops before a step, a second takes over and works on to its own step `at`. Then the
    first wakes up and goes on until it ends or gives up; then the second goes on; then comes a third."""
    history = anew()
    stopped, go_on = Event(), Event()

    def wait() -> None:
        stopped.set()
        assert go_on.wait(600)

    def wake() -> None:
        go_on.set()
        zombie.result()

    with told(f"a zombie before step {step}, woken before step {at} of its successor"), ThreadPoolExecutor(1) as thread:
        zombie = thread.submit(lambda: history.run(at=step, event=wait))
        assert stopped.wait(600)
        try:
            second = history.run(at=at, event=wake)
        finally:
            go_on.set()
        for run in (zombie.result(), second):
            assert run.stopped is None or _GAVE_WAY.search(run.stopped), run.stopped
        assert not (zombie.result().stopped and second.stopped), "each run gave way to the other"
        sound(history)
        history.run()
        whole(history, reference)


def _accepted(history: History) -> set[str]:
    return {record.name for record in ledger.state(history.dataset).records}


@contextmanager
def told(scenario: str) -> Iterator[None]:
    """Failures say in which scenario they came."""
    try:
        yield
    except Exception as error:
        error.add_note(f"scenario: {scenario}")
        raise


def sampled(history: History, items: Sequence[T], most: int, on_disk: int | None = None) -> Sequence[T]:
    """So many of the items, in their order; all of them on a disk, which is fast, unless `on_disk` says how many.
    By a seed that is printed; FACEBATCH_CHAOS_SEED replays it."""
    number = min(len(items), (on_disk or len(items)) if scheme(history.root) == "" else most)
    if number == len(items):
        return items
    seed = int(os.environ.get("FACEBATCH_CHAOS_SEED") or random.randrange(10**6))
    print(f"{number} of {len(items)} scenarios, FACEBATCH_CHAOS_SEED={seed}")
    return [items[place] for place in sorted(random.Random(seed).sample(range(len(items)), number))]
