"""Agreement: how near an image that is computed again must come to its rows in the dataset, and where it does not.

Computed with the same packages on the same kind of processor, results are the same but for the order of sums (NEAR).
Another version of a decoder may move a pixel, and a GPU rounds in its own way (WIDE): a face on the edge of the
detection threshold may then be found once and not again, and everything else still is the same face in the same place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from facebatch.consistency import vectors
from facebatch.geometry import Floats
from facebatch.reasons import Reason, Status
from facebatch.work import Face, Work

_EXACT = ("reason", "format", "width", "height", "orientation", "n_persons")
_DECODED = (Status.OK, Status.NO_FACE)
_SAME = 0.5
"""IoU from which two boxes are taken for one face."""
UNREAD = {Reason.NOT_FOUND, Reason.ACCESS_DENIED, Reason.STORAGE_ERROR, Reason.OUT_OF_MEMORY, Reason.SOURCE_CHANGED}
"""Why nothing can be said about an image: its source could not be read now as it was planned."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an image may be from its rows. Boxes agree within `pixels` or from an `iou` on, vectors within
    `component` in each number or from a `cosine` on, landmarks within `pixels` or a `share` of the box's longer side.

    edge: a face whose score is so near to the detection threshold may be missing on one side. bits: of the phash.
    """

    words: str
    pixels: float
    component: float
    score: float
    iou: float = np.inf
    cosine: float = np.inf
    share: float = 0.0
    edge: float = 0.0
    bits: int = 0


NEAR = Tolerance("boxes and landmarks within 0.01 px, scores within 0.0001, vectors within 1e-5", 0.01, 1e-5, 1e-4)
WIDE = Tolerance(
    "boxes from IoU 0.95 on, vectors from cosine 0.999 on, scores within 0.02, landmarks within 5 % of the box",
    pixels=0.01,
    component=1e-5,
    score=0.02,
    iou=0.95,
    cosine=0.999,
    share=0.05,
    edge=0.02,
    bits=4,
)


@dataclass(frozen=True, slots=True)
class Stored:
    """An image as the dataset has it: its row, and its rows of schema FACES in their order."""

    image: dict[str, Any]
    faces: pa.Table


def differences(stored: Stored, work: Work, tolerance: Tolerance, threshold: float) -> Iterator[str]:
    """Where an image that was computed again does not agree with its rows, in words. threshold: of detection."""
    image = stored.image
    was, now = image["content_sha256"], work.content_sha256
    if was and now and was != now:
        yield f"content_sha256 was {was} and is now {now}: other bytes, so nothing else is compared"
        return
    if was != now:
        yield f"content_sha256 was {was} and is now {now}"
    for name in _EXACT:
        if image[name] != getattr(work, name):
            yield f"{name} was {image[name]} and is now {getattr(work, name)}"
    if _bits(image["phash"], work.phash) > tolerance.bits:
        yield f"phash was {image['phash']} and is now {work.phash}"
    faces = _stored_faces(stored.faces)
    pairs = _pairs(faces, work.faces)
    lost = set(range(len(faces))) - {k for k, _ in pairs}
    new = set(range(len(work.faces))) - {k for _, k in pairs}
    alone = [*(faces[k] for k in sorted(lost)), *(work.faces[k] for k in sorted(new))]
    decoded = image["status"] in _DECODED and work.status in _DECODED
    excused = decoded and alone and all(abs(face.score - threshold) <= tolerance.edge for face in alone)
    outcome = ("status", image["status"], work.status), ("n_faces", image["n_faces"], len(work.faces))
    for name, before, after in () if excused else outcome:
        if before != after:
            yield f"{name} was {before} and is now {after}"
    for k in () if excused else sorted(lost):
        yield f"face {k} is not found again"
    for k, again in pairs:
        for what in _face_differences(faces[k], work.faces[again], tolerance):
            yield f"face {k}: {what}"


def _bits(one: int | None, other: int | None) -> int:
    """In how many bits two hashes differ; all where only one is known."""
    if one is None or other is None:
        return 0 if one == other else 64
    return ((one ^ other) & (2**64 - 1)).bit_count()


def _stored_faces(table: pa.Table) -> list[Face]:
    boxes = np.stack([table[side].to_numpy() for side in ("x_min", "y_min", "x_max", "y_max")], axis=1)
    points = [None if p is None else np.array(p, np.float32).reshape(5, 2) for p in table["landmarks"].to_pylist()]
    return [
        Face(box, score, spots, embedding=vector)
        for box, score, spots, vector in zip(boxes, table["score"].to_pylist(), points, vectors(table), strict=True)
    ]


def _pairs(faces: list[Face], again: list[Face]) -> list[tuple[int, int]]:
    """Which face is which: by their boxes, the most alike first. Sorted by the first."""
    if not faces or not again:
        return []
    overlaps = _iou(np.stack([f.box for f in faces]), np.stack([f.box for f in again]))
    found: dict[int, int] = {}
    for flat in np.argsort(-overlaps, axis=None, kind="stable"):
        one, other = divmod(int(flat), len(again))
        if not overlaps[one, other] >= _SAME:
            break
        if one not in found and other not in found.values():
            found[one] = other
    return sorted(found.items())


def _face_differences(face: Face, again: Face, tolerance: Tolerance) -> Iterator[str]:
    moved = _furthest(face.box, again.box)
    iou = float(_iou(face.box[None], again.box[None])[0, 0])
    if not (moved <= tolerance.pixels or iou >= tolerance.iou):
        yield f"its box has moved by {moved:.3g} px, IoU {iou:.3f}"
    if not abs(face.score - again.score) <= tolerance.score:
        yield f"its score was {face.score:.5f} and is now {again.score:.5f}"
    side = float(max(face.box[2] - face.box[0], face.box[3] - face.box[1]))
    if (face.landmarks is None) != (again.landmarks is None):
        yield f"it {'has' if again.landmarks is not None else 'has no'} landmarks now"
    elif face.landmarks is not None and again.landmarks is not None:
        moved = _furthest(face.landmarks, again.landmarks)
        if not moved <= max(tolerance.pixels, tolerance.share * side):
            yield f"its landmarks have moved by {moved:.3g} px"
    assert face.embedding is not None
    assert again.embedding is not None, "a face came out of the stages without its vector"
    apart = _furthest(face.embedding, again.embedding)
    cosine = float(face.embedding.astype(np.float64) @ again.embedding.astype(np.float64))
    if not (apart <= tolerance.component or cosine >= tolerance.cosine):
        yield f"its vector is another one: cosine {cosine:.6f}, {apart:.3g} apart in one number"


def _furthest(one: Floats, other: Floats) -> float:
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())


def _iou(some: Floats, others: Floats) -> NDArray[np.float64]:
    """Of each of n boxes with each of m: n x m."""
    one, other = some.astype(np.float64)[:, None], others.astype(np.float64)[None]
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (one, other)]
    shared: NDArray[np.float64] = common / np.maximum(areas[0] + areas[1] - common, 1e-12)
    return shared
