"""The ledger: what is done, and who may write. Everything a run has to know after a kill stands in `_facebatch/`.

    epochs/00003.json        run 3 owns the dataset from here on (created once: two runs cannot both be run 3)
    epochs/00003.accepted    the records of earlier runs that count; whatever they still write after this is void
    epochs/00003.alive       its heartbeat, while it runs
    epochs/00003.ended       it came to its end
    records/00003-9f3a.json  one commit: these files hold these index ranges (created once, after the files)
    ends/00003-SHARD-1200-0  a reader reached the end of this tar: 1,200 items, 0 of them unreadable for good

Records alone say what is done. A file in images/ or faces/ that no accepted record names does not count and is swept.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import psutil

from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.plan import Shard
from facebatch.sources import Ranges
from facebatch.storage import Storage, StorageError

BEAT = 10.0
"""Seconds between heartbeats."""
EXPIRY = 60.0
"""A heartbeat that has not changed for so long belongs to a dead run."""
_PATIENCE = 5
"""Seconds for writing one heartbeat. With a run's own retries, minutes would pass before a dead storage is noticed."""
_WAKE = signal.SIGUSR1
"""Ends a run that lost its heart. Not SIGINT: shells start background jobs of scripts with SIGINT ignored."""


class Superseded(FacebatchError):
    """Another run has taken this dataset over; this one must not write any more."""


@dataclass(frozen=True, slots=True)
class File:
    """A Parquet file of the dataset, by its path below the output."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """One commit. Rows that failed for reasons outside the image are committed apart, as `retryable`: they hold their
    place until a later run has tried again."""

    epoch: int
    name: str
    contract: str
    images: File
    faces: File
    ranges: dict[str, Ranges]
    counts: dict[str, int]
    """Rows by `status`, and by `status/reason` where there is a reason."""
    retryable: bool = False


@dataclass(slots=True)
class State:
    """What the accepted records add up to."""

    records: list[Record]
    done: dict[str, Ranges] = field(default_factory=dict)
    """Finished index ranges by shard: sorted, disjoint. Retryable ones are not finished."""
    ends: dict[str, tuple[int, Ranges]] = field(default_factory=dict)
    """Item count and unreadable ranges of the containers that were read to their end."""

    def count(self, shard: Shard) -> int | None:
        """How many rows the shard must have in the end; None while that is not known."""
        if shard.count is not None:
            return shard.count
        if shard.shard_id not in self.ends:
            return None
        items, gone = self.ends[shard.shard_id]
        return items - _length(gone)

    def left(self, shard: Shard) -> int | None:
        """How many rows of the shard are still to be written; None while that is not known."""
        count = self.count(shard)
        return None if count is None else count - _length(self.done.get(shard.shard_id, []))

    def missing(self, shard: Shard) -> bool:
        """Whether a run still has to look at this shard."""
        return self.left(shard) != 0

    def totals(self) -> dict[str, int]:
        """Rows by status and by status/reason over all records, and `faces`."""
        total: dict[str, int] = {}
        for record in self.records:
            for key, value in record.counts.items():
                total[key] = total.get(key, 0) + value
            total["faces"] = total.get("faces", 0) + record.faces.rows
        return total


class Guard(Protocol):
    """What a writer asks before each PUT."""

    epoch: int

    def check(self) -> None: ...


class EpochGuard:
    """Raises Superseded once a later epoch exists. Travels to the workers that write."""

    def __init__(self, dataset: Dataset, epoch: int) -> None:
        self._dataset, self.epoch = dataset, epoch

    def check(self) -> None:
        if self._dataset.storage.stat(_epoch(self._dataset, self.epoch + 1, "json")) is not None:
            raise Superseded(f"run {self.epoch + 1} has taken over {self._dataset.root}; run {self.epoch} stops")


class Epoch:
    """The right to write to a dataset, until `end`. Beats in a thread of its own."""

    def __init__(self, dataset: Dataset, number: int) -> None:
        self._dataset, self.number = dataset, number
        self._storage = Storage(replace(dataset.storage.options, timeout=_PATIENCE, retries=0))
        self._stop = threading.Event()
        self.lost: str | None = None
        """Why the heart has stopped, if it has. The run is interrupted then, well before another may take over."""
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    @property
    def guard(self) -> EpochGuard:
        return EpochGuard(self._dataset, self.number)

    def end(self) -> None:
        """Say that this run is over, so that the next one need not wait."""
        self._stop.set()
        self._thread.join()
        self._dataset.storage.put(_epoch(self._dataset, self.number, "ended"), b"")

    def _beat(self) -> None:
        count, last = 0, time.monotonic()
        while not self._stop.is_set():
            try:
                self._storage.put(_epoch(self._dataset, self.number, "alive"), str(count).encode())
                count, last = count + 1, time.monotonic()
            except StorageError as error:
                if time.monotonic() - last > EXPIRY / 2:
                    self.lost = f"the heartbeat could not be written for {EXPIRY / 2:.0f} s: {error}"
                    signal.pthread_kill(threading.main_thread().ident or 0, _WAKE)
                    return
            self._stop.wait(BEAT)


@contextmanager
def taken(dataset: Dataset, wait: float = EXPIRY) -> Iterator[Epoch]:
    """Be the next run of this dataset while the block lasts. Waits for a run on another host to be found dead.

    For the main thread: a run whose heartbeat cannot be written any more is interrupted there (KeyboardInterrupt).
    Raises FacebatchError while another run is alive.
    """
    before = signal.signal(_WAKE, signal.default_int_handler)
    try:
        epoch = _take(dataset, wait)
        try:
            yield epoch
        finally:
            epoch.end()
    finally:
        signal.signal(_WAKE, before)


def _take(dataset: Dataset, wait: float) -> Epoch:
    while True:
        last = _last_epoch(dataset)
        if last and dataset.storage.stat(_epoch(dataset, last, "ended")) is None:
            _wait_for_death(dataset, last, wait)
        claim = json.dumps({**_whoami(), "token": uuid.uuid4().hex}).encode()
        if dataset.storage.create(_epoch(dataset, last + 1, "json"), claim):
            return Epoch(dataset, last + 1)


def settle(dataset: Dataset, epoch: int) -> State:
    """Decide which records of earlier runs count, write that down, and sweep everything else.

    The last decision there is stands, and only the run that made it can have added records since: no run writes
    before it has settled, and what a run writes after a later one has settled is void.
    """
    base, names = _last_settled(dataset, epoch)
    records = [r for r in _records(dataset) if r.name in names or r.epoch == base]
    state = _accept(dataset, records)
    accepted = "\n".join(record.name for record in state.records)
    dataset.storage.put(
        _epoch(dataset, epoch, "accepted"), accepted.encode()
    )  # before the sweep: what is swept stays void
    sweep(dataset, EpochGuard(dataset, epoch), state)
    return state


def state(dataset: Dataset) -> State:
    """What is accepted now, as a reader sees it."""
    last = _last_epoch(dataset)
    base, names = _last_settled(dataset, last + 1)
    return _accept(dataset, [r for r in _records(dataset) if r.name in names or r.epoch == base])


def sweep(dataset: Dataset, guard: Guard, state: State) -> int:
    """Delete the data files and records that count for nothing. Returns how many data files went.

    Touches only names that this ledger gives, and none of a later epoch than the guard's: a run that was taken over
    without noticing cannot remove what its successor has written.
    """
    guard.check()
    kept = {dataset.path(f.path) for r in state.records for f in (r.images, r.faces)}
    kept |= {_record(dataset, r.name) for r in state.records}
    swept = 0
    for folder in ("images", "faces", "_facebatch"):
        for found in list(dataset.storage.objects(dataset.path(folder) + "/")):
            if _is_leftover(found.uri, guard.epoch) or (found.uri not in kept and _is_ours(found.uri, guard.epoch)):
                dataset.storage.delete(found.uri)
                swept += found.uri.endswith(".parquet")
    return swept


def write_record(dataset: Dataset, record: Record) -> None:
    """Commit. From here on the record's files count, unless another attempt at the same rows was first: then its do."""
    dataset.storage.create(_record(dataset, record.name), json.dumps(asdict(record)).encode())


def has_record(dataset: Dataset, name: str) -> bool:
    """Whether this commit was made already, by an earlier attempt of the same task."""
    return dataset.storage.stat(_record(dataset, name)) is not None


def write_end(dataset: Dataset, epoch: int, shard_id: str, items: int, gone: Ranges) -> None:
    """Note that a container has been read to its end. The name says it all unless something is gone."""
    name = f"{epoch:05d}-{shard_id}-{items}-{_length(gone)}"
    dataset.storage.put(dataset.internal("ends", name), json.dumps(gone).encode())


def _accept(dataset: Dataset, records: Iterable[Record]) -> State:
    """Records whose ranges nobody claimed before: final ones first, then the newest of those that are to be retried.

    Rows to be retried do not count where there is nothing left to retry: their container was replaced.
    """
    accepted: list[Record] = []
    taken: dict[str, Ranges] = {}
    done: dict[str, Ranges] = {}
    ends = dict(_ends(dataset))
    for record in sorted(records, key=lambda r: (r.retryable, -r.epoch if r.retryable else r.epoch, r.name)):
        lost = {shard: ends[shard][1] for shard in record.ranges if record.retryable and shard in ends}
        if any(
            _overlap(ranges, [*taken.get(shard, []), *lost.get(shard, [])]) for shard, ranges in record.ranges.items()
        ):
            continue
        accepted.append(record)
        for shard, ranges in record.ranges.items():
            taken[shard] = merged([*taken.get(shard, []), *ranges])
            if not record.retryable:
                done[shard] = merged([*done.get(shard, []), *ranges])
    return State(accepted, done, ends)


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted, disjoint, and joined where they touch."""
    result: Ranges = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1]:
            result[-1] = (result[-1][0], max(high, result[-1][1]))
        else:
            result.append((low, high))
    return result


def _overlap(some: Ranges, others: Ranges) -> bool:
    return any(low < end and start < high for low, high in some for start, end in others)


def _length(ranges: Ranges) -> int:
    return sum(high - low for low, high in ranges)


def _records(dataset: Dataset) -> Iterator[Record]:
    uris = [found.uri for found in dataset.storage.objects(dataset.internal("records/")) if _DATA.search(found.uri)]
    with ThreadPoolExecutor(16, thread_name_prefix="records") as threads:  # small objects: the wait is the round trip
        for data, _ in threads.map(dataset.storage.read, uris):
            raw = json.loads(data)
            ranges = {shard: [(low, high) for low, high in pairs] for shard, pairs in raw.pop("ranges").items()}
            yield Record(**{**raw, "images": File(**raw["images"]), "faces": File(**raw["faces"]), "ranges": ranges})


def _ends(dataset: Dataset) -> Iterator[tuple[str, tuple[int, Ranges]]]:
    """The last word on each container: listings come in the order of names, later epochs behind earlier ones."""
    for found in sorted(dataset.storage.objects(dataset.internal("ends/")), key=lambda f: f.uri):
        name = found.uri.rpartition("/")[2]
        if name.startswith("."):
            continue
        _, shard, items, gone = name.split("-")
        holes = json.loads(dataset.storage.read(found.uri)[0]) if int(gone) else []
        yield shard, (int(items), [(low, high) for low, high in holes])


def _last_epoch(dataset: Dataset) -> int:
    names = (found.uri.rpartition("/")[2] for found in dataset.storage.objects(dataset.internal("epochs/")))
    return max((int(name[:5]) for name in names if name.endswith(".json") and not name.startswith(".")), default=0)


def _last_settled(dataset: Dataset, before: int) -> tuple[int, set[str]]:
    for epoch in range(before - 1, 0, -1):
        path = _epoch(dataset, epoch, "accepted")
        if dataset.storage.stat(path) is not None:
            return epoch, set(dataset.storage.read(path)[0].decode().split())
    return 0, set()


def _wait_for_death(dataset: Dataset, epoch: int, wait: float) -> None:
    owner = json.loads(dataset.storage.read(_epoch(dataset, epoch, "json"))[0])
    who = f"run {epoch} of {dataset.root} (process {owner['pid']} on {owner['host']})"
    if (owner["host"], owner["boot"]) == (_host(), _boot()):
        if _lives(owner["pid"], owner["started"]):
            raise FacebatchError(f"{who} is still running; wait for it or stop it, then run the same command again")
        return
    beat = _heartbeat(dataset, epoch)
    time.sleep(wait)
    if _heartbeat(dataset, epoch) != beat:
        raise FacebatchError(f"{who} is still running; wait for it or stop it, then run the same command again")


def _heartbeat(dataset: Dataset, epoch: int) -> bytes | None:
    path = _epoch(dataset, epoch, "alive")
    return dataset.storage.read(path)[0] if dataset.storage.stat(path) else None


def _whoami() -> dict[str, Any]:
    return {"host": _host(), "boot": _boot(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _lives(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _host() -> str:
    return socket.gethostname()


def _boot() -> str:
    """Changes with each boot and differs between containers: within one of it a process number means one process."""
    file, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    boot = file.read_text().strip() if file.exists() else str(int(psutil.boot_time()))
    return f"{boot} {os.readlink(space)}" if space.exists() else boot


_DATA = re.compile(
    r"/(?:images|faces)/(\d{5,})-[0-9a-f]{16}-[0-9a-f]{8}\.parquet$"
    r"|/_facebatch/records/(\d{5,})-[0-9a-f]{16}\.json$"
)
_ASIDE = re.compile(r"/\.(\d{5,})[^/]*\.tmp$")


def _is_ours(uri: str, epoch: int) -> bool:
    """Whether this is a data file or a record, of this epoch or an earlier one."""
    match = _DATA.search(uri)
    return match is not None and int(match[1] or match[2]) <= epoch


def _is_leftover(uri: str, epoch: int) -> bool:
    """What a killed local write of this epoch or an earlier one leaves aside."""
    match = _ASIDE.search(uri)
    return match is not None and int(match[1]) <= epoch


def _epoch(dataset: Dataset, number: int, suffix: str) -> str:
    return dataset.internal("epochs", f"{number:05d}.{suffix}")


def _record(dataset: Dataset, name: str) -> str:
    return dataset.internal("records", f"{name}.json")
