"""YuNet: anchor-free, one candidate for each cell of the strides 8, 16 and 32, with five landmarks.

Source: github.com/ShiqiYu/libfacedetection.train, mmdet/models/dense_heads/yunet_head.py. A cell's point is its top
left corner, (column, row) * stride; the score is cls * obj (OpenCV's FaceDetectorYN takes the square root of that).
"""

from __future__ import annotations

import numpy as np

from facebatch.detectors import Candidates
from facebatch.geometry import Floats
from facebatch.packs import Anchors

_STRIDES = (8, 16, 32)


def decode(
    outputs: dict[str, Floats], width: int, height: int, lowest: float, anchors: Anchors | None = None
) -> list[Candidates]:
    """cls_s, obj_s: n x cells x 1, sigmoided; bbox_s: n x cells x 4 (centre shift, log size, in strides); kps_s: 10."""
    levels = [_level(outputs, stride, width, height, lowest) for stride in _STRIDES]
    return [
        Candidates(*(np.concatenate([getattr(level[i], name) for level in levels]) for name in Candidates.__slots__))
        for i in range(len(levels[0]))
    ]


def _level(outputs: dict[str, Floats], stride: int, width: int, height: int, lowest: float) -> list[Candidates]:
    rows, columns = np.mgrid[: height // stride, : width // stride].astype(np.float32) * stride
    points = np.stack([columns.ravel(), rows.ravel()], axis=1)
    scores = outputs[f"cls_{stride}"][..., 0] * outputs[f"obj_{stride}"][..., 0]
    found = []
    for score, box, landmarks in zip(scores, outputs[f"bbox_{stride}"], outputs[f"kps_{stride}"], strict=True):
        good = score >= lowest
        point = points[good]
        centre = point + box[good, :2] * stride
        half = np.exp(box[good, 2:]) * (stride / 2)
        spots = point[:, None] + landmarks[good].reshape(-1, 5, 2) * stride
        found.append(Candidates(np.concatenate([centre - half, centre + half], axis=1), score[good], spots))
    return found
