"""The ledger: what counts, and what is swept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from facebatch import epochs, ledger
from facebatch.dataset import Dataset
from facebatch.epochs import Superseded, taken
from facebatch.ledger import merged, settle, state
from facebatch.plan import Shard
from facebatch.reasons import Reason
from facebatch.sink import Writer
from facebatch.sources import Kind
from facebatch.storage import Object, Storage, StorageError
from tests.test_epochs import Blind, killed_run, owned_by_a_dead_process
from tests.test_sink import FACTS, work

SHARD = Shard("s1", Kind.FILES, 0, 0, 10, 100, 10)


@pytest.fixture
def dataset(place: tuple[Storage, str]) -> Dataset:
    return Dataset.at(*place)


def _run(dataset: Dataset, *indices: int, reason: Reason | None = None) -> int:
    """A whole run that commits these rows. Returns its number."""
    with taken(dataset) as epoch:
        settle(dataset, epoch.number)
        if indices:
            Writer(dataset, epoch.guard, FACTS).write([work(i, 1, reason=reason) for i in indices])
    return epoch.number


def _names(dataset: Dataset, folder: str) -> set[str]:
    return {o.uri.rpartition("/")[2] for o in dataset.storage.objects(dataset.path(folder) + "/")}


def test_runs_are_numbered_and_see_what_earlier_ones_committed(dataset: Dataset) -> None:
    assert _run(dataset, 0, 1, 2) == 1
    assert _run(dataset, 3, 4) == 2
    now = state(dataset)
    assert now.done == {"s1": [(0, 5)]}
    assert now.totals() == {"ok": 5, "no_face": 0, "failed": 0, "skipped": 0, "faces": 5}
    assert now.missing(SHARD)
    assert now.left(SHARD) == 5
    _run(dataset, 5, 6, 7, 8, 9)
    assert not state(dataset).missing(SHARD)


def test_a_run_that_died_counts_with_what_it_committed(dataset: Dataset) -> None:
    epoch = epochs._take(dataset, 0)
    settle(dataset, epoch.number)
    Writer(dataset, epoch.guard, FACTS).write([work(0), work(1)])
    epoch._stop.set()  # it dies here: no end is written
    owned_by_a_dead_process(dataset, 1)
    assert _run(dataset, 2) == 2
    assert state(dataset).done == {"s1": [(0, 3)]}


def test_a_run_that_died_before_it_settled_changes_nothing(dataset: Dataset) -> None:
    _run(dataset, 0, 1)
    killed_run(dataset)
    owned_by_a_dead_process(dataset, 2)
    _run(dataset, 2)
    assert state(dataset).done == {"s1": [(0, 3)]}


def test_what_a_run_writes_after_it_was_taken_over_is_void_and_swept(dataset: Dataset) -> None:
    zombie = epochs._take(dataset, 0)
    settle(dataset, zombie.number)
    owned_by_a_dead_process(dataset, 1)
    with taken(dataset) as epoch:
        settle(dataset, epoch.number)
        with pytest.raises(Superseded, match="run 2 has taken over"):
            Writer(dataset, zombie.guard, FACTS).write([work(0), work(1)])
        late = Writer(dataset, Blind(1), FACTS).write([work(0), work(1)])[0]  # its check was just before the takeover
        assert state(dataset).records == []
        Writer(dataset, epoch.guard, FACTS).write([work(0), work(1), work(2)])
        assert state(dataset).done == {"s1": [(0, 3)]}
        assert late.images.path.removeprefix("images/") in _names(dataset, "images")
        assert ledger.sweep(dataset, epoch.guard, state(dataset)) == 2
    assert late.name not in " ".join(_names(dataset, "images") | _names(dataset, "_facebatch/records"))
    zombie._stop.set()


def test_a_zombie_cannot_sweep_what_its_successor_wrote(dataset: Dataset) -> None:
    zombie = epochs._take(dataset, 0)
    before = settle(dataset, zombie.number)
    owned_by_a_dead_process(dataset, 1)
    _run(dataset, 0, 1)
    with pytest.raises(Superseded):
        ledger.sweep(dataset, zombie.guard, before)
    assert ledger.sweep(dataset, Blind(1), before) == 0
    assert state(dataset).done == {"s1": [(0, 2)]}
    assert len(_names(dataset, "images")) == 1
    zombie._stop.set()


def test_files_of_a_commit_without_record_are_swept(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(dataset, 0)
    with taken(dataset) as epoch:
        settle(dataset, epoch.number)
        monkeypatch.setattr(Storage, "create", lambda *_: (_ for _ in ()).throw(StorageError("killed here")))
        with pytest.raises(StorageError):
            Writer(dataset, epoch.guard, FACTS).write([work(1), work(2)])
        monkeypatch.undo()
    assert len(_names(dataset, "images")) == 2
    _run(dataset)
    assert len(_names(dataset, "images")) == len(_names(dataset, "faces")) == 1
    assert state(dataset).done == {"s1": [(0, 1)]}


def test_only_names_of_ours_are_swept(dataset: Dataset) -> None:
    _run(dataset, 0)
    for name in ("images/notes.parquet", "faces/mine.csv", "images/00001-xyz.parquet", "_facebatch/records/README"):
        dataset.storage.put(dataset.path(*name.split("/")), b"x")
    dataset.storage.put(dataset.path("images", f".00001-{'a' * 16}.parquet.{'b' * 32}.tmp"), b"half")
    _run(dataset)
    assert {"notes.parquet", "00001-xyz.parquet"} <= _names(dataset, "images")
    assert "mine.csv" in _names(dataset, "faces")
    assert not any(name.endswith(".tmp") for name in _names(dataset, "images"))


def test_a_zombie_does_not_sweep_the_unfinished_writes_of_its_successor(tmp_path: Path) -> None:
    dataset = Dataset.at(Storage(), str(tmp_path))
    _run(dataset, 0)
    ours, theirs = (tmp_path / "images" / f".0000{n}-{'a' * 16}.parquet.{'b' * 32}.tmp" for n in (1, 2))
    ours.write_bytes(b"half")
    theirs.write_bytes(b"half")
    beat = tmp_path / "_facebatch" / "epochs" / f".00001.alive.{'b' * 32}.tmp"
    beat.write_bytes(b"7")
    ledger.sweep(dataset, Blind(1), state(dataset))
    assert not ours.exists()
    assert theirs.exists()
    assert beat.exists(), "its own heart is writing"
    ledger.sweep(dataset, Blind(2), state(dataset))
    assert not beat.exists()


def test_rows_to_be_tried_again_do_not_count_where_nothing_is_left_to_try(dataset: Dataset) -> None:
    """A tar of ten was read but for one member; then another tar was put in its place."""
    tar = Shard("s1", Kind.TAR, 0, 0, 1, 100, None)
    _run(dataset, *(i for i in range(10) if i != 4))
    _run(dataset, 4, reason=Reason.OUT_OF_MEMORY)
    ledger.write_end(dataset, 2, "s1", 10, [])
    assert state(dataset).missing(tar)
    with taken(dataset) as epoch:
        settle(dataset, epoch.number)
        Writer(dataset, epoch.guard, FACTS).write([work(10, reason=Reason.SOURCE_CHANGED)])
        ledger.write_end(dataset, epoch.number, "s1", 11, [(4, 5)])
    now = state(dataset)
    assert not now.missing(tar)
    assert not any(record.retryable for record in now.records)
    assert now.totals()["failed/SOURCE_CHANGED"] == 1
    assert "failed/OUT_OF_MEMORY" not in now.totals()


def test_of_two_records_for_the_same_rows_one_counts(dataset: Dataset) -> None:
    with taken(dataset) as epoch:
        settle(dataset, epoch.number)
        writer = Writer(dataset, epoch.guard, FACTS)
        writer.write([work(0, 1), work(1, 1)])
        writer.write([work(1, 1), work(2, 1)])
        now = state(dataset)
        assert len(now.records) == 1
        assert now.totals()["faces"] == 2
        assert ledger.sweep(dataset, epoch.guard, now) == 2
    assert state(dataset).records == now.records


def test_rows_to_be_tried_again_hold_their_place_until_they_succeed(dataset: Dataset) -> None:
    _run(dataset, 0, 1)
    _run(dataset, 2, 3, reason=Reason.ACCESS_DENIED)
    now = state(dataset)
    assert now.done == {"s1": [(0, 2)]}
    assert now.totals()["failed"] == 2, "each input has a row, also now"
    _run(dataset, 3, reason=Reason.STORAGE_ERROR)
    now = state(dataset)
    assert now.done == {"s1": [(0, 2)]}
    assert now.totals() == {"ok": 2, "no_face": 0, "failed": 1, "skipped": 0, "failed/STORAGE_ERROR": 1, "faces": 2}
    _run(dataset, 2, 3)
    assert state(dataset).totals() == {"ok": 4, "no_face": 0, "failed": 0, "skipped": 0, "faces": 4}
    _run(dataset)
    assert len(_names(dataset, "images")) == 2


def test_records_may_be_swept_while_they_are_read(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """`facebatch status` looks at a run that comes to its end. What is swept then counts for nothing."""
    _run(dataset, 0, reason=Reason.ACCESS_DENIED)
    with taken(dataset) as epoch:
        settle(dataset, epoch.number)
        Writer(dataset, epoch.guard, FACTS).write([work(0, 1)])
        now = state(dataset)
        listed = Storage.objects

        def swept_behind(storage: Storage, uri: str) -> Iterator[Object]:
            found = list(listed(storage, uri))
            if uri.endswith("/records/"):
                ledger.sweep(dataset, epoch.guard, now)
            return iter(found)

        monkeypatch.setattr(Storage, "objects", swept_behind)
        assert state(dataset) == now


def test_a_container_is_counted_once_it_was_read_to_its_end(dataset: Dataset) -> None:
    tar = Shard("t1", Kind.TAR, 0, 0, 1, 100, None)
    _run(dataset, 0)
    assert state(dataset).count(tar) is None
    assert state(dataset).missing(tar)
    ledger.write_end(dataset, 1, "t1", 7, [])
    assert state(dataset).count(tar) == 7
    ledger.write_end(dataset, 2, "t1", 9, [(3, 5)])
    assert state(dataset).count(tar) == 7, "two of nine can never be read any more"
    assert state(dataset).ends == {"t1": (9, [(3, 5)])}


def test_ranges_are_joined_where_they_touch() -> None:
    assert merged([(5, 7), (0, 2), (2, 3), (6, 9)]) == [(0, 3), (5, 9)]
    assert merged([]) == []
