"""A work survives the journey between processes unchanged."""

from __future__ import annotations

import datetime as dt
from dataclasses import fields

import numpy as np
import pyarrow as pa

from facebatch.geometry import View
from facebatch.quality import Pose, Quality
from facebatch.reasons import QualityReason, Reason, Status
from facebatch.schema import PARCEL
from facebatch.sources import Item, Kind, Source
from facebatch.storage import Object
from facebatch.work import Face, Work, packed, unpacked


def _full() -> Work:
    random = np.random.default_rng(0)
    face = Face(
        box=np.array([1, 2, 3.5, 4], np.float32),
        score=0.875,
        landmarks=random.uniform(0, 100, (5, 2)).astype(np.float32),
        chip=random.integers(0, 256, (112, 112, 3), np.uint8),
        quality=Quality(12.5, 0.5, Pose(1.5, -2.5, 3.0), 0.75, (QualityReason.LOW_SHARPNESS,)),
        embedding=random.normal(size=512).astype(np.float32),
        embedding_norm=2.5,
    )
    bare = Face(np.array([5, 6, 7, 8], np.float32), 0.5, None)
    view = View(random.integers(0, 256, (48, 64, 3), np.uint8), 1.25, 1.5, 20.5, 30.25)
    glance = View(random.integers(0, 256, (30, 30, 3), np.uint8), 20.0, 15.0)
    return Work(
        "shard", 7, "s3://a/b.tar", "c.jpg", 1234, "etag", 10**18, "0" * 64, -5, "JPEG", 640, 480, 6, 3,
        dt.datetime(2020, 1, 2, 3, 4, 5), "Canon", Status.OK, None, "EXIF ignored", b"bytes", 2,
        {"decode": 0.5, "chip": 0.25}, glance, 0.25, 0.5, [view], [face, bare],
    )  # fmt: skip


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, (Work, Face, View)):
        names = [f.name for f in fields(a)]
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_everything_comes_back() -> None:
    full, empty = _full(), Work("shard", 8, "a", "", 0)
    failed = Work.of("shard", Item(9, "b", "", 3, reason=Reason.NOT_FOUND, detail="gone"))
    table = packed([full, empty, failed])
    assert table.schema.equals(PARCEL)
    assert table.num_rows == 1
    assert table["images"].to_pylist() == [3]
    for before, after in zip([full, empty, failed], unpacked(table), strict=True):
        assert same(before, after)


def test_parcels_are_unpacked_in_their_order() -> None:
    parcels = [packed([Work("shard", i, "a", "", 0) for i in some]) for some in ((0, 1), (), (2,))]
    assert [work.index for work in unpacked(pa.concat_tables(parcels))] == [0, 1, 2]
    assert unpacked(packed([])) == []
    assert unpacked(pa.table({})) == [], "what Ray makes of a task that gave nothing"


def test_a_work_takes_the_bytes_that_were_read_or_why_there_are_none() -> None:
    source = Source(Kind.FILES, Object("a", 5))
    read, gone = Work("shard", 0, "a", "", 5, source=source), Work("shard", 1, "b", "", 5, source=source)
    read.take(Item(0, "a", "", 6, data=b"photo!"))
    assert (read.data, read.size_bytes, read.status, read.source) == (b"photo!", 6, None, None)
    gone.take(Item(1, "b", "", 5, reason=Reason.NOT_FOUND, detail="gone"))
    assert (gone.data, gone.status, gone.reason, gone.detail) == (None, Status.FAILED, Reason.NOT_FOUND, "gone")
    assert gone.source is None


def test_an_ended_work_lets_go_of_its_bytes() -> None:
    work = _full()
    work.end(Reason.CORRUPT, "bad")
    assert (work.status, work.reason, work.detail) == (Status.FAILED, Reason.CORRUPT, "bad")
    assert (work.data, work.views, work.faces) == (None, [], [])
