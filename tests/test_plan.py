"""The plan: frozen once, the same for every run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from facebatch import config, plan
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.seen import Seen
from facebatch.sources import Columns, Kind, Source
from facebatch.storage import UNSIZED, Object, Storage


def _file(name: str, size: int = 10, etag: str | None = "v1", mtime: int = 1) -> Source:
    return Source(Kind.FILES, Object(f"/photos/{name}", size, etag, mtime), bytes=size)


def _tar(name: str) -> Source:
    return Source(Kind.TAR, Object(f"/shards/{name}", 999, "t1", 5), rows=None, bytes=999)


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
    shards = plan.shards(dataset)
    assert [(s.kind, s.rows, s.count) for s in shards[-4:]] == [
        (Kind.FILES, 500, 500),
        (Kind.TAR, 1, None),
        (Kind.TAR, 1, None),
        (Kind.FILES, 500, 500),
    ]
    assert sum(s.rows for s in shards) == 20_002
    assert len({s.shard_id for s in shards}) == len(shards)
    seen = plan.planned(dataset, 1)
    assert len(seen) == 20_002
    assert seen.find(["/photos/7.jpg"] * 2, ["7-7", "7-8"]) == [True, False]
    for shard in (shards[0], shards[16], shards[-1]):
        expected = [s for s in sources[shard.first : shard.first + shard.rows] if s.kind is Kind.FILES]
        if shard is shards[-1]:
            expected = sources[20_000 - shard.rows : 20_000]
        assert plan.sources(dataset, shard) == expected
        assert shard.bytes == sum(s.object.size for s in expected)
    assert plan.sources(dataset, shards[-2]) == [sources[20_001]]


def test_a_plan_is_written_once(dataset: Dataset) -> None:
    plan.freeze(dataset, 0, [_file("a")], config.Shards())
    with pytest.raises(FacebatchError, match="written by another run"):
        plan.freeze(dataset, 0, [_file("b")], config.Shards())
    assert [s.object.uri for s in plan.sources(dataset, plan.shards(dataset)[0])] == ["/photos/a"]


def test_a_later_plan_adds_and_the_earlier_shards_stay(dataset: Dataset) -> None:
    plan.freeze(dataset, 0, [_file("a"), _file("b")], config.Shards())
    before = plan.shards(dataset)
    plan.freeze(dataset, plan.count(dataset), [_file("c")], config.Shards())
    after = plan.shards(dataset)
    assert after[:1] == before
    assert plan.shards(dataset, 1) == before
    assert [s.object.uri for s in plan.sources(dataset, after[1])] == ["/photos/c"]
    assert len(plan.planned(dataset, 2)) == 3


def test_what_is_new_what_is_known_and_what_changed() -> None:
    seen = Seen()
    seen.add(["/photos/a", "/photos/b"], ["10-v1", "10-v1"])
    listed = [_file("a"), _file("b", etag="v2"), _file("c"), _file("c"), _file("d")]
    listing = plan.Listing()
    fresh = [s.object.uri for s in plan.compare(listed, seen, listing)]
    assert fresh == ["/photos/c", "/photos/d"], "what overlaps counts once"
    assert (listing.fresh, listing.changed, listing.examples) == (2, 1, ["/photos/b"])
    assert list(plan.compare(listed, seen, listing)) == [], "and what was new is known from then on"


def _groups(name: str, parts: range, etag: str = "v1") -> list[Source]:
    found = Object(f"/rows/{name}", 1000, etag, 1)
    return [Source(Kind.ROWS, found, part, 7, 100, 7 * part, Columns("image", "id", ("city",))) for part in parts]


def test_a_row_group_is_planned_as_it_will_be_read(dataset: Dataset) -> None:
    groups = _groups("a.parquet", range(3))
    plan.freeze(dataset, 0, groups, config.Shards())
    shards = plan.shards(dataset)
    assert [(s.kind, s.count, s.bytes) for s in shards] == [(Kind.ROWS, 7, 100)] * 3
    assert [plan.sources(dataset, s) for s in shards] == [[g] for g in groups]


def test_parts_of_a_file_are_new_only_while_the_file_is_the_same() -> None:
    """Else the row numbers of two versions of it would collide."""
    seen, listing = Seen(), plan.Listing()
    assert len(list(plan.compare(_groups("a.parquet", range(2)), seen, listing))) == 2
    assert [s.part for s in plan.compare(_groups("a.parquet", range(3)), seen, listing)] == [2]
    assert list(plan.compare(_groups("a.parquet", range(5), etag="v2"), seen, listing)) == []
    assert (listing.changed, listing.examples) == (1, ["/rows/a.parquet"])


def test_what_a_manifest_carries_and_what_is_broken_is_planned_too(dataset: Dataset) -> None:
    carried = Source(Kind.FILES, Object("/a.jpg", UNSIZED), extra=(("city", "Oslo"), ("year", "1999")))
    broken = Source(Kind.BROKEN, Object("/list.csv", 80, None, 1), 17, trouble="line 17 names nothing")
    plan.freeze(dataset, 0, [carried, broken], config.Shards())
    assert [plan.sources(dataset, s) for s in plan.shards(dataset)] == [[carried], [broken]]


def test_a_name_without_a_version_is_never_taken_for_changed() -> None:
    """A manifest tells neither size nor version, the listing of a prefix both."""
    seen, listing = Seen(), plan.Listing()
    named = Source(Kind.FILES, Object("/photos/a", UNSIZED))
    assert len(list(plan.compare([_file("a"), named], seen, listing))) == 1
    assert list(plan.compare([named, _file("a")], seen, listing)) == []
    assert listing.changed == 0


def test_a_large_plan_is_several_files_and_a_kill_between_them_costs_nothing(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PLAN_ROWS", 25)
    sources = [_file(f"{i}") for i in range(100)]
    asked: list[int] = []

    def killed() -> None:
        asked.append(len(asked))
        if len(asked) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan.freeze(dataset, 0, sources, config.Shards(files=10), killed)
    assert plan.count(dataset) == 2
    fresh = plan.compare(sources, plan.planned(dataset, 2), plan.Listing())
    assert plan.freeze(dataset, 2, fresh, config.Shards(files=10)) == 2
    names = [s.object.uri for shard in plan.shards(dataset) for s in plan.sources(dataset, shard)]
    assert sorted(names) == sorted(s.object.uri for s in sources)
    assert [shard.rows for shard in plan.shards(dataset)] == [10] * 10


def test_a_shard_is_named_by_its_objects(dataset: Dataset) -> None:
    plan.freeze(dataset, 0, [_file("a"), _file("b")], config.Shards())
    plan.freeze(dataset, 1, [_file("a", etag="v2"), _file("b")], config.Shards())
    one, other = plan.shards(dataset)
    assert one.shard_id != other.shard_id


def test_without_a_plan_there_are_no_shards(dataset: Dataset) -> None:
    assert plan.shards(dataset) == []
    assert len(plan.planned(dataset, 0)) == 0


def test_names_that_are_no_utf8_keep_their_bytes(dataset: Dataset) -> None:
    odd = Source(Kind.FILES, Object("/photos/caf\\xe9", 1, None, 1, b"/photos/caf\xe9"))
    plan.freeze(dataset, 0, [odd], config.Shards())
    assert plan.sources(dataset, plan.shards(dataset)[0]) == [odd]


def test_a_million_objects_are_planned_in_flat_memory(tmp_path: Path) -> None:
    """And once more, when all of them are known. `python -m tests.million` prints how long it takes."""
    arguments = [sys.executable, "-m", "tests.million", "1000000", str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr
    first, again = json.loads(done.stdout)
    assert (first["fresh"], first["objects"]) == (1_000_000, 1_000_000)
    assert (again["fresh"], again["changed"], again["objects"]) == (0, 0, 1_000_000)
    assert max(first["peak"], again["peak"]) < 500e6, "of which 150 MB are Python and its packages"


def test_broken_lines_of_a_table_and_its_row_groups_are_not_taken_for_each_other() -> None:
    """A table that was read as a manifest first, and then with the column that holds the images."""
    seen, listing = Seen(), plan.Listing()
    lines = [Source(Kind.BROKEN, Object("/rows/a.parquet", 1000, "v1", 1), part, trouble="x") for part in range(2)]
    assert len(list(plan.compare(lines, seen, listing))) == 2
    assert len(list(plan.compare(_groups("a.parquet", range(3)), seen, listing))) == 3
    assert list(plan.compare([*lines, *_groups("a.parquet", range(3))], seen, listing)) == []


def test_a_manifest_that_grew_is_not_a_source_that_changed() -> None:
    seen, listing = Seen(), plan.Listing()
    before, after = (Object("/list.csv", size, None, size) for size in (80, 90))
    assert len(list(plan.compare([Source(Kind.BROKEN, before, 3, trouble="x")], seen, listing))) == 1
    broken = [Source(Kind.BROKEN, after, part, trouble="x") for part in (3, 7)]
    assert [source.part for source in plan.compare(broken, seen, listing)] == [7]
    assert listing.changed == 0
