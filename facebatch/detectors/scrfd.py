"""SCRFD: anchor-free, two candidates for each cell of the strides 8, 16 and 32, with five landmarks.

Source: Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", 2021, and
github.com/deepinsight/insightface, python-package/insightface/model_zoo/scrfd.py. A cell's point is its top left
corner.
"""

from __future__ import annotations

import numpy as np

from facebatch.detectors import Candidates
from facebatch.geometry import Floats
from facebatch.packs import Anchors

_STRIDES = (8, 16, 32)
_A_CELL = 2


def decode(
    outputs: dict[str, Floats], width: int, height: int, lowest: float, anchors: Anchors | None = None
) -> list[Candidates]:
    """Nine outputs, named otherwise in every export: for each stride n x cells*2 x 1 scores (sigmoided), x 4 distances
    to left, top, right, bottom and x 10 landmark shifts, in strides. They are told apart by their shapes."""
    levels = []
    for stride in _STRIDES:
        columns, rows = width // stride, height // stride
        count = columns * rows * _A_CELL
        scores, distances, shifts = (
            next(output for output in outputs.values() if output.shape[1:] == (count, n)) for n in (1, 4, 10)
        )
        y, x = np.mgrid[:rows, :columns].astype(np.float32) * stride
        points = np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), _A_CELL, axis=0)
        levels.append((points, scores[..., 0], distances * stride, shifts * stride))
    found = []
    for i in range(len(levels[0][1])):
        boxes, marks, best = [], [], []
        for points, scores, distances, shifts in levels:
            good = scores[i] >= lowest
            point, reach = points[good], distances[i, good]
            boxes.append(np.concatenate([point - reach[:, :2], point + reach[:, 2:]], axis=1))
            marks.append(point[:, None] + shifts[i, good].reshape(-1, 5, 2))
            best.append(scores[i, good])
        found.append(Candidates(np.concatenate(boxes), np.concatenate(best), np.concatenate(marks)))
    return found
