"""Region proposals against the definition they were published with, written out cell by cell."""

from __future__ import annotations

import numpy as np
import pytest

from facebatch.detectors import rpn
from facebatch.errors import FacebatchError, UsageError
from facebatch.geometry import Floats
from facebatch.packs import Anchors

ANCHORS = Anchors((32, 16, 8), ((512, 256), (128, 64), (32, 16)))
BASES = {  # inclusive corners, as generate_anchors.py prints them
    32: ((-248, -248, 263, 263), (-120, -120, 135, 135)),
    16: ((-56, -56, 71, 71), (-24, -24, 39, 39)),
    8: ((-8, -8, 23, 23), (0, 0, 15, 15)),
}


def written_out(
    outputs: dict[str, Floats], image: int, lowest: float
) -> tuple[list[float], list[list[float]], list[list[tuple[float, float]]]]:
    """Scores, inclusive corners and points of one image, as the adapter `retinaface` loops over them."""
    scores, boxes, points = [], [], []
    for stride, bases in BASES.items():
        prob = outputs[f"face_rpn_cls_prob_reshape_stride{stride}"][image].astype(np.float64)
        delta = outputs[f"face_rpn_bbox_pred_stride{stride}"][image].astype(np.float64)
        shift = outputs[f"face_rpn_landmark_pred_stride{stride}"][image].astype(np.float64)
        for row in range(prob.shape[1]):
            for column in range(prob.shape[2]):
                for a, (x1, y1, x2, y2) in enumerate(bases):
                    if prob[2 + a, row, column] < np.float32(lowest):
                        continue
                    w, h = x2 - x1 + 1.0, y2 - y1 + 1.0
                    cx = column * stride + x1 + 0.5 * (w - 1)
                    cy = row * stride + y1 + 0.5 * (h - 1)
                    dx, dy, dw, dh = delta[4 * a : 4 * a + 4, row, column]
                    nx, ny, nw, nh = dx * w + cx, dy * h + cy, np.exp(dw) * w, np.exp(dh) * h
                    half_w, half_h = 0.5 * (nw - 1), 0.5 * (nh - 1)
                    scores.append(prob[2 + a, row, column])
                    boxes.append([nx - half_w, ny - half_h, nx + half_w, ny + half_h])
                    of_anchor = shift[10 * a : 10 * a + 10, row, column]
                    points.append([(of_anchor[2 * k] * w + cx, of_anchor[2 * k + 1] * h + cy) for k in range(5)])
    return scores, boxes, points


def heads(prefix: str = "face_rpn", width: int = 96, height: int = 64) -> dict[str, Floats]:
    random = np.random.default_rng(0)
    outputs = {}
    for stride in (8, 16, 32):
        size = (height // stride, width // stride)
        face = random.uniform(0, 1, (3, 2, *size))
        outputs[f"{prefix}_cls_prob_reshape_stride{stride}"] = np.concatenate([1 - face, face], axis=1)
        outputs[f"{prefix}_bbox_pred_stride{stride}"] = random.normal(0, 0.5, (3, 8, *size))
        outputs[f"{prefix}_landmark_pred_stride{stride}"] = random.normal(0, 0.5, (3, 20, *size))
    return {name: output.astype(np.float32) for name, output in outputs.items()}


def test_boxes_and_landmarks_are_those_of_the_published_loop() -> None:
    outputs = heads()
    found = rpn.decode(outputs, 96, 64, 0.6, ANCHORS)
    assert len(found) == 3
    for image, candidates in enumerate(found):
        scores, boxes, points = written_out(outputs, image, 0.6)
        assert 30 < len(scores) < 252
        assert candidates.scores.tolist() == scores
        assert np.allclose(candidates.boxes, np.add(boxes, [0, 0, 1, 1]), atol=1e-3)
        assert candidates.landmarks is not None
        assert np.allclose(candidates.landmarks, np.add(points, 0.5), atol=1e-3)
        assert {a.dtype for a in (candidates.boxes, candidates.scores, candidates.landmarks)} == {np.dtype(np.float32)}


def test_an_anchor_that_is_not_moved_covers_its_pixels_and_has_its_points_in_the_middle() -> None:
    outputs = {name: np.zeros_like(output) for name, output in heads().items()}
    outputs["face_rpn_cls_prob_reshape_stride8"][0, 3, 2, 5] = 1
    found = rpn.decode(outputs, 96, 64, 0.5, ANCHORS)[0]
    assert found.boxes.tolist() == [[40, 16, 56, 32]]
    assert found.landmarks is not None
    assert found.landmarks.tolist() == [[[48, 24]] * 5]


def test_outputs_are_told_by_the_ends_of_their_names_and_need_no_landmarks() -> None:
    with_points = rpn.decode(heads(), 96, 64, 0.6, ANCHORS)
    plain = {name: output for name, output in heads("rpn").items() if "landmark" not in name}
    for one, other in zip(with_points, rpn.decode(plain, 96, 64, 0.6, ANCHORS), strict=True):
        assert np.array_equal(one.boxes, other.boxes)
        assert np.array_equal(one.scores, other.scores)
        assert other.landmarks is None


def test_nothing_above_the_threshold_is_an_empty_list_of_boxes() -> None:
    for found in rpn.decode(heads(), 96, 64, 1.5, ANCHORS):
        assert found.boxes.shape == (0, 4)
        assert found.scores.shape == (0,)
        assert found.landmarks is not None
        assert found.landmarks.shape == (0, 5, 2)


def test_a_pack_without_anchors_and_a_network_without_a_stride_are_refused() -> None:
    with pytest.raises(UsageError, match="anchors"):
        rpn.decode(heads(), 96, 64, 0.5, None)
    with pytest.raises(FacebatchError, match="one should be the cls_prob of stride 4"):
        rpn.decode(heads(), 96, 64, 0.5, Anchors((4,), ((8, 4),)))
