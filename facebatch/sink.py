"""Writing: finished works become two Parquet objects and the record that names them, by the order of
`facebatch.commit`.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from logging import WARNING
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facebatch import logs
from facebatch.commit import commit
from facebatch.dataset import Dataset
from facebatch.epochs import Guard
from facebatch.ids import face_id, image_id
from facebatch.ledger import ABSENT, File, Record, places
from facebatch.plugins import is_absent
from facebatch.reasons import Status
from facebatch.schema import FACES, IMAGES, stamped
from facebatch.stages import face_px
from facebatch.work import Face, Work

_NAMED = 16
"""Shards that the log of a commit names: of tiny tars there may be two thousand in one."""
FACES_A_FILE = 20_000
"""Faces in one object at most: 40 MiB of vectors, so that it is encoded in memory and written by a single PUT."""


@dataclass(frozen=True)
class Writer:
    """Where and as what finished works are written. Travels to the workers."""

    dataset: Dataset
    guard: Guard
    facts: dict[str, Any]
    """Of the dataset: `contract_id`, `detector`, `embedder`, `landmarks` and whatever else every file shall carry."""

    def write(self, works: list[Work]) -> list[Record]:
        """Commit finished works. Rows that failed for reasons outside the image are committed apart.

        Returns the records of this attempt; what another attempt at the same rows has committed before is not among
        them.
        """
        return [record for bundle in _bundles(works) if (record := self._commit(bundle))]

    def write_empty(self) -> Record | None:
        """Commit no rows, so that readers find both tables also where an archive holds nothing."""
        return self._commit([])

    def _commit(self, works: list[Work]) -> Record | None:
        began = time.perf_counter()
        ranges = places((work.shard_id, work.index) for work in works)
        retryable = bool(works) and _retryable(works[0])
        name = f"{self.guard.epoch:05d}-{_digest(ranges, retryable)}"
        images, faces = images_table(works), faces_table(works, self.facts)
        attempt = f"{name}-{secrets.token_hex(4)}"
        files = [self._file("images", attempt, images), self._file("faces", attempt, faces)]
        record = Record(
            epoch=self.guard.epoch,
            name=name,
            contract=self.facts["contract_id"],
            images=files[0][0],
            faces=files[1][0],
            ranges=ranges,
            counts=_counts(works),
            retryable=retryable,
        )
        if not commit(self.dataset, self.guard, record, files):
            return None
        _log(record, works, time.perf_counter() - began)
        return record

    def _file(self, folder: str, attempt: str, table: pa.Table) -> tuple[File, bytes]:
        data = encoded(table.replace_schema_metadata(stamped(table.schema, self.facts).metadata))
        digest = hashlib.sha256(data).hexdigest()
        return File(f"{folder}/{attempt}.parquet", table.num_rows, len(data), digest), data


def committed(works: Iterable[Work], records: Iterable[Record]) -> dict[str, int]:
    """What these records of the works have added to the dataset: commits, images by status and reason
    (`committed/failed/EMPTY`, `committed/ok/`), faces, and bytes of images."""
    counts: Counter[str] = Counter()
    sizes = {(work.shard_id, work.index): work.size_bytes for work in works}
    for record in records:
        counts["commits"] += 1
        counts["committed_faces"] += record.faces.rows
        places = (
            (shard, k) for shard, ranges in record.ranges.items() for low, high in ranges for k in range(low, high)
        )
        counts["committed_bytes"] += sum(max(sizes[place], 0) for place in places)  # below 0: never known
        for status in Status:
            reasons = {key: n for key, n in record.counts.items() if key.startswith(f"{status}/")}
            counts[f"committed/{status}/"] += record.counts[status] - sum(reasons.values())
            counts.update({f"committed/{key}": n for key, n in reasons.items()})
    return {key: n for key, n in counts.items() if n}


def commit_images(asked: int, images: int) -> int:
    """Images in one commit: as asked for (`run.commit_images`); where that is 0, few in a small run of `images`, which
    is to lose little by a kill, and in a large one 2,048, whose vectors are encoded in memory."""
    return asked or min(max(images // 16, 128), 2048)


def images_table(works: list[Work]) -> pa.Table:
    """Rows of schema IMAGES, in order."""
    own: dict[str, list[Any]] = {
        "image_id": [image_id(work.uri, work.member) for work in works],
        "n_faces": [len(work.faces) for work in works],
    }
    columns = [
        pa.array(own[f.name] if f.name in own else [getattr(work, f.name) for work in works], f.type) for f in IMAGES
    ]
    return pa.Table.from_arrays(columns, schema=IMAGES)


def faces_table(works: list[Work], facts: dict[str, Any]) -> pa.Table:
    """Rows of schema FACES: the faces of the works, in order."""
    rows = [_face_row(work, index, face, facts) for work in works for index, face in enumerate(work.faces)]
    vectors = [face.embedding for work in works for face in work.faces if face.embedding is not None]
    flat = np.concatenate(vectors) if vectors else np.empty(0, np.float32)
    special = {"embedding": pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), 512)}
    columns = [special.get(f.name) or pa.array([row[f.name] for row in rows], f.type) for f in FACES]
    return pa.Table.from_arrays(columns, schema=FACES)


def encoded(table: pa.Table) -> bytes:
    """A Parquet file. Vectors as BYTE_STREAM_SPLIT without dictionary: 1,726 bytes each, 2,678 with the defaults."""
    vectors = [
        name
        for name in ("embedding.list.element", "landmarks.list.element")
        if name.split(".")[0] in table.schema.names
    ]
    words = [
        f.name
        for f in table.schema
        if pa.types.is_string(f.type) and f.name not in ("image_id", "face_id", "content_sha256")
    ]
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", use_dictionary=words, use_byte_stream_split=vectors)
    return sink.getvalue()


def _face_row(work: Work, index: int, face: Face, facts: dict[str, Any]) -> dict[str, Any]:
    assert face.quality is not None, "a face reached the sink before it was cut out"
    pose, image = face.quality.pose, image_id(work.uri, work.member)
    lit = face.landmarks is not None
    return {
        "face_id": face_id(image, index),
        "image_id": image,
        "uri": work.uri,
        "member": work.member,
        "face_index": index,
        **dict(zip(("x_min", "y_min", "x_max", "y_max"), face.box, strict=True)),
        "score": face.score,
        "landmarks": face.landmarks.ravel() if face.landmarks is not None else None,
        "landmark_source": facts.get("landmarks", facts["detector"]) if lit else None,
        "alignment": "landmarks" if lit else "box",
        "face_px": face_px(face.box),
        "sharpness": face.quality.sharpness,
        "brightness": face.quality.brightness,
        "yaw": pose.yaw if pose else None,
        "pitch": pose.pitch if pose else None,
        "roll": pose.roll if pose else None,
        "quality": face.quality.quality,
        "quality_reasons": face.quality.reasons,
        "embedding_norm": face.embedding_norm,
        "detector": facts["detector"],
        "embedder": facts["embedder"],
        "contract": facts["contract_id"],
    }


def _bundles(works: Iterable[Work]) -> Iterator[list[Work]]:
    ordered = sorted(works, key=lambda w: (_retryable(w), w.shard_id, w.index))
    bundle: list[Work] = []
    faces = 0
    for work in ordered:
        full = faces + len(work.faces) > FACES_A_FILE
        if bundle and (full or _retryable(bundle[0]) != _retryable(work)):
            yield bundle
            bundle, faces = [], 0
        bundle.append(work)
        faces += len(work.faces)
    if bundle:
        yield bundle


def _retryable(work: Work) -> bool:
    return work.reason is not None and work.reason.retryable


def _counts(works: list[Work]) -> dict[str, int]:
    counts: Counter[str] = Counter(dict.fromkeys(map(str, Status), 0))
    for work in works:
        counts[str(work.status)] += 1
        if work.reason:
            counts[f"{work.status}/{work.reason}"] += 1
        if is_absent(work.format, work.detail):
            counts[f"{ABSENT}{work.format}"] += 1
    return dict(counts)


def _log(record: Record, works: list[Work], seconds: float) -> None:
    logs.event(
        "commit",
        f"{record.images.rows} images and {record.faces.rows} faces are committed",
        record=record.name,
        shards=len(record.ranges),
        shard_ids=sorted(record.ranges)[:_NAMED],
        images=record.images.rows,
        faces=record.faces.rows,
        seconds=round(seconds, 3),
    )
    for work in works:
        if work.status is Status.FAILED:
            place = {"shard_id": work.shard_id, "index": work.index}
            logs.event("image_failed", "an image failed", WARNING, **place, reason=str(work.reason))


def _digest(ranges: dict[str, list[tuple[int, int]]], retryable: bool) -> str:
    return hashlib.sha256(json.dumps([ranges, retryable]).encode()).hexdigest()[:16]
