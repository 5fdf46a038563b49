"""What must hold among the rows of one commit: between its record, its images and its faces. No file is read here.

Each check is a generator of sentences, one for each kind of problem, with how many rows have it and an example.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from facebatch.ids import face_id, image_id
from facebatch.ledger import Record
from facebatch.reasons import Reason, Status

_NORM_TOLERANCE = 1e-3
_ROUNDING = 1e-5
"""Of a float32 that was computed as a float64, or the other way round; relative where it is large."""
_BOX = ("x_min", "y_min", "x_max", "y_max")
_LIMITS = {
    "score": (0, 1),
    "brightness": (0, 1),
    "quality": (0, 1),
    "sharpness": (0, np.inf),
    "embedding_norm": (0, np.inf),
    "yaw": (-180, 180),
    "pitch": (-180, 180),
    "roll": (-180, 180),
}
"""Of the columns with measurements, nulls apart."""
_DECODED = ("content_sha256", "phash", "format", "width", "height", "orientation")
"""Known of every picture that was decoded."""
_REASONS = {reason.value: reason for reason in Reason}


@dataclass(frozen=True, slots=True)
class Commit:
    """A record and its two tables, of the schemas IMAGES and FACES, and the facts of the dataset."""

    record: Record
    images: pa.Table
    faces: pa.Table
    facts: dict[str, Any]


def problems(commit: Commit) -> Iterator[str]:
    """What is wrong with a commit, in sentences."""
    yield from _counts(commit)
    yield from _ranges(commit)
    yield from _outcomes(commit)
    yield from _identities(commit)
    yield from _makers(commit)
    yield from _order(commit)
    yield from _measurements(commit)
    yield from _boxes(commit)
    yield from _vectors(commit)


def _counts(commit: Commit) -> Iterator[str]:
    record, counted = commit.record, Counter(commit.images["status"].to_pylist())
    if record.contract != commit.facts["contract_id"]:
        yield (
            f"record {record.name} was made under contract {record.contract}, the dataset under "
            f"{commit.facts['contract_id']}"
        )
    pairs = zip(commit.images["status"].to_pylist(), commit.images["reason"].to_pylist(), strict=True)
    counted.update(f"{status}/{reason}" for status, reason in pairs if reason)
    told = {key: n for key, n in record.counts.items() if n and key.partition("/")[0] in set(Status)}
    if told != dict(counted):
        yield f"record {record.name} counts {told}, its rows are {dict(counted)}"


def _ranges(commit: Commit) -> Iterator[str]:
    """Shard and index of the rows are those of the record's ranges, each once."""
    record = commit.record
    shards, indices = np.array(commit.images["shard_id"].to_pylist(), object), commit.images["index"].to_numpy()
    for shard in sorted({*record.ranges, *shards}):
        own = np.sort(indices[shards == shard])
        once = np.unique(own)
        if len(once) < len(own):
            yield f"{len(own) - len(once)} rows of shard {shard} stand twice in record {record.name}"
        claimed = [np.arange(low, high) for low, high in record.ranges.get(shard, [])]
        differing = np.setxor1d(once, np.concatenate([np.empty(0, np.int64), *claimed]))
        if len(differing):
            yield f"record {record.name} has other rows of shard {shard} than its ranges say, e.g. index {differing[0]}"


def _outcomes(commit: Commit) -> Iterator[str]:
    name = commit.record.name
    wrong, lacking, misplaced = [], [], []
    columns = ("image_id", "status", "reason", "n_faces", *_DECODED)
    for identity, status, reason, faces, *known in _rows(commit.images, *columns):
        if not _agree(status, reason, faces):
            wrong.append(f"{identity}: {status}, {reason}, {faces} faces")
        if status in (Status.OK, Status.NO_FACE) and None in known:
            lacking.append(f"{identity}: {_DECODED[known.index(None)]}")
        retryable = reason in _REASONS and _REASONS[reason].retryable
        if status != Status.FAILED if commit.record.retryable else retryable:
            misplaced.append(f"{identity}: {reason or status}")
    if wrong:
        yield f"{len(wrong)} rows of record {name} contradict themselves, e.g. {wrong[0]}"
    if lacking:
        yield f"{len(lacking)} pictures of record {name} were decoded and lack what is known then, e.g. {lacking[0]}"
    if misplaced:
        kind = "is to be tried again" if commit.record.retryable else "is final"
        yield f"record {name} {kind}, and {len(misplaced)} of its rows are not, e.g. {misplaced[0]}"


def _agree(status: str, reason: str | None, faces: int) -> bool:
    """Whether an outcome is possible. A reason that a later version of facebatch has added may stand for a failure."""
    if status == Status.OK:
        return reason is None and faces > 0
    known = _REASONS.get(reason or "")
    unlooked = bool(reason) and (not known or known.status == status)
    if status == Status.NO_FACE:
        return not faces and (reason is None or unlooked)
    return status in (Status.FAILED, Status.SKIPPED) and unlooked and not faces


def _identities(commit: Commit) -> Iterator[str]:
    name, images, faces = commit.record.name, commit.images, commit.faces
    wrong = [i for i, uri, member in _rows(images, "image_id", "uri", "member") if image_id(uri, member) != i]
    if wrong:
        yield f"{len(wrong)} image ids of record {name} are not those of their uri and member, e.g. {wrong[0]}"
    announced = {identity: n for identity, n in _rows(images, "image_id", "n_faces") if n}
    if dict(Counter(faces["image_id"].to_pylist())) != announced:
        yield f"the faces of record {name} are not those its images announce in n_faces"
    places = {identity: (uri, member) for identity, uri, member in _rows(images, "image_id", "uri", "member")}
    following: Counter[str] = Counter()
    foreign = []
    for identity, image, index, uri, member in _rows(faces, "face_id", "image_id", "face_index", "uri", "member"):
        expected = following[image]
        following[image] += 1
        if (identity, index, (uri, member)) != (face_id(image, expected), expected, places.get(image)):
            foreign.append(identity)
    if foreign:
        yield (
            f"{len(foreign)} faces of record {name} do not belong to their images (ids, order, uri or member), "
            f"e.g. {foreign[0]}"
        )


def _makers(commit: Commit) -> Iterator[str]:
    facts = commit.facts
    expected = (facts["contract_id"], facts["detector"], facts["embedder"])
    made = Counter(_rows(commit.faces, "contract", "detector", "embedder"))
    for other in sorted(made.keys() - {expected}):
        yield (
            f"{made[other]} faces of record {commit.record.name} were made under contract, detector and embedder "
            f"{', '.join(other)}, the dataset under {', '.join(expected)}"
        )


def _order(commit: Commit) -> Iterator[str]:
    """Within an image by score, rounded to four digits, then y, then x."""
    images = np.array(commit.faces["image_id"].to_pylist(), object)
    score, x, y = (commit.faces[name].to_numpy() for name in ("score", "x_min", "y_min"))
    key = np.stack([-np.round(score, 4), y, x], axis=1)
    before, after = key[:-1], key[1:]
    follows = np.ones(len(after), bool)
    for k in (2, 1, 0):
        follows = (before[:, k] < after[:, k]) | ((before[:, k] == after[:, k]) & follows)
    if wrong := int((~follows & (images[:-1] == images[1:])).sum()):
        yield f"{wrong} faces of record {commit.record.name} stand before better ones (score, then y, then x)"


def _measurements(commit: Commit) -> Iterator[str]:
    name, faces = commit.record.name, commit.faces
    for column, (low, high) in _LIMITS.items():
        values = faces[column].drop_null().to_numpy()
        if wrong := int((~((values >= low) & (values <= high + _ROUNDING) & np.isfinite(values))).sum()):
            yield f"{wrong} faces of record {name} have a value in {column} that is not between {low} and {high}"
    lit = [
        (alignment == "landmarks", source is not None, points is not None, points is None or np.isfinite(points).all())
        for alignment, source, points in _rows(faces, "alignment", "landmark_source", "landmarks")
    ]
    if wrong := sum(one not in ((True,) * 4, (False, False, False, True)) for one in lit):
        yield f"{wrong} faces of record {name} have landmarks that do not fit to landmark_source and alignment"


def _boxes(commit: Commit) -> Iterator[str]:
    name, faces = commit.record.name, commit.faces
    sizes = {i: (width or 0, height or 0) for i, width, height in _rows(commit.images, "image_id", "width", "height")}
    limits = np.array([sizes.get(i, (0, 0)) for i in faces["image_id"].to_pylist()], np.float64).reshape(-1, 2)
    boxes = np.stack([faces[side].to_numpy() for side in _BOX], axis=1).astype(np.float64)
    inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, :2] < boxes[:, 2:]).all(1) & (boxes[:, 2:] <= limits).all(1)
    if outside := int((~inside).sum()):
        yield f"{outside} boxes of record {name} do not lie in their pictures"
    shorter = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    if wrong := int((~np.isclose(faces["face_px"].to_numpy(), shorter, _ROUNDING, 1e-2)).sum()):
        yield f"{wrong} faces of record {name} have a face_px that is not the shorter side of their box"


def _vectors(commit: Commit) -> Iterator[str]:
    norms = np.linalg.norm(vectors(commit.faces), axis=1)
    if far := int((~(np.abs(norms - 1) <= _NORM_TOLERANCE)).sum()):  # so that nan is far, too
        yield f"{far} vectors of record {commit.record.name} do not have length 1"


def vectors(faces: pa.Table) -> NDArray[np.float32]:
    """The embeddings of a table of faces, n x 512."""
    flat: NDArray[np.float32] = faces["embedding"].combine_chunks().flatten().to_numpy()
    return flat.reshape(-1, 512)


def _rows(table: pa.Table, *columns: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[column].to_pylist() for column in columns), strict=True)
