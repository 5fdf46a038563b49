"""Non-maximum suppression, once for every detector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facebatch.geometry import Floats, iou


def nms(boxes: Floats, scores: Floats, threshold: float) -> NDArray[np.int64]:
    """Indices of the boxes to keep, best first: greedy, a box goes when its IoU with a kept one exceeds the threshold.

    boxes: n x 4; scores: n. Equal scores keep their order. One vectorised pass for each *kept* box, so thousands of
    candidates around a few faces cost a few passes.
    """
    left = np.argsort(-scores, kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[iou(boxes[best], boxes[left]) <= threshold]
    return np.array(kept, np.int64)
