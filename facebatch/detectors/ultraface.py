"""Ultra-Light-Fast-Generic-Face-Detector (slim, RFB), the files whose priors and softmax are inside the graph.

Source: github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB, vision/ssd/predictor.py, and the Open Model Zoo
adapter `ultra_lightweight_face_detection`.
"""

from __future__ import annotations

import numpy as np

from facebatch.detectors import Candidates
from facebatch.geometry import Floats
from facebatch.packs import Anchors


def decode(
    outputs: dict[str, Floats], width: int, height: int, lowest: float, anchors: Anchors | None = None
) -> list[Candidates]:
    """scores: n x priors x 2 (background, face), softmaxed; boxes: n x priors x 4 corners, 0..1 of the canvas."""
    size = np.array([width, height, width, height], np.float32)
    found = []
    for scores, boxes in zip(outputs["scores"], outputs["boxes"], strict=True):
        good = scores[:, 1] >= lowest
        found.append(Candidates(boxes[good] * size, scores[good, 1], None))
    return found
