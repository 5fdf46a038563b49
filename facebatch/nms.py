"""Non-maximum suppression, once for every detector."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facebatch.geometry import Floats


def nms(boxes: Floats, scores: Floats, threshold: float) -> NDArray[np.int64]:
    """Indices of the boxes to keep, best first: greedy, a box goes when its IoU with a kept one exceeds the threshold.

    boxes: n x 4, none empty; scores: n. Equal scores keep their order. OpenCV compares each candidate with the kept
    ones only: 20,000 around five faces take 10 ms, 4,000 of which 3,300 stay 63 ms (numpy, a pass for each kept: 570).
    """
    if not len(scores):
        return np.empty(0, np.int64)
    order = np.argsort(-scores, kind="stable")
    rank = np.arange(len(order), 0, -1, dtype=np.float32)  # OpenCV drops scores of zero; a rank is never zero
    corners = boxes[order].astype(np.float64)
    corners[:, 2:] -= corners[:, :2]
    kept = cv2.dnn.NMSBoxes(corners, rank, 0.0, threshold)  # type: ignore[arg-type]
    return order[np.asarray(kept, np.int64)]
