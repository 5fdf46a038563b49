"""Chosen images of a shard, whatever it is made of. Whole shards: tests/pipeline/test_datasource.py."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facebatch import config, logs, plan
from facebatch.dataset import Dataset
from facebatch.epochs import EpochGuard
from facebatch.plan import Shard
from facebatch.reader import Parcels, Reader
from facebatch.reasons import Reason
from facebatch.sources import Kind, Ranges, Source
from facebatch.sources.base import Base
from facebatch.sources.inputs import expand
from facebatch.storage import Object, Storage
from facebatch.work import unpacked

CHOSEN: Ranges = [(0, 1), (3, 5), (7, 8)]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Ten photos of a few bytes in each form, and ten lines of a manifest that make no sense; planned."""
    folder = tmp_path / "in"
    folder.mkdir()
    contents = [f"photo {i}".encode() for i in range(10)]
    for i, data in enumerate(contents):
        (folder / f"{i}.jpg").write_bytes(data)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for i, data in enumerate(contents):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    pq.write_table(pa.table({"image": contents}), tmp_path / "rows.parquet")
    made = Dataset.at(Storage(), str(tmp_path / "out"))
    sources = list(expand(made.storage, config.Config(inputs=(str(folder), str(tmp_path / "rows.parquet")))))
    broken = [Source(Kind.BROKEN, Object("/list.csv", 10), part=i, trouble="no line") for i in range(10)]
    plan.freeze(made, 0, [*sources, *broken], config.Shards())
    return made


def _shard(dataset: Dataset, kind: Kind) -> Shard:
    return next(shard for shard in plan.shards(dataset) if shard.kind is kind)


def _reader(dataset: Dataset) -> Reader:
    return Reader(dataset, Base(), max_bytes=10_000)


@pytest.mark.parametrize("kind", [Kind.FILES, Kind.TAR, Kind.ROWS])
def test_the_chosen_images_and_no_others_are_read(dataset: Dataset, kind: Kind) -> None:
    works = list(_reader(dataset).chosen(_shard(dataset, kind), CHOSEN))
    assert [(w.index, w.data) for w in works] == [(i, f"photo {i}".encode()) for i in (0, 3, 4, 7)]
    assert list(_reader(dataset).chosen(_shard(dataset, kind), [])) == []


def test_what_is_broken_is_read_as_broken(dataset: Dataset) -> None:
    works = list(_reader(dataset).chosen(_shard(dataset, Kind.BROKEN), CHOSEN))
    assert [(w.index, w.member, w.reason) for w in works] == [
        (i, f"line {i}", Reason.BROKEN_CONTAINER) for i in (0, 3, 4, 7)
    ]


def test_choosing_notes_nothing(dataset: Dataset) -> None:
    before = sorted(o.uri for o in dataset.storage.objects(dataset.root + "/"))
    for kind in Kind:
        assert list(_reader(dataset).chosen(_shard(dataset, kind), [(0, 11)]))
    assert sorted(o.uri for o in dataset.storage.objects(dataset.root + "/")) == before


def test_a_tar_is_read_no_further_than_the_last_that_is_chosen(dataset: Dataset) -> None:
    """What is damaged behind it is not met."""
    shard = _shard(dataset, Kind.TAR)
    (source,) = plan.sources(dataset, shard)
    file = Path(source.object.uri)
    data = bytearray(file.read_bytes())
    data[8 * 1024 : 8 * 1024 + 512] = b"\xff" * 512
    file.write_bytes(bytes(data))
    os.utime(file, ns=(source.object.mtime_ns or 0, source.object.mtime_ns or 0))
    assert [w.reason for w in _reader(dataset).chosen(shard, CHOSEN)] == [None] * 4
    behind = list(_reader(dataset).chosen(shard, [(7, 9)]))
    assert [(w.index, w.reason) for w in behind] == [(7, None), (8, Reason.BROKEN_CONTAINER)]


def test_a_replaced_tar_tells_so_for_every_chosen_image(dataset: Dataset) -> None:
    shard = _shard(dataset, Kind.TAR)
    file = Path(plan.sources(dataset, shard)[0].object.uri)
    file.write_bytes(file.read_bytes() + b"\0" * 512)
    works = list(_reader(dataset).chosen(shard, CHOSEN))
    assert {w.index: w.reason for w in works} == dict.fromkeys((0, 3, 4, 7), Reason.SOURCE_CHANGED)


def test_a_tar_that_is_gone_tells_so_for_every_chosen_image(dataset: Dataset) -> None:
    shard = _shard(dataset, Kind.TAR)
    Path(plan.sources(dataset, shard)[0].object.uri).unlink()
    works = list(_reader(dataset).chosen(shard, CHOSEN))
    assert {w.index: w.reason for w in works} == dict.fromkeys((0, 3, 4, 7), Reason.NOT_FOUND)


def test_an_index_that_a_container_does_not_have_has_no_work(dataset: Dataset) -> None:
    works = list(_reader(dataset).chosen(_shard(dataset, Kind.TAR), [(9, 12)]))
    assert [w.index for w in works] == [9]


def test_a_shard_says_when_it_is_begun_and_when_it_is_read_to_its_end(dataset: Dataset) -> None:
    told = io.StringIO()
    logs.to(told)
    shard = _shard(dataset, Kind.TAR)
    parcels = _reader(dataset).parcels([(shard, [(0, 4)])], EpochGuard(dataset, 0), Parcels(2, 1 << 20))
    next(parcels)
    (begun,) = map(json.loads, told.getvalue().splitlines())
    assert (begun["event"], begun["shard_id"], begun["images"]) == ("shard_begun", shard.shard_id, None)
    list(parcels)
    read = json.loads(told.getvalue().splitlines()[-1])
    assert (read["event"], read["shard_id"], read["images"]) == ("shard_read", shard.shard_id, 6)


def test_parcels_grow_smaller_towards_the_end_of_a_run() -> None:
    """So that no worker is long at its last one when the others have done theirs."""
    size, left, given = Parcels(100, 1 << 20, hands=2), 1000, []
    while left:
        given.append(min(size.most(left), left))
        left -= given[-1]
    assert given == [*[100] * 6, 100, 75, 56, 42, 31, 24, 18, 13, 12, 12, 12, 5]


def test_small_parcels_stay_as_they_are() -> None:
    assert [Parcels(8, 1 << 20, hands=16).most(left) for left in (1000, 100, 1)] == [8, 8, 8]
    assert Parcels(100, 1 << 20, hands=2).most(None) == 100, "a container that nobody has counted"
    assert Parcels(100, 1 << 20).most(1) == 100, "others come behind these"


def test_the_last_parcels_of_what_is_left_are_the_small_ones(dataset: Dataset) -> None:
    shard = _shard(dataset, Kind.FILES)

    def parcels(hands: int) -> list[int]:
        size = Parcels(9, 1 << 20, unread=True, hands=hands)
        return [
            len(unpacked(parcel)) for parcel in _reader(dataset).parcels([(shard, [])], EpochGuard(dataset, 0), size)
        ]

    assert (parcels(hands=0), parcels(hands=1)) == ([9, 1], [8, 2])
