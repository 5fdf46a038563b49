"""Reading shards: from planned sources to works with their bytes, without Ray.

Which indices are read is said by ranges: those that are done are left out, or those that are chosen are read alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from facebatch import ledger, logs, plan
from facebatch.dataset import Dataset
from facebatch.epochs import Guard
from facebatch.plan import Shard
from facebatch.sources import Item, Kind, Ranges, Source, gaps, inside
from facebatch.sources.base import Base
from facebatch.sources.broken import read_broken
from facebatch.sources.files import read_files
from facebatch.sources.rows import read_rows
from facebatch.sources.tar import End, Incomplete, read_tar
from facebatch.work import Work, packed

_AHEAD = 32
"""Remote reads in flight while a batch is worked on: the next batch."""
_GUESS = 300_000
"""Bytes of a file whose size no listing told."""
_FEWEST = 8
"""Images in one of the last parcels, which have no less than an eighth of the others either: each costs Ray 20 ms."""


@dataclass(frozen=True, slots=True)
class Parcels:
    """How images are handed over: so many at most, and of so many encoded bytes at most, or one image that is larger.

    unread: loose files go without their bytes, and whoever gets them calls `Reader.read`.
    hands: how many workers share what is left when it comes to an end. The last parcels grow smaller then, by guided
    self-scheduling (Polychronopoulos and Kuck, 1987), so that none of them is long at work when the others are done.
    """

    images: int
    bytes: int
    unread: bool = False
    hands: int = 0

    def most(self, left: int | None) -> int:
        """Images in the next parcel, where so many are left."""
        if not self.hands or left is None:
            return self.images
        return min(self.images, max(left // (2 * self.hands), self.images // 8, _FEWEST))


@dataclass(frozen=True)
class Reader:
    """Reads what a dataset has planned, from where its base now lies. Small, because it is pickled into every task."""

    dataset: Dataset
    base: Base
    max_bytes: int

    def parcels(self, shards: Iterable[tuple[Shard, Ranges]], guard: Guard, size: Parcels) -> Iterator[pa.Table]:
        """The works of shards without those that are done, in parcels of schema PARCEL.

        The same works in the same order at every attempt. The ends of containers are noted in the ledger.
        """
        works: list[Work] = []
        held = 0
        shards = list(shards)
        left = _left(shards)
        most = size.most(left)
        for shard, done in shards:

            def note(end: End, name: str = shard.shard_id) -> None:
                guard.check()
                ledger.write_end(self.dataset, guard.epoch, name, end.count, end.gone)

            loose = shard.kind is Kind.FILES
            unread = size.unread and loose
            planned = plan.sources(self.dataset, shard)
            logs.event("shard_begun", "a shard is read", shard_id=shard.shard_id, images=shard.count)
            read = 0
            for work in self._unread(shard, planned, done) if unread else self._works(shard, planned, done, note):
                works.append(work)
                read += 1
                if not unread:  # not what was read of a file: that may fail at another attempt
                    weight = planned[work.index].object.size if loose else work.size_bytes
                    held += 1000 + (weight if weight >= 0 else _GUESS)
                if held >= size.bytes or len(works) >= most:
                    yield packed(works)
                    left = None if left is None else left - len(works)
                    works, held, most = [], 0, size.most(left)
            logs.event("shard_read", "a shard is read to its end", shard_id=shard.shard_id, images=read)
        if works:
            yield packed(works)

    def read(self, works: Sequence[Work]) -> Iterator[Work]:
        """The same works, those that were unread with their bytes. The next ones are read while one is worked on."""
        sources = [work.source for work in works if work.source]
        items = read_files(self.dataset.storage, sources, [], self.max_bytes, _AHEAD)
        for work in works:
            if work.source:
                work.take(next(items))
            yield work

    def chosen(self, shard: Shard, wanted: Ranges) -> Iterator[Work]:
        """The works of these indices alone. Notes nothing, and reads a container no further than the last of them.

        A container that was replaced, or whose storage fails, tells so once: that work is given for each index that is
        left then. An index that the container does not have has no work.
        """
        left = {index for low, high in wanted for index in range(low, high)}
        told: Work | None = None
        planned = plan.sources(self.dataset, shard)
        with closing(self._works(shard, planned, gaps(wanted, shard.count or 0), lambda _: None)) as works:
            while left and (work := next(works, None)):
                left.discard(work.index)
                told = work if shard.kind is Kind.TAR and work.reason and not work.member else None
                yield work
        if told:
            yield from (replace(told, index=index) for index in sorted(left))

    def _works(
        self, shard: Shard, planned: list[Source], done: Ranges, note: Callable[[End], None]
    ) -> Generator[Work, None, None]:
        """Identities are those that were planned, wherever the objects now are."""
        found = [replace(source, object=self.base.located(source.object)) for source in planned]
        identity = {there.object.uri: source.object.uri for there, source in zip(found, planned, strict=True)}
        for item in self._items(shard, found, done, note):
            yield Work.of(shard.shard_id, replace(item, uri=identity[item.uri]))

    def _unread(self, shard: Shard, planned: list[Source], done: Ranges) -> Iterator[Work]:
        """Loose files as they were planned. Whether they are there, and still the same, shows when they are read."""
        for index, source in enumerate(planned):
            if not inside(index, done):
                known = source.object
                item = Item(index, known.uri, "", max(known.size, 0), known.etag, known.mtime_ns, extra=source.extra)
                work = Work.of(shard.shard_id, item)
                work.source = replace(source, object=self.base.located(known))
                yield work

    def _told(self, shard_id: str) -> bool:
        """Whether a final row speaks of a container itself, and of no member. Reads tables, for this happens seldom."""
        for record in ledger.state(self.dataset).records:
            if shard_id in record.ranges and not record.retryable:
                with self.dataset.storage.open(self.dataset.path(record.images.path)) as stream:
                    rows = pq.ParquetFile(stream).read(columns=["shard_id", "member"])
                if (shard_id, "") in zip(*(rows[name].to_pylist() for name in ("shard_id", "member")), strict=True):
                    return True
        return False

    def _items(self, shard: Shard, planned: list[Source], done: Ranges, note: Callable[[End], None]) -> Iterator[Item]:
        storage, limit = self.dataset.storage, self.max_bytes
        match shard.kind:
            case Kind.FILES:
                yield from read_files(storage, planned, done, limit)
            case Kind.ROWS:
                yield from read_rows(storage, planned[0], done, limit)
            case Kind.BROKEN:
                yield from read_broken(planned, done)
            case Kind.TAR:
                try:
                    end = yield from read_tar(storage, planned[0], done, limit, partial(self._told, shard.shard_id))
                except Incomplete:
                    return  # the row that tells why has been given; without an end, a later run reads on
                note(end)


def _left(shards: Iterable[tuple[Shard, Ranges]]) -> int | None:
    """The images of these shards without those that are done; None where a container has not been counted yet."""
    left = 0
    for shard, done in shards:
        if shard.count is None:
            return None
        left += sum(high - low for low, high in gaps(done, shard.count))
    return left
