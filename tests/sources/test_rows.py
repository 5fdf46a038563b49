"""Parquet files that hold images: every row of every row group has its item, whatever is in it."""

from __future__ import annotations

import errno
import io
import os
import random
import re
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facebatch.config import Rows
from facebatch.reasons import Reason
from facebatch.sources import Columns, Item, Ranges, Source
from facebatch.sources.rows import read_rows, row_groups
from facebatch.sources.tables import look, opened
from facebatch.storage import Object, Storage, StorageError


def written(path: Path, table: pa.Table, **options: object) -> Object:
    pq.write_table(table, path, **options)
    found = Storage().stat(str(path))
    assert found is not None
    return found


def planned(found: Object, rows: Rows | None = None) -> list[Source]:
    with opened(Storage(), found) as file:
        return list(row_groups(file, found, look(file.schema_arrow, rows or Rows(), found.uri).columns))


def read(source: Source, done: Ranges | None = None, max_bytes: int = 1 << 20) -> list[Item]:
    return list(read_rows(Storage(), source, done or [], max_bytes))


@pytest.fixture
def ten(tmp_path: Path) -> Object:
    """Ten rows in row groups of four."""
    table = pa.table(
        {
            "image": [f"data {i}".encode() for i in range(10)],
            "name": [f"n{i}" for i in range(10)],
            "year": [None if i == 3 else 2000 + i for i in range(10)],
        }
    )
    return written(tmp_path / "ten.parquet", table, row_group_size=4)


def test_a_row_group_is_a_source_and_a_row_is_known_by_its_number_in_the_file(ten: Object) -> None:
    groups = planned(ten)
    assert [(g.part, g.rows) for g in groups] == [(0, 4), (1, 4), (2, 2)]
    items = [item for group in groups for item in read(group)]
    assert [i.member for i in items] == [str(k) for k in range(10)]
    assert [i.index for i in items] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert [i.data for i in items] == [f"data {k}".encode() for k in range(10)]
    assert {(i.uri, i.mtime_ns) for i in items} == {(ten.uri, ten.mtime_ns)}


def test_other_columns_are_carried(ten: Object) -> None:
    items = read(planned(ten)[0])
    assert items[0].extra == (("name", "n0"), ("year", "2000"))
    assert items[3].extra == (("name", "n3"),), "what is null is left out"
    assert [i.extra for i in read(planned(ten, Rows(extra=("year",)))[1])][:1] == [(("year", "2004"),)]
    assert [i.extra for i in read(planned(ten, Rows(extra=()))[0])] == [()] * 4


def test_what_is_done_is_not_given_again(ten: Object) -> None:
    assert [i.member for i in read(planned(ten)[1], done=[(0, 1), (2, 4)])] == ["5"]


def test_a_key_names_the_rows_and_its_repeats_are_counted_through_the_file(tmp_path: Path) -> None:
    table = pa.table({"image": [b"x"] * 6, "id": ["a", "b", "a", None, "a", "b"]})
    groups = planned(written(tmp_path / "k.parquet", table, row_group_size=2), Rows(key="id"))
    members = [[i.member for i in read(group)] for group in groups]
    assert members == [["a", "b"], ["a#1", "row 3"], ["a#2", "b#1"]]
    assert [[i.member for i in read(group)] for group in reversed(groups)] == members[::-1], "in any order"


def test_numbers_can_be_keys(tmp_path: Path) -> None:
    table = pa.table({"image": [b"x", b"y"], "id": [17, 4]})
    assert [i.member for i in read(planned(written(tmp_path / "k.parquet", table), Rows(key="id"))[0])] == ["17", "4"]


def test_images_inside_structs_are_found_as_hugging_face_writes_them(tmp_path: Path) -> None:
    image = pa.array(
        [{"bytes": b"one", "path": "1.jpg"}, None, {"bytes": None, "path": "3.jpg"}],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    (group,) = planned(written(tmp_path / "hf.parquet", pa.table({"image": image, "label": [1, 2, 3]})))
    assert group.columns
    assert group.columns.image == "image.bytes"
    assert [(i.data, i.reason) for i in read(group)] == [(b"one", None), (None, Reason.EMPTY), (None, Reason.EMPTY)]


def test_a_gigantic_cell_costs_its_own_row(tmp_path: Path) -> None:
    table = pa.table({"image": [b"small", b"x" * 3_000_000, b"small"]})
    items = read(planned(written(tmp_path / "g.parquet", table))[0])
    assert [(i.reason, i.size) for i in items] == [(None, 5), (Reason.TOO_MANY_BYTES, 3_000_000), (None, 5)]


def test_a_damaged_row_group_gives_a_row_for_each_that_cannot_be_read(tmp_path: Path) -> None:
    chance = random.Random(0)
    table = pa.table({"image": [chance.randbytes(20_000) for _ in range(60)]})
    path = tmp_path / "d.parquet"
    pq.write_table(table, path, row_group_size=30, write_batch_size=1, data_page_size=9, use_dictionary=False)
    data = bytearray(path.read_bytes())
    middle = len(data) // 4
    data[middle : middle + 60_000] = bytes(60_000)
    path.write_bytes(data)
    found = Storage().stat(str(path))
    assert found is not None
    first, second = planned(found)
    items = read(first)
    assert [i.index for i in items] == list(range(30))
    assert {i.reason for i in items} == {None, Reason.BROKEN_CONTAINER}
    assert [i.member for i in items] == [str(k) for k in range(30)]
    assert all(i.detail for i in items if i.reason)
    assert [i.data for i in read(second)] == table["image"].to_pylist()[30:]


def test_a_file_that_was_replaced_is_refused_row_by_row(ten: Object) -> None:
    group = planned(ten)[0]
    written(Path(ten.uri), pa.table({"image": [b"other"] * 10}), row_group_size=4)
    items = read(group, done=[(0, 1)])
    assert [(i.index, i.reason) for i in items] == [(k, Reason.SOURCE_CHANGED) for k in (1, 2, 3)]


def test_a_file_that_is_gone_is_to_be_tried_again(ten: Object) -> None:
    group = planned(ten)[0]
    Path(ten.uri).unlink()
    assert [i.reason for i in read(group)] == [Reason.NOT_FOUND] * 4


def test_a_storage_that_fails_on_the_way_is_not_taken_for_damage(tmp_path: Path) -> None:
    table = pa.table({"image": [bytes([i]) * 500_000 for i in range(30)]})
    found = written(tmp_path / "s.parquet", table, use_dictionary=False, compression="none", write_batch_size=1)
    (group,) = planned(found)

    class Flaky(Storage):
        def open(self, uri: str, raw: bytes | None = None) -> io.BufferedReader:
            class Stream(io.FileIO):
                def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
                    if 12_000_000 < self.tell() < 13_000_000:
                        raise StorageError("503 SlowDown")
                    return super().readinto(buffer) or 0

            return io.BufferedReader(Stream(uri))  # type: ignore[arg-type]

    items = list(read_rows(Flaky(), group, [], 1 << 20))
    reasons = [i.reason for i in items]
    assert len(items) == 30
    assert reasons == [None] * 16 + [Reason.STORAGE_ERROR] * 14
    assert all("503" in (i.detail or "") for i in items if i.reason)


def test_a_row_group_is_read_in_pieces(tmp_path: Path) -> None:
    table = pa.table({"image": [bytes([i]) * 1_000_000 for i in range(80)]})
    found = written(tmp_path / "l.parquet", table, use_dictionary=False, compression="none", write_batch_size=8)
    (group,) = planned(found)
    pool = pa.default_memory_pool()
    before, most = pool.bytes_allocated(), 0
    tracemalloc.start()
    for _ in read_rows(Storage(), group, [], 1 << 21):
        most = max(most, pool.bytes_allocated() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most + peak < 40_000_000, "the row group has 80 MB"


def test_values_that_would_be_unpickled_are_not_read(tmp_path: Path) -> None:
    """Ray registers a type whose values are Python's pickles, also in the processes that read tables of strangers."""
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectArray

    trap = tmp_path / "trap"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(trap),)

    keys = ArrowPythonObjectArray.from_objects([Hostile(), Hostile()])
    found = written(tmp_path / "h.parquet", pa.table({"image": [b"x", b"y"], "id": keys, "more": keys}))
    for rows in (Rows(key="id"), Rows(extra=("more",)), Rows()):
        items = [item for group in planned(found, rows) for item in read(group)]
        assert len(items) == 2
        assert {item.reason for item in items} == ({None} if rows == Rows() else {Reason.BROKEN_CONTAINER})
    assert not trap.exists()


def test_rows_keep_their_numbers_whatever_fails_before_they_are_read(ten: Object) -> None:
    """Their ids must not depend on it: three row groups that changed would else share their ids."""
    groups = planned(ten)
    Path(ten.uri).unlink()
    assert [i.member for group in groups for i in read(group)] == [str(k) for k in range(10)]
    keyed = [Source(g.kind, g.object, g.part, g.rows, g.bytes, g.start, Columns("image", "name")) for g in groups]
    assert [i.member for group in keyed for i in read(group)] == [f"row {k}" for k in range(10)]


def test_no_key_is_taken_for_the_number_of_a_row(tmp_path: Path) -> None:
    table = pa.table({"image": [b"x"] * 5, "id": ["row 3", "", "row 3", None, "row 3#0"]})
    (group,) = planned(written(tmp_path / "k.parquet", table), Rows(key="id"))
    members = [i.member for i in read(group)]
    assert members == ["row 3#0", "row 1", "row 3#0#1", "row 3", "row 3#0#2"]
    assert len(set(members)) == 5


def test_names_of_columns_may_hold_dots_and_stand_twice(tmp_path: Path) -> None:
    """`json_normalize` makes the ones, joins the others."""
    columns = [pa.array([b"x"]), pa.array([7]), pa.array(["a"]), pa.array(["b"])]
    table = pa.Table.from_arrays(columns, names=["image.bytes", "exif.year", "twice", "twice"])
    (group,) = planned(written(tmp_path / "d.parquet", table))
    assert [(i.data, i.extra) for i in read(group)] == [(b"x", (("exif.year", "7"),))]


def test_no_image_fails_for_what_stands_beside_it(tmp_path: Path) -> None:
    far = pa.array([2**61, 0], pa.timestamp("us")), pa.array([2**61, 1], pa.duration("us"))
    text = pa.array([b"\xff", b"ok"]).view(pa.string())
    table = pa.table({"image": [b"x", b"y"], "time": far[0], "span": far[1], "text": text})
    items = read(planned(written(tmp_path / "t.parquet", table))[0])
    assert [i.reason for i in items] == [None, None]
    assert dict(items[0].extra)["text"] == "\\xff"
    assert dict(items[1].extra)["time"].startswith("1970-01-01")


def test_secrets_in_other_columns_are_not_carried(tmp_path: Path) -> None:
    urls = ["https://h/a.jpg?X-Amz-Signature=s3cr3t&x=1", "https://u:s3cr3t@h/a.jpg", "https://h/a.jpg?size=1"]
    table = pa.table({"image": [b"x"] * 3, "url": urls})
    carried = [dict(i.extra)["url"] for i in read(planned(written(tmp_path / "s.parquet", table))[0])]
    assert carried == ["https://h/a.jpg?***", "https://u:***@h/a.jpg", "https://h/a.jpg?size=1"]


def test_a_disk_that_fails_is_not_taken_for_damage(ten: Object, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    group = planned(ten)[0]
    monkeypatch.setattr(Storage, "open", stale)
    assert [i.reason for i in read(group)] == [Reason.STORAGE_ERROR] * 4


def test_a_file_whose_name_is_no_utf8_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "a.parquet")
    os.rename(tmp_path / "a.parquet", os.fsencode(tmp_path) + b"/\xff.parquet")
    (found,) = Storage().objects(str(tmp_path))
    assert [i.data for i in read(planned(found)[0])] == [b"x"]


@pytest.mark.parametrize(
    ("counts", "total", "words"),
    [
        ([3, -5, 3], 1, "of [3, -5, 3] rows in its groups and of 1"),
        ([3, 3], 7, "of [3, 3] rows in its groups and of 7"),
        ([10**12], 10**12, "of 1000000000000 rows in 1000 bytes"),
    ],
)
def test_a_footer_that_tells_of_rows_that_cannot_be_is_damage(counts: list[int], total: int, words: str) -> None:
    """Each of them would get a row here, and a run would never end."""
    groups = [SimpleNamespace(num_rows=count, total_byte_size=100) for count in counts]
    metadata = SimpleNamespace(num_row_groups=len(groups), row_group=groups.__getitem__, num_rows=total)
    file: Any = SimpleNamespace(metadata=metadata)
    with pytest.raises(pa.ArrowInvalid, match=re.escape(words)):
        list(row_groups(file, Object("/rows.parquet", 1000), Columns("bytes")))
