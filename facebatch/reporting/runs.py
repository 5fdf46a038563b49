"""What the runs of a dataset have noted, for a report. Any of it may be absent: a run that was killed notes only how it
began, one of an earlier facebatch notes less, and erasing takes a number and notes nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from facebatch import epochs
from facebatch.dataset import Dataset
from facebatch.reporting.table import Plot, Table, facts
from facebatch.reporting.words import Value
from facebatch.scale import PARTS

MOST = 50
"""Runs of which a report tells, the last ones: a dataset that grows every night has hundreds."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has noted something."""

    number: int
    record: dict[str, Any]

    @property
    def finished(self) -> bool:
        return "totals" in self.record

    @property
    def images(self) -> int:
        return int(self.record.get("images", 0))


def noted(dataset: Dataset) -> list[Run]:
    """The last runs that have noted anything, the latest first."""
    last = epochs.last_epoch(dataset)
    numbers = range(last, max(last - MOST, 0), -1)
    with ThreadPoolExecutor(16, thread_name_prefix="report") as threads:  # small objects: the wait is the round trip
        records = threads.map(dataset.run, numbers)
        return [Run(number, record) for number, record in zip(numbers, records, strict=True) if record]


def chosen(runs: list[Run]) -> Run | None:
    """The latest that came to its end and computed something, for it can tell what that took; else the latest that came
    to its end, else the latest."""
    by_worth = (lambda run: run.finished and run.images > 0), (lambda run: run.finished), (lambda run: True)
    return next((run for worth in by_worth for run in runs if worth(run)), None)


def tables(runs: list[Run]) -> Iterator[Table]:
    """What is known of all of them, and of the chosen one."""
    yield _all(runs)
    run = chosen(runs)
    yield _throughput(run)
    yield _stages(run)
    yield _slowest(run)
    yield _cost(run)
    yield _pools(run)
    yield _layout(run)
    yield _settings(run)
    yield _versions(run)


def _all(runs: list[Run]) -> Table:
    columns = ("run", "end", "images", "seconds", "images_per_s", "memory_gib")
    rows = tuple(
        (
            run.number,
            "came to its end" if run.finished else "has noted no end",
            run.images if run.finished else None,
            run.record.get("seconds"),
            _rate(run) if run.images else None,
            _gib(run),
        )
        for run in runs
    )
    remark = f"The last {MOST} at most; images are those that a run added." if rows else "No run has noted anything."
    return Table("runs", "Runs", columns, rows, remark)


def _throughput(run: Run | None) -> Table:
    columns = ("second", "images", "faces", "bytes", "images_per_s")
    why, points = _noted(run, "timeline")
    rows = []
    for (before, had, _, _), (second, images, faces, size) in itertools.pairwise(_evened(points)):
        if second > before:
            rows.append((second, images, faces, size, (images - had) / (second - before)))
    remark = why or _of(run, "Since its first byte; images_per_s are those since the row before.")
    return Table("throughput", "Throughput", columns, tuple(rows), remark, Plot("line", "images_per_s", ("second",)))


def _evened(points: list[Any]) -> list[Any]:
    """Without a point that the end of the run came right behind: the rate over a moment means nothing."""
    if len(points) > 2 and points[-1][0] - points[-2][0] < (points[-2][0] - points[-3][0]) / 2:
        return [*points[:-2], points[-1]]
    return points


def _stages(run: Run | None) -> Table:
    why, spent = _noted(run, "spent")
    known = [(part, float(spent[part])) for part in PARTS if spent and part in spent]
    whole = sum(seconds for _, seconds in known)
    rows = tuple((part, seconds, 100 * seconds / whole if whole else None) for part, seconds in known)
    remark = why or _of(run, "Seconds of all workers together.")
    return Table(
        "stages", "Time by stage", ("stage", "seconds", "percent"), rows, remark, Plot("bars", "seconds", ("stage",))
    )


def _slowest(run: Run | None) -> Table:
    why, slow = _noted(run, "slowest")
    columns = ("uri", "member", "seconds", "decode", "chip")
    rows = tuple(
        (one["uri"], one["member"], one["seconds"], *(one["parts"].get(part) for part in columns[3:])) for one in slow
    )
    remark = why or _of(run, "Seconds for decoding an image and cutting out its faces, without reading and networks.")
    return Table("slowest", "Slowest inputs", columns, rows, remark, Plot("bars", "seconds", ("uri", "member")))


def _cost(run: Run | None) -> Table:
    why = _missing(run)
    if run is None or why:
        return facts("cost", "What it took", (), why)
    told = run.record
    rows: list[tuple[str, Value, str]] = [
        ("images", run.images, "that it added"),
        ("seconds", told.get("seconds"), "from the first byte to the last record"),
        ("images_per_s", _rate(run) if run.images else None, "in these"),
        ("whole_seconds", told.get("whole_seconds"), "with start and end"),
        ("planning_seconds", told.get("planning_seconds"), "until it was known what there is to do"),
        ("memory_gib", _gib(run), "at most, all processes on the driver's machine together"),
        ("moved_gb", told["moved_bytes"] / 1e9 if "moved_bytes" in told else None, "through Ray's object store"),
        ("provider", told.get("provider"), "on what the networks ran"),
    ]
    return facts("cost", "What it took", rows, _of(run, ""))


def _pools(run: Run | None) -> Table:
    why, pools = _noted(run, "pools")
    columns = ("pool", "actors", "threads", "cpus", "gpus")
    rows = tuple((name, *(pool.get(word) for word in columns[1:])) for name, pool in sorted(dict(pools).items()))
    return Table("pools", "Pools of actors", columns, rows, why or _of(run, "CPUs and GPUs are those of each actor."))


def _layout(run: Run | None) -> Table:
    why, reasons = _noted(run, "layout")
    return Table("layout", "Layout", ("decision",), tuple((reason,) for reason in reasons), why or _of(run, ""))


def _settings(run: Run | None) -> Table:
    rows = tuple(_flat(run.record.get("config", {}))) if run else ()
    remark = _of(run, "Of how storage was reached the names alone are noted.") if rows else "No run has noted any."
    storage = tuple((f"storage.{name}", "...") for name in run.record.get("storage", ())) if run else ()
    return Table("settings", "Settings", ("setting", "value"), rows + storage, remark)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value)


def _versions(run: Run | None) -> Table:
    told = run.record if run else {}
    known = {name: told.get(name) for name in ("facebatch", "python", "machine")} | told.get("versions", {})
    rows = tuple((name, version) for name, version in known.items() if version)
    remark = _of(run, "On the driver's machine.") if rows else "No run has noted any."
    return Table("versions", "Versions", ("package", "version"), rows, remark)


def _noted(run: Run | None, what: str) -> tuple[str, Any]:
    """Why there is nothing of it, in a sentence; or '' and what a run has noted."""
    why = _missing(run)
    if run is None or why:
        return why, ()
    if what not in run.record:
        return f"Run {run.number} has not noted this: it was made by an earlier facebatch.", ()
    if not run.record[what]:
        return f"Run {run.number} has computed nothing.", ()
    return "", run.record[what]


def _missing(run: Run | None) -> str:
    if run is None:
        return "No run has noted anything."
    return "" if run.finished else f"Run {run.number} has noted no end, and this is noted only then."


def _of(run: Run | None, remark: str) -> str:
    return f"Run {run.number}. {remark}".strip() if run else remark


def _gib(run: Run) -> float | None:
    """Of memory; None of a run that computed nothing."""
    return run.record["peak_bytes"] / 2**30 if run.images and "peak_bytes" in run.record else None


def _rate(run: Run) -> float:
    return run.images / max(float(run.record.get("seconds", 0)), 1e-9)
