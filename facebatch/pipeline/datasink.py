"""The sink as Ray sees it: each write task commits the rows it is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from ray.data._internal.execution.interfaces import TaskContext
from ray.data.block import Block
from ray.data.datasource import Datasink

from facebatch.sink import Writer
from facebatch.stopwatch import Stopwatch
from facebatch.work import from_table


class CommitSink(Datasink[None]):
    """Commits bundles of at least `commit_images` rows (Ray joins blocks up to that) to the dataset."""

    def __init__(self, writer: Writer, commit_images: int, meter: Any) -> None:
        self._writer, self._commit_images, self._meter = writer, commit_images, meter

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> None:
        watch = Stopwatch()
        with watch.timing("write"):
            self._writer.write(from_table(pa.concat_tables(blocks)))
        self._meter.add.remote(watch.taken())

    @property
    def min_rows_per_write(self) -> int:
        return self._commit_images
