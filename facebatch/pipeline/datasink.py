"""The sink as Ray sees it: each write task commits the rows it is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ray.data._internal.execution.interfaces import TaskContext
from ray.data.block import Block
from ray.data.datasource import Datasink

from facebatch import logs, tally
from facebatch.pipeline.desk import note
from facebatch.sink import Writer, committed
from facebatch.stopwatch import Stopwatch
from facebatch.work import unpacked


class CommitSink(Datasink[None]):
    """Commits the images of so many parcels at once (Ray joins blocks up to that) to the dataset."""

    def __init__(self, writer: Writer, parcels: int, desk: Any) -> None:
        self._writer, self._parcels, self._desk = writer, parcels, desk

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> None:
        logs.from_worker(self._writer.guard.epoch)
        watch = Stopwatch()
        with watch.timing("write"):
            # One by one: the block of a task that gave nothing has no columns, and cannot be joined with others.
            works = [work for block in blocks for work in unpacked(block)]
            records = self._writer.write(works)
        note(self._desk, watch.taken() | tally.taken() | committed(works, records))

    @property
    def min_rows_per_write(self) -> int:
        return self._parcels
