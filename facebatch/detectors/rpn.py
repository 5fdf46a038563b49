"""Region proposals over anchors: SSH and RetinaFace mnet.25, squares of two sizes for each cell.

Source: Najibi et al., "SSH: Single Stage Headless Face Detector", 2017; github.com/deepinsight/mxnet-SSH; the Open
Model Zoo adapter `retinaface`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np

from facebatch.detectors import Candidates
from facebatch.errors import FacebatchError, UsageError
from facebatch.geometry import Floats
from facebatch.packs import Anchors

_CENTRE = 7.5
"""Of the first cell's anchors: the middle of the pixels 0 to 15, whatever the stride."""


def decode(
    outputs: dict[str, Floats], width: int, height: int, lowest: float, anchors: Anchors | None
) -> list[Candidates]:
    """For each step s of the anchors, with A sizes and the rows and columns of its map, by what their names end in:

    `cls_prob*stride{s}`, n x 2A x rows x columns: A channels of background, then A of face, softmaxed;
    `bbox_pred*stride{s}`, n x 4A: for each size the shift of the centre in anchor sides and the log of the side ratios;
    `landmark_pred*stride{s}`, n x 10A, where there is one: five shifts from the anchor's centre in its sides.

    The published code numbers pixels and counts both ends, so that a box from 0 to 15 is 16 wide. Here boxes have
    edges: pixel 15 ends at 16, so x_max and y_max are one more, and points, which lay at pixel centres, a half more.
    IoUs, which the published code takes with that + 1, stay what they were.
    """
    if anchors is None:
        raise UsageError("the decoder `rpn` needs `anchors` in its pack")
    levels = [
        _level(outputs, step, np.array(sizes, np.float32), lowest)
        for step, sizes in zip(anchors.steps, anchors.sizes, strict=True)
    ]
    found = []
    for parts in zip(*levels, strict=True):
        marks = [part.landmarks for part in parts if part.landmarks is not None]
        boxes, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "scores"))
        found.append(Candidates(boxes, scores, np.concatenate(marks) if marks else None))
    return found


def _level(outputs: dict[str, Floats], step: int, sizes: Floats, lowest: float) -> list[Candidates]:
    scores = _output(outputs, "cls_prob", step)
    shifts = _output(outputs, "bbox_pred", step)
    marks = _output(outputs, "landmark_pred", step) if any("landmark_pred" in name for name in outputs) else None
    rows, columns = scores.shape[2:]
    found = []
    for i, faces in enumerate(scores[:, len(sizes) :].transpose(0, 2, 3, 1)):
        row, column, size = np.nonzero(faces >= lowest)
        side = sizes[size, None]
        centre = np.stack([column, row], axis=1).astype(np.float32) * step + _CENTRE
        shift = shifts[i].reshape(len(sizes), 4, rows, columns)[size, :, row, column]
        middle = centre + shift[:, :2] * side
        with np.errstate(over="ignore"):  # infinite boxes are thrown out with the empty ones
            reach = (np.exp(shift[:, 2:]) * side - 1) / 2
        boxes = np.concatenate([middle - reach, middle + reach + 1], axis=1)
        points = None
        if marks is not None:
            away = marks[i].reshape(len(sizes), 5, 2, rows, columns)[size, :, :, row, column]
            points = centre[:, None] + away * side[:, None] + np.float32(0.5)
        found.append(Candidates(boxes, faces[row, column, size], points))
    return found


def _output(outputs: dict[str, Floats], kind: str, step: int) -> Floats:
    names = [name for name in outputs if fnmatchcase(name, f"*{kind}*stride{step}")]
    if len(names) != 1:
        raise FacebatchError(f"of the outputs {', '.join(outputs)} one should be the {kind} of stride {step}")
    return outputs[names[0]]
