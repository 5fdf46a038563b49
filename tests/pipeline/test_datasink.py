"""What a write task is given, and commits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

import pyarrow as pa
import pytest
import ray
import ray.exceptions

from facebatch import tally
from facebatch.ledger import Record
from facebatch.pipeline.datasink import CommitSink
from facebatch.work import Work, packed


def test_blocks_of_tasks_that_gave_nothing_are_passed_over_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives a block without columns for an empty tar."""
    written: list[list[int]] = []
    counts: list[dict[str, int]] = []

    def write(works: list[Work]) -> list[Record]:
        written.append([work.index for work in works])
        return []

    monkeypatch.setattr(ray, "get", lambda answer, timeout: answer)
    tally.taken()
    writer: Any = SimpleNamespace(write=write, guard=SimpleNamespace(epoch=1))
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


def test_a_commit_that_nobody_can_count_stands(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> NoReturn:
        raise ray.exceptions.ActorUnavailableError("restarting", None)

    monkeypatch.setattr(ray, "get", away)
    writer: Any = SimpleNamespace(write=lambda works: [], guard=SimpleNamespace(epoch=1))
    desk = SimpleNamespace(add=SimpleNamespace(remote=lambda counts: counts))
    CommitSink(writer, 4, desk).write([packed([Work("s", 0, "a", "", 1)])], None)  # type: ignore[arg-type]
    assert "a commit is not in the run's counts" in caplog.text
