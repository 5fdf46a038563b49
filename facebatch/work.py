"""One image on its way through the stages, as an object inside a process and as a row between processes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from facebatch.align import CHIP
from facebatch.decode import Header
from facebatch.geometry import Floats, Picture, Pixels, View
from facebatch.quality import Pose, Quality
from facebatch.reasons import QualityReason, Reason, Status
from facebatch.schema import WORK
from facebatch.sources import Extra, Item


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
    glance: View | None = None
    """What the gate is shown."""
    glance_seconds: float | None = None
    """What the gate took for it; None without a gate."""
    detect_seconds: float | None = None
    """What the detector took for it; None where it was spared."""
    views: list[View] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    extra: Extra | None = None
    header: Header | None = None
    picture: Picture | None = None

    @classmethod
    def of(cls, shard_id: str, item: Item) -> Work:
        """What a source has read, or failed to."""
        work = cls(shard_id, item.index, item.uri, item.member, item.size, item.etag, item.mtime_ns, data=item.data)
        work.extra = item.extra or None
        if item.reason:
            work.end(item.reason, item.detail)
        return work

    def end(self, reason: Reason, detail: str | None) -> None:
        """Nothing more is to be done for this image: it has no faces, for this reason."""
        self.status, self.reason, self.detail = reason.status, reason, detail
        self.data, self.header, self.picture, self.glance = None, None, None, None
        self.views, self.faces = [], []


_FLAT = [f for f in WORK if f.name not in ("data", "glance", "views", "faces")]


def to_table(works: Sequence[Work]) -> pa.Table:
    """Rows of schema WORK, in order."""
    columns = {f.name: [getattr(work, f.name) for work in works] for f in _FLAT}
    columns["glance"] = [work.glance and _view_row(work.glance) for work in works]
    columns["views"] = [[_view_row(v) for v in work.views] for work in works]
    columns["faces"] = [[_face_row(f) for f in work.faces] for work in works]
    data = _binaries([work.data for work in works])
    arrays = [data if f.name == "data" else pa.array(columns[f.name], f.type) for f in WORK]
    return pa.Table.from_arrays(arrays, schema=WORK)


def _binaries(values: list[bytes | None]) -> pa.Array:
    """What `pa.array` makes of them, in one allocation of the right size: pyarrow's builder grows by doubling, and its
    pages, new each time, cost four times the copy (0.7 ms for a camera's photo)."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value or b"") for value in values], out=offsets[1:])
    there = np.packbits(np.array([value is not None for value in values], np.bool_), bitorder="little")
    buffers = [pa.py_buffer(there), pa.py_buffer(offsets), pa.py_buffer(b"".join(value or b"" for value in values))]
    return pa.Array.from_buffers(pa.large_binary(), len(values), buffers)


def from_table(table: pa.Table) -> list[Work]:
    """The works that `to_table` wrote."""
    works = []
    for row in table.to_pylist():
        views, faces, glance = row.pop("views") or [], row.pop("faces") or [], row.pop("glance")
        row["status"] = Status(row["status"]) if row["status"] else None
        row["reason"] = Reason(row["reason"]) if row["reason"] else None
        works.append(
            Work(
                **row,
                glance=glance and _view(glance),
                views=[_view(v) for v in views],
                faces=[_face(f) for f in faces],
            )
        )
    return works


def _view_row(view: View) -> dict[str, Any]:
    height, width, _ = view.pixels.shape
    where = {name: getattr(view, name) for name in ("fx", "fy", "x", "y")}
    return {"width": width, "height": height, **where, "pixels": view.pixels.tobytes()}


def _view(row: dict[str, Any]) -> View:
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], row["width"], 3)
    return View(pixels, row["fx"], row["fy"], row["x"], row["y"])


def _face_row(face: Face) -> dict[str, Any]:
    row: dict[str, Any] = {
        "box": face.box,
        "score": face.score,
        "landmarks": None if face.landmarks is None else face.landmarks.ravel(),
        "chip": None if face.chip is None else face.chip.tobytes(),
        "embedding": None if face.embedding is None else face.embedding.tobytes(),
        "embedding_norm": face.embedding_norm,
    }
    if face.quality:
        pose = face.quality.pose
        row |= {name: getattr(face.quality, name) for name in ("sharpness", "brightness", "quality")}
        row |= {"quality_reasons": face.quality.reasons}
        row |= {name: getattr(pose, name) for name in ("yaw", "pitch", "roll")} if pose else {}
    return row


def _face(row: dict[str, Any]) -> Face:
    face = Face(np.array(row["box"], np.float32), row["score"], None)
    if row["landmarks"] is not None:
        face.landmarks = np.array(row["landmarks"], np.float32).reshape(5, 2)
    if row["chip"] is not None:
        face.chip = np.frombuffer(row["chip"], np.uint8).reshape(CHIP, CHIP, 3)
    if row["embedding"] is not None:
        face.embedding, face.embedding_norm = np.frombuffer(row["embedding"], np.float32), row["embedding_norm"]
    if row["quality"] is not None:
        pose = None if row["yaw"] is None else Pose(row["yaw"], row["pitch"], row["roll"])
        words = tuple(QualityReason(word) for word in row["quality_reasons"])
        face.quality = Quality(row["sharpness"], row["brightness"], pose, row["quality"], words)
    return face
