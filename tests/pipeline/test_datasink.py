"""What a write task is given, and commits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from facebatch.pipeline.datasink import CommitSink
from facebatch.work import Work, packed


def test_blocks_of_tasks_that_gave_nothing_are_passed_over_beside_others() -> None:
    """Ray gives a block without columns for an empty tar."""
    written: list[list[int]] = []
    counts: list[dict[str, int]] = []
    writer: Any = SimpleNamespace(write=lambda works: written.append([work.index for work in works]))
    desk = SimpleNamespace(add=SimpleNamespace(remote=counts.append))
    blocks = [
        packed([Work("s", 0, "a", "", 1), Work("s", 1, "b", "", 1)]),
        pa.table({}),
        packed([Work("t", 2, "c", "", 1)]),
    ]
    CommitSink(writer, 4, desk).write(blocks, None)  # type: ignore[arg-type]
    assert written == [[0, 1, 2]]
    assert [sorted(told) for told in counts] == [["write_us"]]
    assert CommitSink(writer, 4, desk).min_rows_per_write == 4
