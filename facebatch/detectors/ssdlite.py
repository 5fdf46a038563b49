"""SSDLite MobileNetV2 (TensorFlow, COCO): of its 90 classes, people.

Source: the pipeline.config of ssdlite_mobilenet_v2_coco_2018_05_09 and TensorFlow's multiple_grid_anchor_generator and
faster_rcnn_box_coder: anchors are shares of the picture, codes are centre y, centre x, log height, log width.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from facebatch.detectors import Candidates
from facebatch.geometry import Floats
from facebatch.packs import Anchors

PERSON = 1
"""COCO's class 1; 0 is the background."""
_MAPS = (19, 10, 5, 3, 2, 1)
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
_RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
_CODE_SCALES = np.array([10, 10, 5, 5], np.float32)


@cache
def boxes() -> Floats:
    """1917 x 4 (centre y, centre x, height, width), shares of the picture, by map, row, column, shape."""
    levels = []
    for level, cells in enumerate(_MAPS):
        scale = _SCALES[level]
        kinds = [(scale, ratio) for ratio in _RATIOS] + [(np.sqrt(scale * _SCALES[level + 1]), 1.0)]
        if level == 0:
            kinds = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        sizes = np.array([[s / np.sqrt(ratio), s * np.sqrt(ratio)] for s, ratio in kinds])
        y, x = np.mgrid[:cells, :cells]
        centres = np.stack([(y.ravel() + 0.5) / cells, (x.ravel() + 0.5) / cells], axis=1)
        both = np.repeat(centres, len(sizes), axis=0), np.tile(sizes, (len(centres), 1))
        levels.append(np.concatenate(both, axis=1))
    return np.concatenate(levels).astype(np.float32)


def decode(
    outputs: dict[str, Floats], width: int, height: int, lowest: float, anchors: Anchors | None = None
) -> list[Candidates]:
    """boxes: n x 1917 x 4 codes; scores: n x 1917 x 91, sigmoided. Gives people, in pixels of the canvas."""
    size = np.array([width, height], np.float32)
    found = []
    for codes, scores in zip(outputs["boxes"], outputs["scores"], strict=True):
        good = scores[:, PERSON] >= lowest
        anchor, code = boxes()[good], codes[good] / _CODE_SCALES
        centre = code[:, :2] * anchor[:, 2:] + anchor[:, :2]
        with np.errstate(over="ignore"):  # infinite boxes are thrown out with the empty ones
            half = np.exp(code[:, 2:]) * anchor[:, 2:] / 2
        low, high = (centre - half)[:, ::-1] * size, (centre + half)[:, ::-1] * size
        found.append(Candidates(np.concatenate([low, high], axis=1), scores[good, PERSON], None))
    return found
