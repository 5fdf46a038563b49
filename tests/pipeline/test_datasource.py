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
from facebatch.reader import Reader
from facebatch.schema import WORK
from facebatch.sources import Kind, Ranges, Source
from facebatch.sources.base import Base
from facebatch.sources.inputs import expand
from facebatch.storage import Object, Storage
from facebatch.work import Work, from_table
from tests.test_epochs import Blind


@dataclass
class Told:
    """A meter that remembers. Class-wide, because read tasks arrive in workers as copies."""

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


def _source(dataset: Dataset, shards: list[tuple[Shard, Ranges]], base: str | None = None) -> ShardSource:
    return ShardSource(Reader(dataset, Base.at(base), max_bytes=10_000), Blind(1), 20_000, shards, Told())


def _read(source: ShardSource) -> list[Work]:
    works = []
    for task in source.get_read_tasks(1):
        for table in pickle.loads(cloudpickle.dumps(task))():  # type: ignore[no-untyped-call]  # as it arrives in a worker
            assert table.schema.equals(WORK)
            assert table.nbytes < 40_000
            works += from_table(table)
    return works


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


def test_the_meter_is_told_of_the_first_byte_and_of_what_moves(dataset: Dataset) -> None:
    Told.begun.clear()
    Told.counts.clear()
    shards = plan.shards(dataset)
    _read(_source(dataset, [(shard, []) for shard in shards]))
    assert len(Told.begun) == len(shards)
    assert sum(told["moved"] for told in Told.counts) > 100 * 1000
    assert all(told["read_us"] > 0 for told in Told.counts)
