"""Read tasks, run as plain functions: no Ray is started here."""

from __future__ import annotations

import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from ray import cloudpickle

from facebatch import config, ledger, plan
from facebatch.dataset import Dataset
from facebatch.pipeline.datasource import ShardSource
from facebatch.plan import Shard
from facebatch.reader import Parcels, Reader
from facebatch.reasons import Reason
from facebatch.schema import PARCEL
from facebatch.sources import Kind, Ranges, Source
from facebatch.sources.base import Base
from facebatch.sources.inputs import expand
from facebatch.storage import Object, Storage
from facebatch.work import Work, unpacked
from tests.test_epochs import Blind


@dataclass
class Told:
    """A desk that remembers. Class-wide, because read tasks arrive in workers as copies."""

    begun: ClassVar[list[None]] = []
    counts: ClassVar[list[dict[str, int]]] = []

    @property
    def began(self) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda: self.begun.append(None))

    @property
    def add(self) -> SimpleNamespace:
        return SimpleNamespace(remote=self.counts.append)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A hundred loose files and a tar of ten, planned."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(100):
        (photos / f"{i:03d}.jpg").write_bytes(b"x" * 1000)
    with tarfile.open(photos / "a.tar", "w") as tar:
        for i in range(10):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = 5
            tar.addfile(info, io.BytesIO(b"hello"))
    made = Dataset.at(Storage(), str(tmp_path / "out"))
    sources = list(expand(made.storage, config.Config(inputs=(str(photos),), output=made.root)))
    plan.freeze(made, 0, sources, config.Shards(files=30))
    return made


def _reader(dataset: Dataset, base: str | None = None) -> Reader:
    return Reader(dataset, Base.at(base), max_bytes=10_000)


def _source(
    dataset: Dataset, shards: list[tuple[Shard, Ranges]], base: str | None = None, unread: int = 0
) -> ShardSource:
    return ShardSource(_reader(dataset, base), Blind(1), shards, Told(), Parcels(unread or 1000, 20_000, bool(unread)))


def _read(source: ShardSource) -> list[Work]:
    return [work for parcel in _parcels(source) for work in parcel]


def _parcels(source: ShardSource) -> list[list[Work]]:
    parcels = []
    for task in source.get_read_tasks(1):
        for table in pickle.loads(cloudpickle.dumps(task))():  # type: ignore[no-untyped-call]  # as it arrives in a worker
            assert table.schema.equals(PARCEL)
            assert table.nbytes < 40_000
            parcels.append(unpacked(table))
    return parcels


def test_every_planned_image_is_read_once(dataset: Dataset) -> None:
    shards = plan.shards(dataset)
    source = _source(dataset, [(shard, []) for shard in shards])
    assert len(source) == len(shards) == 5
    works = _read(source)
    assert len({(w.uri, w.member) for w in works}) == len(works) == 110
    assert source.estimate_inmemory_data_size() == sum(s.bytes for s in shards)
    assert ledger.state(dataset).count(next(s for s in shards if s.count is None)) == 10


def test_what_is_done_is_not_read_again(dataset: Dataset) -> None:
    shards = plan.shards(dataset)
    whole = _read(_source(dataset, [(shard, []) for shard in shards]))
    rest = _read(_source(dataset, [(shard, [(0, 5), (7, 1000)]) for shard in shards]))
    assert [(w.shard_id, w.index) for w in rest] == [(w.shard_id, w.index) for w in whole if w.index in (5, 6)]


def test_many_shards_share_a_task(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facebatch.pipeline.datasource._MOST_TASKS", 2)
    shards = plan.shards(dataset)
    source = _source(dataset, [(shard, []) for shard in shards])
    assert len(source) == 2
    assert len(_read(source)) == 110


def test_an_identity_is_the_one_that_was_planned_wherever_the_base_now_lies(tmp_path: Path) -> None:
    """What lay beside the old base keeps its absolute URI, also when the new base holds it."""
    there = tmp_path / "there"
    there.mkdir()
    (there / "a.jpg").write_bytes(b"a")
    (there / "b.jpg").write_bytes(b"b")
    made = Dataset.at(Storage(), str(tmp_path / "out"))
    carried = (("city", "Oslo"),)
    planned = [Source(Kind.FILES, Object(uri, 1), extra=carried) for uri in ("a.jpg", str(there / "b.jpg"))]
    plan.freeze(made, 0, planned, config.Shards())
    works = _read(_source(made, [(shard, []) for shard in plan.shards(made)], str(there)))
    assert [(w.uri, w.data) for w in works] == [("a.jpg", b"a"), (str(there / "b.jpg"), b"b")]
    assert [tuple(w.extra or ()) for w in works] == [carried, carried]


def test_the_desk_is_told_of_the_first_byte_and_of_what_moves(dataset: Dataset) -> None:
    Told.begun.clear()
    Told.counts.clear()
    shards = plan.shards(dataset)
    _read(_source(dataset, [(shard, []) for shard in shards]))
    assert len(Told.begun) == len(shards)
    assert sum(told["moved"] for told in Told.counts) > 100 * 1000
    assert all(told["read_us"] > 0 for told in Told.counts)


def test_loose_files_may_travel_unread_so_many_at_a_time(dataset: Dataset) -> None:
    shards: list[tuple[Shard, Ranges]] = [(shard, [(0, 3)] if shard.count else []) for shard in plan.shards(dataset)]
    whole = _read(_source(dataset, shards))
    files = _parcels(_source(dataset, shards, unread=7))
    loose = [some for some in files if any(work.source for work in some)]
    assert all(work.data is None for some in loose for work in some)
    assert {len(some) for some in loose} == {7, 6}, "27 are left of each shard of 30, 7 of the last one"
    works = [work for some in files for work in _reader(dataset).read(some)]
    assert [(w.uri, w.member, w.index, w.data, w.size_bytes, w.mtime_ns) for w in works] == [
        (w.uri, w.member, w.index, w.data, w.size_bytes, w.mtime_ns) for w in whole
    ]


def test_what_has_gone_or_changed_since_it_was_planned_shows_when_it_is_read(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "photos" / "000.jpg").unlink()
    (tmp_path / "photos" / "001.jpg").write_bytes(b"another")
    source = _source(dataset, [(shard, []) for shard in plan.shards(dataset)], unread=7)
    works = [work for some in _parcels(source) for work in _reader(dataset).read(some)]
    assert {w.uri[-7:]: w.reason for w in works if w.reason} == {
        "000.jpg": Reason.NOT_FOUND,
        "001.jpg": Reason.SOURCE_CHANGED,
    }
    assert len(works) == 110
