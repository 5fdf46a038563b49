"""Boxes against boxes: how much they overlap, and which prediction is the first to find a truth.

Boxes are n x 4 (x_min, y_min, x_max, y_max), edge coordinates in pixels. `boundaries` is what is added to each width
and height: 0 for edge coordinates, 1 where a corner is taken for the last pixel inside, as VOC's tools do.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


def iou(boxes: Boxes, others: Boxes, boundaries: int = 0) -> Doubles:
    """Intersection over union of n boxes with m others, n x m; 0 where both are empty."""
    both = _intersections(boxes, others, boundaries)
    either = areas(boxes, boundaries)[:, None] + areas(others, boundaries) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def covered(boxes: Boxes, others: Boxes, boundaries: int = 0) -> Doubles:
    """The share of each of n boxes' own area that lies within each of m others, n x m; 0 for empty boxes."""
    both = _intersections(boxes, others, boundaries)
    own = np.broadcast_to(areas(boxes, boundaries)[:, None], both.shape)
    return np.divide(both, own, out=np.zeros_like(both), where=own > 0)


def best(overlaps: Doubles, among: Mask, threshold: float) -> tuple[Indices, Mask]:
    """For each of n predictions the truth that it overlaps most, and whether it does so by at least the threshold.

    overlaps: n x m; among: m, which truths are asked for. Of equals the first counts. Where no truth is asked for,
    nothing overlaps and the index means nothing.
    """
    if not among.any() or not len(overlaps):
        return np.zeros(len(overlaps), np.int64), np.zeros(len(overlaps), np.bool_)
    asked = np.where(among, overlaps, -1.0)
    index = asked.argmax(axis=1)
    return index, cast(Mask, asked[np.arange(len(asked)), index] >= threshold)


def firsts(index: Indices, of: Mask) -> Mask:
    """Which predictions are the first to point at their truth. index: n truths; of: n, the predictions that point."""
    pointing = np.flatnonzero(of)
    _, at = np.unique(index[pointing], return_index=True)
    result = np.zeros(len(index), np.bool_)
    result[pointing[at]] = True
    return result


def areas(boxes: Boxes, boundaries: int = 0) -> Doubles:
    """Width times height of n boxes."""
    return (boxes[:, 2] - boxes[:, 0] + boundaries) * (boxes[:, 3] - boxes[:, 1] + boundaries)


def _intersections(boxes: Boxes, others: Boxes, boundaries: int) -> Doubles:
    width = np.minimum(boxes[:, None, 2], others[:, 2]) - np.maximum(boxes[:, None, 0], others[:, 0]) + boundaries
    height = np.minimum(boxes[:, None, 3], others[:, 3]) - np.maximum(boxes[:, None, 1], others[:, 1]) + boundaries
    return cast(Doubles, np.clip(width, 0, None) * np.clip(height, 0, None))
