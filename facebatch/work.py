"""One image on its way through the stages, and the parcels in which many go from process to process."""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from facebatch.decode import Header
from facebatch.geometry import Floats, Picture, Pixels, View
from facebatch.quality import Quality
from facebatch.reasons import Reason, Status
from facebatch.schema import PARCEL
from facebatch.sources import Extra, Item, Source


@dataclass(slots=True)
class Face:
    """A face as far as it is known: detected, then cut out and measured, then embedded."""

    box: Floats
    score: float
    landmarks: Floats | None
    chip: Pixels | None = None
    quality: Quality | None = None
    embedding: Floats | None = None
    embedding_norm: float = 0.0


@dataclass(slots=True)
class Work:
    """An image and what the stages have found out about it. A stage fills in its part and never looks elsewhere.

    `header` is what was read of the image to learn its size, until it is decoded; `picture` is the decoded image. They
    never leave the process: between processes travel the encoded bytes, views of detector size, and chips.
    """

    shard_id: str
    index: int
    uri: str
    member: str
    size_bytes: int
    etag: str | None = None
    mtime_ns: int | None = None
    content_sha256: str | None = None
    phash: int | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    orientation: int | None = None
    frames: int | None = None
    captured_at: dt.datetime | None = None
    camera: str | None = None
    status: Status | None = None
    reason: Reason | None = None
    detail: str | None = None
    data: bytes | None = None
    n_persons: int | None = None
    took: dict[str, float] = field(default_factory=dict)
    """Seconds by part of the work on it alone, also where that failed: `decode`, and `chip` where it has faces."""
    glance: View | None = None
    """What the gate is shown."""
    glance_seconds: float | None = None
    """What the gate took for it; None without a gate."""
    detect_seconds: float | None = None
    """What the detector took for it; None where it was spared."""
    views: list[View] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    extra: Extra | None = None
    source: Source | None = None
    """Where its bytes are, until they are read."""
    header: Header | None = None
    picture: Picture | None = None

    @classmethod
    def of(cls, shard_id: str, item: Item) -> Work:
        """What a source has read, or failed to."""
        work = cls(shard_id, item.index, item.uri, item.member, item.size, item.etag, item.mtime_ns)
        work.extra = item.extra or None
        work.take(item)
        return work

    def take(self, item: Item) -> None:
        """The bytes that were read, or why there are none."""
        self.source, self.data, self.size_bytes = None, item.data, item.size
        if item.reason:
            self.end(item.reason, item.detail)

    def end(self, reason: Reason, detail: str | None) -> None:
        """Nothing more is to be done for this image: it has no faces, for this reason."""
        self.status, self.reason, self.detail = reason.status, reason, detail
        self.data, self.header, self.picture, self.glance = None, None, None, None
        self.views, self.faces = [], []


def packed(works: Sequence[Work]) -> pa.Table:
    """One row of schema PARCEL."""
    parcel = pickle.dumps(list(works), pickle.HIGHEST_PROTOCOL)
    offsets = np.array([0, len(parcel)], np.int64)
    # Without a copy: pyarrow's own builder makes two, into new pages each time.
    column = pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(parcel)])
    return pa.Table.from_arrays([column, pa.array([len(works)], pa.int32())], schema=PARCEL)


def unpacked(table: pa.Table) -> list[Work]:
    """The works of all its rows, in order. Only for what `packed` has made: it is unpickled."""
    if not len(table):  # what Ray makes of a task without a parcel has no columns
        return []
    return [work for parcel in table["works"] for work in pickle.loads(parcel.as_buffer())]
