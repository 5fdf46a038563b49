"""How far a detector's landmarks are from another's, on the faces that both find.

Where nobody has marked landmarks a stronger detector's are all there is, and those tremble: when a picture moves by a
few pixels, YuNet's move by a seventh of the distance between the eyes (median). Their mean over several looks moves
less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from facebatch import packs
from facebatch.config import Config, Detect
from facebatch.detect import Detector, Faces, Settings, views
from facebatch.errors import UsageError
from facebatch.evaluation.matching import iou
from facebatch.evaluation.truth import Truth
from facebatch.geometry import Floats, Picture, Pixels, halvings
from facebatch.packs import Model
from facebatch.session import CPU, Session
from facebatch.stages import open_picture
from facebatch.work import Work

_SAME = 0.5
"""IoU from which on two boxes show the same face."""
_PLAIN = Detect()
SIDES = (0, 16, 32, 64)
"""Of faces, in pixels, by which figures are told apart."""
_LOOKS = (
    (True, (0.0, 0.0, 0.0, 0.0)),
    (False, (0.02, 0.03, 0.01, 0.0)),
    (True, (0.05, 0.02, 0.03, 0.06)),
    (False, (0.06, 0.1, 0.09, 0.05)),
    (True, (0.1, 0.14, 0.12, 0.13)),
)
"""Mirrored or not, and the borders that are added, in sides of the picture."""
Finder = Callable[[Pixels], Faces]


@dataclass(frozen=True, slots=True)
class Apart:
    """A face that both find. share: the mean distance of its five points, in distances between the eyes, which are 1
    pixel at least; side: the shorter one of its box, in pixels of the picture as it is decoded."""

    share: float
    side: float


def said(apart: Sequence[Apart], side: float) -> str:
    """Median and mean, in percent of the distance between the eyes, of the faces whose shorter side has as much."""
    shares = [one.share for one in apart if one.side >= side]
    return f"{100 * np.median(shares):.1f} % ({100 * np.mean(shares):.1f})" if shares else ""


def finder(model: Model, chosen: Detect = _PLAIN, threads: int = 1, most: int = 0) -> Finder:
    """A detector of pictures as the job runs it, with the looks of its pack and these settings (their pack and weights
    do not matter). most: as of `Detector`."""
    settings = Settings.of(chosen, model.pack)
    network = Detector(Session(model, CPU, threads), settings, most=most)

    def find(pixels: Pixels) -> Faces:
        height, width, _ = pixels.shape
        return network([views(Picture(halvings(pixels), width, height), settings)], [(width, height)])[0]

    return find


def steadied(find: Finder) -> Finder:
    """A detector whose landmarks are means over several looks at a picture: mirrored, moved, and made smaller."""

    def looked(pixels: Pixels) -> Faces:
        first = find(pixels)
        if first.landmarks is None or not len(first):
            return first
        sums, counts = first.landmarks.astype(np.float64), np.ones(len(first))
        for mirrored, borders in _LOOKS:
            boxes, points = _look(find, pixels, mirrored, borders)
            if not len(boxes):
                continue
            overlaps = iou(first.boxes, boxes)
            same = overlaps.max(axis=1) >= _SAME
            sums[same] += points[overlaps.argmax(axis=1)[same]]
            counts[same] += 1
        return replace(first, landmarks=(sums / counts[:, None, None]).astype(np.float32))

    return looked


def _look(find: Finder, pixels: Pixels, mirrored: bool, borders: Sequence[float]) -> tuple[Floats, Floats]:
    """Boxes and points of faces in a picture that is mirrored and has borders (left, top, right, bottom, in sides), in
    the frame of the picture itself."""
    height, width, _ = pixels.shape
    left, top, right, bottom = (
        round(share * side) for share, side in zip(borders, (width, height, width, height), strict=True)
    )
    shown = pixels[:, ::-1] if mirrored else pixels
    shown = np.ascontiguousarray(np.pad(shown, ((top, bottom), (left, right), (0, 0))))
    faces = find(shown)
    if faces.landmarks is None or not len(faces):
        return np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32)
    boxes, points = faces.boxes - np.tile([left, top], 2), faces.landmarks - np.array([left, top])
    if mirrored:
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
        points = points[:, [1, 0, 2, 4, 3]]
        points[:, :, 0] = width - points[:, :, 0]
    return boxes.astype(np.float32), points.astype(np.float32)


def compare(own: Faces, reference: Faces) -> list[Apart]:
    """For each face of the reference the nearest of the others, where there is one. Both need landmarks."""
    if not len(own) or not len(reference):
        return []
    if own.landmarks is None or reference.landmarks is None:
        raise UsageError("a detector without landmarks has none to compare")
    found = []
    overlaps = iou(reference.boxes, own.boxes)
    for face, nearest in enumerate(overlaps.argmax(axis=1)):
        if overlaps[face, nearest] >= _SAME:
            theirs: Floats = reference.landmarks[face]
            eyes = max(float(np.linalg.norm(theirs[1] - theirs[0])), 1.0)
            away = float(np.linalg.norm(own.landmarks[nearest] - theirs, axis=1).mean())
            found.append(Apart(away / eyes, float((reference.boxes[face, 2:] - reference.boxes[face, :2]).min())))
    return found


def measure(
    truths: Sequence[Truth],
    detectors: Sequence[str],
    reference: str,
    config: Config,
    tell: Callable[[str], object],
) -> dict[tuple[str, str], list[Apart]]:
    """On the photographs of these truths (their boxes do not matter): how far each detector's landmarks are from the
    reference's as it sees the picture (`one look`) and from their mean over six looks (`mean`), of which that is one.
    The reference is among the detectors: it is away from its own mean. Photographs that cannot be decoded are left out,
    and told. Raises UsageError for detectors without landmarks and for photographs that cannot be read."""
    named = [reference, *(name for name in detectors if name != reference)]
    models = [packs.load(name, "detector") for name in named]
    for model in models:
        if not model.pack.landmarks:
            raise UsageError(f"{model.pack.name} has no landmarks to compare")
    finders = [finder(model, config.detect) for model in models]
    steady = steadied(finders[0])
    found: dict[tuple[str, str], list[Apart]] = {(name, looks): [] for name in named for looks in ("one look", "mean")}
    unread = []
    for truth in truths:
        data = truth.read()
        work = Work("evaluation", 0, truth.path, "", len(data), data=data)
        picture = open_picture(work, config.decode)
        if picture is None:
            unread.append(f"{truth.path}: {work.detail}")
            continue
        pixels = picture.shown(picture.levels[0])
        seen, mean = [find(pixels) for find in finders], steady(pixels)
        for name, own in zip(named, seen, strict=True):
            found[name, "one look"] += compare(own, seen[0])
            found[name, "mean"] += compare(own, mean)
    if unread:
        tell(f"{len(unread)} of {len(truths)} photographs could not be decoded, e.g. {unread[0]}")
    return found
