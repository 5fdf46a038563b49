"""The ledger: what is done. Everything a run has to know after a kill stands in `_facebatch/`; who may write, see
`facebatch.epochs`.

    epochs/00003.accepted    the records of earlier runs that count; whatever they still write after this is void
    records/00003-9f3a.json  one commit: these files hold these index ranges (created once, after the files)
    ends/00003-SHARD-1200-0  a reader reached the end of this tar: 1,200 items, 0 of them unreadable for good

Records alone say what is done. A file in images/ or faces/ that no accepted record names does not count and is swept.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter

from facebatch.dataset import Dataset
from facebatch.epochs import EpochGuard, Guard, epoch_path, last_epoch
from facebatch.failpoints import failpoint
from facebatch.plan import Shard
from facebatch.sources import Ranges
from facebatch.storage import NotFound

ABSENT = "absent/"
"""Begins the keys of a record's counts that say for want of which packages rows have failed."""


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
    """Rows by `status`, by `status/reason` where there is a reason, and by `absent/format` where the package was not
    installed that reads the format."""
    retryable: bool = False
    replaces: list[str] = field(default_factory=list)
    """Names of the records that this one stands for: it holds what is left of their rows (`facebatch.rewrite`)."""


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
        epoch_path(dataset, epoch, "accepted"), accepted.encode()
    )  # before the sweep: what is swept stays void
    failpoint("settled")
    sweep(dataset, EpochGuard(dataset, epoch), state)
    return state


def state(dataset: Dataset) -> State:
    """What is accepted now, as a reader sees it."""
    last = last_epoch(dataset)
    base, names = _last_settled(dataset, last + 1)
    return _accept(dataset, [r for r in _records(dataset) if r.name in names or r.epoch == base])


def sweep(dataset: Dataset, guard: Guard, state: State) -> int:
    """Delete the data files and records that count for nothing. Returns how many data files went.

    Touches only names that this ledger gives, and none of a later epoch than the guard's: a run that was taken over
    without noticing cannot remove what its successor has written.
    """
    guard.check()
    kept = {dataset.path(f.path) for r in state.records for f in (r.images, r.faces)}
    kept |= {record_path(dataset, r.name) for r in state.records}
    swept = 0
    for folder in ("images", "faces", "_facebatch"):
        for found in list(dataset.storage.objects(dataset.path(folder) + "/")):
            if _is_leftover(found.uri, guard.epoch) or (found.uri not in kept and _is_ours(found.uri, guard.epoch)):
                dataset.storage.delete(found.uri)
                failpoint("sweep")
                swept += found.uri.endswith(".parquet")
    return swept


def is_void(dataset: Dataset, record: Record) -> bool:
    """Whether a later run has settled without this record, so that it never counts."""
    base, names = _last_settled(dataset, last_epoch(dataset) + 1)
    return base > record.epoch and record.name not in names


def write_end(dataset: Dataset, epoch: int, shard_id: str, items: int, gone: Ranges) -> None:
    """Note that a container has been read to its end. The name says it all unless something is gone."""
    name = f"{epoch:05d}-{shard_id}-{items}-{_length(gone)}"
    dataset.storage.put(dataset.internal("ends", name), json.dumps(gone).encode())


def _accept(dataset: Dataset, records: Iterable[Record]) -> State:
    """Records whose ranges nobody claimed before: final ones first, then the newest of those that are to be retried.

    Rows to be retried do not count where there is nothing left to retry: their container was replaced. Records that
    another one stands for do not count beside it.
    """
    records = list(records)
    replaced = {name for record in records for name in record.replaces}
    records = [record for record in records if record.name not in replaced]
    accepted: list[Record] = []
    taken: dict[str, Ranges] = {}
    done: dict[str, Ranges] = {}
    ends = dict(_ends(dataset))
    for record in sorted(records, key=lambda r: (r.retryable, -r.epoch if r.retryable else r.epoch, r.name)):
        lost = {shard: ends[shard][1] for shard in record.ranges if record.retryable and shard in ends}
        if any(
            _overlap(ranges, taken.get(shard, [])) or _overlap(ranges, lost.get(shard, []))
            for shard, ranges in record.ranges.items()
        ):
            continue
        accepted.append(record)
        for shard, ranges in record.ranges.items():
            taken[shard] = merged([*taken.get(shard, []), *ranges])
            if not record.retryable:
                done[shard] = merged([*done.get(shard, []), *ranges])
    return State(accepted, done, ends)


def places(found: Iterable[tuple[str, int]]) -> dict[str, Ranges]:
    """Index ranges by shard, of pairs of shard and index."""
    ranges: dict[str, Ranges] = {}
    for shard, index in found:
        ranges.setdefault(shard, []).append((index, index + 1))
    return {shard: merged(pairs) for shard, pairs in sorted(ranges.items())}


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
    """Whether ranges have an index in common with others that are sorted and disjoint."""
    for low, high in some:
        at = bisect_left(others, high, key=itemgetter(0)) - 1
        if at >= 0 and low < others[at][1]:
            return True
    return False


def _length(ranges: Ranges) -> int:
    return sum(high - low for low, high in ranges)


def _records(dataset: Dataset) -> Iterator[Record]:
    uris = [found.uri for found in dataset.storage.objects(dataset.internal("records/")) if _DATA.search(found.uri)]
    with ThreadPoolExecutor(16, thread_name_prefix="records") as threads:  # small objects: the wait is the round trip
        for data in threads.map(partial(_read, dataset), uris):
            if data is None:
                continue
            raw = json.loads(data)
            ranges = {shard: [(low, high) for low, high in pairs] for shard, pairs in raw.pop("ranges").items()}
            yield Record(**{**raw, "images": File(**raw["images"]), "faces": File(**raw["faces"]), "ranges": ranges})


def _read(dataset: Dataset, uri: str) -> bytes | None:
    """A record; None where it was swept since it was listed, because it counts for nothing."""
    try:
        return dataset.storage.read(uri)[0]
    except NotFound:
        return None


def _ends(dataset: Dataset) -> Iterator[tuple[str, tuple[int, Ranges]]]:
    """What was noted of containers, the last word on each behind the others: of the last run, and of the most items."""
    noted = []
    for found in dataset.storage.objects(dataset.internal("ends/")):
        name = found.uri.rpartition("/")[2]
        if not name.startswith("."):
            epoch, shard, items, gone = name.split("-")
            noted.append((int(epoch), int(items), int(gone), shard, found.uri))
    for _, count, lost, shard, uri in sorted(noted):
        holes = json.loads(dataset.storage.read(uri)[0]) if lost else []
        yield shard, (count, [(low, high) for low, high in holes])


def _last_settled(dataset: Dataset, before: int) -> tuple[int, set[str]]:
    for epoch in range(before - 1, 0, -1):
        path = epoch_path(dataset, epoch, "accepted")
        if dataset.storage.stat(path) is not None:
            return epoch, set(dataset.storage.read(path)[0].decode().split())
    return 0, set()


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
    """What a killed local write of this epoch or an earlier one leaves aside; not what this run's heart just writes."""
    match = _ASIDE.search(uri)
    return match is not None and (int(match[1]) < epoch or (int(match[1]) == epoch and "/_facebatch/" not in uri))


def record_path(dataset: Dataset, name: str) -> str:
    """Where a record stands."""
    return dataset.internal("records", f"{name}.json")
