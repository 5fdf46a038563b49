"""Shards as a Ray datasource: a read task reads its shards in order and skips what is done already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
from ray.data import DataContext
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from facebatch import ledger, plan
from facebatch.dataset import Dataset
from facebatch.epochs import Guard
from facebatch.plan import Shard
from facebatch.schema import WORK
from facebatch.sources import Item, Kind, Ranges, Source
from facebatch.sources.base import Base
from facebatch.sources.broken import read_broken
from facebatch.sources.files import read_files
from facebatch.sources.rows import read_rows
from facebatch.sources.tar import Incomplete, read_tar
from facebatch.work import Work, to_table

_MOST_TASKS = 4096
"""Read tasks of a run at most: the driver keeps a closure for each, so many shards share one."""


@dataclass(frozen=True)
class Reader:
    """What a read task needs besides its shards. Small, because it is pickled into every task."""

    dataset: Dataset
    guard: Guard
    base: Base
    max_bytes: int
    block_bytes: int

    def read(self, shards: list[tuple[Shard, Ranges]]) -> Iterator[pa.Table]:
        """Tables of schema WORK, of about `block_bytes`. The same rows in the same order at every attempt."""
        works: list[Work] = []
        size = 0
        for shard, done in shards:
            planned = plan.sources(self.dataset, shard)
            found = [replace(source, object=self.base.located(source.object)) for source in planned]
            identity = {there.object.uri: source.object.uri for there, source in zip(found, planned, strict=True)}
            for item in self._items(shard, found, done):
                works.append(Work.of(shard.shard_id, replace(item, uri=identity[item.uri])))
                size += 1000 + len(item.data or b"")
                if size >= self.block_bytes:
                    yield to_table(works)
                    works, size = [], 0
        if works:
            yield to_table(works)

    def _items(self, shard: Shard, planned: list[Source], done: Ranges) -> Iterator[Item]:
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
                    end = yield from read_tar(storage, planned[0], done, limit)
                except Incomplete:
                    return  # the row that tells why has been given; without an end, a later run reads on
                self.guard.check()
                ledger.write_end(self.dataset, self.guard.epoch, shard.shard_id, end.count, end.gone)


class ShardSource(Datasource):
    """Shards and what of them is done, as read tasks of about equal bytes."""

    def __init__(self, reader: Reader, shards: Iterable[tuple[Shard, Ranges]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reader = reader
        shards = list(shards)
        size = -(-len(shards) // _MOST_TASKS) or 1
        self._groups = [shards[start : start + size] for start in range(0, len(shards), size)]

    def __len__(self) -> int:
        """How many read tasks there are; passed as `override_num_blocks`, or Ray would split the blocks again."""
        return len(self._groups)

    def estimate_inmemory_data_size(self) -> int:
        return sum(shard.bytes for group in self._groups for shard, _ in group)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        return [self._task(group) for group in self._groups]

    def _task(self, group: list[tuple[Shard, Ranges]]) -> ReadTask:
        reader = self._reader
        metadata = BlockMetadata(
            num_rows=None, size_bytes=sum(shard.bytes for shard, _ in group), input_files=None, exec_stats=None
        )
        return ReadTask(lambda: reader.read(group), metadata, schema=WORK)
