"""Detectors that correct a fixed set of boxes, the priors: EXTD, RetinaFace, slim and RFB.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", 2016, for the code (variances 0.1 and 0.2); the priors are
those of S3FD (one square a cell), RetinaFace and Ultra-Light, by the numbers in the pack.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from facebatch.detectors import Candidates
from facebatch.errors import UsageError
from facebatch.geometry import Floats
from facebatch.packs import Anchors

_VARIANCES = (0.1, 0.2)


@cache
def priors(anchors: Anchors, width: int, height: int) -> Floats:
    """P x 4 (centre x, centre y, width, height), pixels of the canvas, by level, row, column, size."""
    levels = []
    for step, sizes in zip(anchors.steps, anchors.sizes, strict=True):
        columns, rows = -(-width // step), -(-height // step)
        across, down = (step, step) if anchors.grid == "pixels" else (width / columns, height / rows)
        y, x, size = np.meshgrid(np.arange(rows), np.arange(columns), sizes, indexing="ij")
        levels.append(np.stack([(x + 0.5) * across, (y + 0.5) * down, size, size], axis=-1).reshape(-1, 4))
    found = np.concatenate(levels)
    if anchors.clip:
        found = np.minimum(found, [width, height, width, height])
    return found.astype(np.float32)


def decode(
    outputs: dict[str, Floats], width: int, height: int, lowest: float, anchors: Anchors | None
) -> list[Candidates]:
    """loc: n x P x 4 (shift, log size); conf: n x P x 2 (background, face), softmaxed; landms, if any: n x P x 10."""
    if anchors is None:
        raise UsageError("the decoder `priors` needs `anchors` in its pack")
    prior = priors(anchors, width, height)
    found = []
    for i, (loc, conf) in enumerate(zip(outputs["loc"], outputs["conf"], strict=True)):
        good = conf[:, 1] >= lowest
        centre, size = prior[good, :2], prior[good, 2:]
        middle = centre + loc[good, :2] * _VARIANCES[0] * size
        with np.errstate(over="ignore"):  # infinite boxes are thrown out with the empty ones
            half = size * np.exp(loc[good, 2:] * _VARIANCES[1]) / 2
        spots = None
        if "landms" in outputs:
            shifts = outputs["landms"][i][good].reshape(-1, 5, 2)
            spots = centre[:, None] + shifts * _VARIANCES[0] * size[:, None]
        found.append(Candidates(np.concatenate([middle - half, middle + half], axis=1), conf[good, 1], spots))
    return found
