"""Shards as a Ray datasource: a read task reads its shards in order and skips what is done already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
from ray.data import DataContext
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from facebatch import logs, tally
from facebatch.epochs import Guard
from facebatch.plan import Shard
from facebatch.reader import Parcels, Reader
from facebatch.schema import PARCEL
from facebatch.sources import Ranges
from facebatch.stopwatch import Stopwatch

_MOST_TASKS = 4096
"""Read tasks of a run at most: the driver keeps a closure for each, so many shards share one."""


class ShardSource(Datasource):
    """Shards and what of them is done, as read tasks of about equal bytes."""

    def __init__(
        self,
        reader: Reader,
        guard: Guard,
        shards: Iterable[tuple[Shard, Ranges]],
        desk: Any,
        size: Parcels,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reader, self._guard, self._desk, self._size = reader, guard, desk, size
        shards = list(shards)
        each = -(-len(shards) // _MOST_TASKS) or 1
        self._groups = [shards[start : start + each] for start in range(0, len(shards), each)]

    def __len__(self) -> int:
        """How many read tasks there are; passed as `override_num_blocks`, or Ray would split the blocks again."""
        return len(self._groups)

    def estimate_inmemory_data_size(self) -> int:
        return sum(shard.bytes for group in self._groups for shard, _ in group)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        whole = replace(self._size, hands=0)  # the last one alone knows that the run ends
        return [self._task(group, self._size if group is self._groups[-1] else whole) for group in self._groups]

    def _task(self, group: list[tuple[Shard, Ranges]], size: Parcels) -> ReadTask:
        read = partial(self._reader.parcels, group, self._guard, size)
        desk, run = self._desk, self._guard.epoch
        metadata = BlockMetadata(
            num_rows=None, size_bytes=sum(shard.bytes for shard, _ in group), input_files=None, exec_stats=None
        )
        return ReadTask(lambda: _metered(read(), desk, run), metadata, schema=PARCEL)


def _metered(parcels: Iterator[pa.Table], desk: Any, run: int) -> Iterator[pa.Table]:
    """The same parcels; the desk is told when the first byte was asked for, and what reading took."""
    logs.from_worker(run)
    watch = Stopwatch()
    desk.began.remote()
    for parcel in watch.waiting_for("read", parcels):
        desk.add.remote(watch.taken() | tally.taken() | {"moved": parcel.nbytes})
        yield parcel
