"""Which priors learn which faces: S3FD's anchor matching with scale compensation, and the code of boxes and points.

Source: Zhang et al., "S3FD: Single Shot Scale-invariant Face Detector", 2017, section 3.2, as EXTD uses it. All
coordinates are pixels of the training canvas, edge coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facebatch.evaluation.matching import covered, iou
from facebatch.geometry import Floats

VARIANCES = (0.1, 0.2)
FACE, BACKGROUND, NEITHER = 1, 0, -1


@dataclass(frozen=True, slots=True)
class Targets:
    """What P priors are to say of one picture. labels: P int64, FACE, BACKGROUND or NEITHER (no loss); loc: P x 4 and
    landms: P x 10, the codes of the face that a FACE prior stands for, zeros elsewhere; marked: P, its points are
    known."""

    labels: NDArray[np.int64]
    loc: Floats
    landms: Floats
    marked: NDArray[np.bool_]


def match(overlaps: Floats, sure: float = 0.35, least: float = 0.1) -> NDArray[np.int64]:
    """The face for each of P priors, or -1. overlaps: faces x P, IoU.

    First each prior takes the face that it overlaps most, if by `sure` or more. Then each face that has fewer priors
    than the faces that have any have on average takes the best of those that are left and overlap it by more than
    `least`, until it has as many: faces between the priors' sizes would else learn from hardly any.
    """
    faces, priors = overlaps.shape
    found = np.full(priors, -1, np.int64)
    if not faces:
        return found
    best = overlaps.argmax(axis=0)
    good = overlaps[best, np.arange(priors)] >= sure
    found[good] = best[good]
    counts = np.bincount(found[good], minlength=faces)
    enough = round(counts[counts > 0].mean()) if counts.any() else 1
    for face in np.argsort(counts, kind="stable"):
        if (missing := enough - counts[face]) > 0:
            free = np.flatnonzero((found < 0) & (overlaps[face] > least))
            found[free[np.argsort(-overlaps[face, free], kind="stable")[:missing]]] = face
    return found


def targets(priors: Floats, boxes: Floats, points: Floats, ignored: NDArray[np.bool_]) -> Targets:
    """What priors (P x 4: centre x, centre y, width, height) are to say of a picture with n faces.

    boxes: n x 4 (x_min, y_min, x_max, y_max); points: n x 5 x 2, NaN where they are not known; ignored: n, faces that
    are neither to be found nor background: priors of which they cover half learn nothing.
    """
    corners = np.concatenate([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], axis=1)
    left, unsure = boxes[~ignored], boxes[ignored]
    found = match(iou(left, corners).astype(np.float32))
    labels = np.where(found >= 0, FACE, BACKGROUND)
    if len(unsure):
        labels[(found < 0) & (covered(corners, unsure).max(axis=1) >= 0.5)] = NEITHER
    loc, landms = np.zeros((len(priors), 4), np.float32), np.zeros((len(priors), 10), np.float32)
    marked = np.zeros(len(priors), np.bool_)
    faces = np.flatnonzero(found >= 0)
    if len(faces):
        loc[faces] = encode(left[found[faces]], priors[faces])
        spots = points[~ignored][found[faces]]
        marked[faces] = np.isfinite(spots).all(axis=(1, 2))
        shifts = (spots - priors[faces, None, :2]) / (VARIANCES[0] * priors[faces, None, 2:])
        landms[faces] = np.where(marked[faces, None], shifts.reshape(-1, 10), 0)
    return Targets(labels, loc, landms, marked)


def encode(boxes: Floats, priors: Floats) -> Floats:
    """n boxes as corrections of their n priors: shift in prior sizes / 0.1, log of the size ratio / 0.2."""
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    shift = (centre - priors[:, :2]) / (VARIANCES[0] * priors[:, 2:])
    return np.concatenate([shift, np.log(size / priors[:, 2:]) / VARIANCES[1]], axis=1).astype(np.float32)
