"""The plan: frozen once, the same for every run."""

from __future__ import annotations

import pytest

from facebatch import config, plan
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.sources import Kind, Source
from facebatch.storage import Object, Storage


def _file(name: str, size: int = 10, etag: str | None = "v1", mtime: int = 1) -> Source:
    return Source(Kind.FILES, Object(f"/photos/{name}", size, etag, mtime))


def _tar(name: str) -> Source:
    return Source(Kind.TAR, Object(f"/shards/{name}", 999, "t1", 5))


@pytest.fixture
def dataset(place: tuple[Storage, str]) -> Dataset:
    return Dataset.at(*place)


def test_files_are_grouped_by_count_and_bytes_and_a_tar_stands_alone() -> None:
    sources = [_file("a"), _file("b"), _tar("0.tar"), _file("c"), _file("big", 100), _file("d")]
    names = [
        [s.object.uri.rpartition("/")[2] for s in shard]
        for shard in plan.grouped(sources, config.Shards(files=3, bytes=50))
    ]
    assert names == [["0.tar"], ["a", "b", "c"], ["big"], ["d"]]


def test_what_is_frozen_is_what_is_read(dataset: Dataset) -> None:
    sources = [_file(f"{i}.jpg", i, None, i) for i in range(20_000)] + [_tar("0.tar"), _tar("1.tar")]
    plan.freeze(dataset, 0, sources, config.Shards(files=500, bytes=1 << 40))
    shards, versions = plan.load(dataset)
    assert [(s.kind, s.rows, s.count) for s in shards[-4:]] == [
        (Kind.FILES, 500, 500),
        (Kind.TAR, 1, None),
        (Kind.TAR, 1, None),
        (Kind.FILES, 500, 500),
    ]
    assert sum(s.rows for s in shards) == 20_002
    assert len({s.shard_id for s in shards}) == len(shards)
    assert len(versions) == 20_002
    assert versions["/photos/7.jpg"] == "7-7"
    for shard in (shards[0], shards[16], shards[-1]):
        expected = [s.object for s in sources[shard.first : shard.first + shard.rows] if s.kind is Kind.FILES]
        if shard is shards[-1]:
            expected = [s.object for s in sources[20_000 - shard.rows : 20_000]]
        assert plan.objects(dataset, shard) == expected
        assert shard.bytes == sum(o.size for o in expected)
    assert plan.objects(dataset, shards[-2]) == [sources[20_001].object]


def test_a_plan_is_written_once(dataset: Dataset) -> None:
    plan.freeze(dataset, 0, [_file("a")], config.Shards())
    with pytest.raises(FacebatchError, match="written by another run"):
        plan.freeze(dataset, 0, [_file("b")], config.Shards())
    assert list(plan.load(dataset)[1]) == ["/photos/a"]


def test_a_later_plan_adds_and_the_earlier_shards_stay(dataset: Dataset) -> None:
    plan.freeze(dataset, 0, [_file("a"), _file("b")], config.Shards())
    before, _ = plan.load(dataset)
    plan.freeze(dataset, plan.count(dataset), [_file("c")], config.Shards())
    after, versions = plan.load(dataset)
    assert after[:1] == before
    assert [o.uri for o in plan.objects(dataset, after[1])] == ["/photos/c"]
    assert len(versions) == 3


def test_what_is_new_what_is_known_and_what_changed() -> None:
    planned = {"/photos/a": "10-v1", "/photos/b": "10-v1"}
    listing = plan.compare([_file("a"), _file("b", etag="v2"), _file("c"), _file("c"), _file("d")], planned)
    assert [s.object.uri for s in listing.fresh] == ["/photos/c", "/photos/d"], "what overlaps counts once"
    assert listing.changed == ["/photos/b"]


def test_a_shard_is_named_by_its_objects(dataset: Dataset) -> None:
    plan.freeze(dataset, 0, [_file("a"), _file("b")], config.Shards())
    plan.freeze(dataset, 1, [_file("a", etag="v2"), _file("b")], config.Shards())
    (one, other), _ = plan.load(dataset)
    assert one.shard_id != other.shard_id


def test_without_a_plan_there_are_no_shards(dataset: Dataset) -> None:
    assert plan.load(dataset) == ([], {})


def test_names_that_are_no_utf8_keep_their_bytes(dataset: Dataset) -> None:
    odd = Source(Kind.FILES, Object("/photos/caf\\xe9", 1, None, 1, b"/photos/caf\xe9"))
    plan.freeze(dataset, 0, [odd], config.Shards())
    assert plan.objects(dataset, plan.load(dataset)[0][0]) == [odd.object]
