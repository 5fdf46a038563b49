"""Annotated photographs to learn from, and what a stronger detector adds to what people have marked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facebatch.errors import UsageError
from facebatch.evaluation.landmarks import Finder
from facebatch.evaluation.matching import iou
from facebatch.geometry import Floats, Pixels
from facebatch.training import checkpoint

JSONL = "boxes.jsonl"
_SAME = 0.5
"""IoU from which on two boxes show the same face."""
_SEEN = 0.5
"""The score from which on the points of a face that people have marked are taken."""
_APART = 0.3
"""IoU below which a detector's box is a face that nobody has marked."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph with n faces.

    boxes: n x 4 float32 (x_min, y_min, x_max, y_max), edge coordinates in pixels; points: n x 5 x 2, NaN where they
    are not known; ignored: n, faces that are neither to be found nor background.
    """

    file: Path
    boxes: Floats
    points: Floats
    ignored: NDArray[np.bool_]

    def read(self) -> Pixels:
        """Height x width x 3, RGB. Raises UsageError."""
        found = cv2.imread(str(self.file), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if found is None:
            raise UsageError(f"{self.file} is no photograph that OpenCV can read")
        return np.ascontiguousarray(found[:, :, ::-1], np.uint8)


def read(folder: Path) -> list[Photo]:
    """The photographs that the folder's `boxes.jsonl` lists: a line {"file": ..., "boxes": [[x_min, y_min, x_max,
    y_max], ...]} for each, other keys left alone. Raises UsageError that names file and line."""
    try:
        lines = (folder / JSONL).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{folder / JSONL} cannot be read: {error.strerror}. It lists photographs and boxes") from None
    return [_photo(folder, line, f"{folder / JSONL}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]


def split(photos: Sequence[Photo], share: float) -> tuple[list[Photo], list[Photo]]:
    """Those to learn from and those to judge by. Which is which hangs on a photograph's content alone, so that copies
    stay together and a larger collection moves none from one side to the other. Raises UsageError."""
    learn: list[Photo] = []
    judge: list[Photo] = []
    for photo in photos:
        digest = hashlib.sha256(_bytes(photo.file)).digest()
        (judge if int.from_bytes(digest[:4]) < share * 2**32 else learn).append(photo)
    if not learn or not judge:
        raise UsageError(f"{len(photos)} photographs are too few to judge by a share of {share} of them")
    return learn, judge


def taught(photo: Photo, find: Finder, sure: float) -> Photo:
    """A photograph with what a detector with landmarks adds: the points of faces that are marked, faces that nobody
    has marked where it is sure of them, and `ignored` ones where it is not. A photograph in which people have marked
    nothing shows no face: what is seen there is what detectors are to learn not to see."""
    if not len(photo.boxes):
        return photo
    seen = find(photo.read())
    if seen.landmarks is None:
        raise UsageError("the detector that is to teach gives no landmarks")
    points = photo.points.copy()
    overlaps = iou(photo.boxes, seen.boxes)
    for face in range(len(photo.boxes)):
        if len(seen) and overlaps[face].max() >= _SAME and seen.scores[overlaps[face].argmax()] >= _SEEN:
            points[face] = seen.landmarks[overlaps[face].argmax()]
    new = overlaps.max(axis=0, initial=0) < _APART
    return replace(
        photo,
        boxes=np.concatenate([photo.boxes, seen.boxes[new]]),
        points=np.concatenate([points, seen.landmarks[new]]),
        ignored=np.concatenate([photo.ignored, seen.scores[new] < sure]),
    )


def remember(photos: Sequence[Photo], file: Path) -> None:
    """Write boxes, points and what is ignored, in the photographs' order, to be read by `remembered`."""
    lines = [
        {"file": p.file.name, "boxes": p.boxes.tolist(), "points": p.points.tolist(), "ignored": p.ignored.tolist()}
        for p in photos
    ]
    checkpoint.write(file, "".join(json.dumps(line) + "\n" for line in lines).encode())


def remembered(file: Path, photos: Sequence[Photo]) -> list[Photo]:
    """The photographs with what was written of them. Raises UsageError where these are others, or other boxes, which
    come first, are marked in them now."""
    entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found = [
        Photo(
            photo.file.with_name(entry["file"]),
            np.array(entry["boxes"], np.float32).reshape(-1, 4),
            np.array(entry["points"], np.float32).reshape(-1, 5, 2),
            np.array(entry["ignored"], np.bool_),
        )
        for photo, entry in zip(photos, entries, strict=False)
    ]
    same = all(
        one.file == other.file and np.array_equal(one.boxes[: len(other.boxes)], other.boxes)
        for one, other in zip(found, photos, strict=False)
    )
    if len(entries) != len(photos) or not same:
        raise UsageError(f"{file} was made for other photographs or boxes: remove it, and they are looked at again")
    return found


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}. {JSONL} lists it") from None


def _photo(folder: Path, line: str, where: str) -> Photo:
    try:
        entry: Any = json.loads(line)
        boxes = np.array([[x, y, right, bottom] for x, y, right, bottom in entry["boxes"]], np.float32).reshape(-1, 4)
        file = folder / str(entry["file"])
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{where}: expected {{'file': ..., 'boxes': [[x_min, y_min, x_max, y_max], ...]}}") from error
    if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
        raise UsageError(f"{where}: a box ends before it begins, or is not finite")
    return Photo(file, boxes, np.full((len(boxes), 5, 2), np.nan, np.float32), np.zeros(len(boxes), np.bool_))
