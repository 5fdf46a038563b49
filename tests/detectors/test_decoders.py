"""Decoders against the definitions they were published with, written out cell by cell."""

from __future__ import annotations

import numpy as np

from facebatch.detectors import ultraface, yunet


def test_yunet_decodes_each_cell_from_its_top_left_corner() -> None:
    width, height = 96, 64
    random = np.random.default_rng(0)
    outputs, expected = {}, []
    for stride in (8, 16, 32):
        cells = (width // stride) * (height // stride)
        outputs[f"cls_{stride}"] = random.uniform(0, 1, (2, cells, 1)).astype(np.float32)
        outputs[f"obj_{stride}"] = random.uniform(0, 1, (2, cells, 1)).astype(np.float32)
        outputs[f"bbox_{stride}"] = random.normal(0, 1, (2, cells, 4)).astype(np.float32)
        outputs[f"kps_{stride}"] = random.normal(0, 1, (2, cells, 10)).astype(np.float32)
        for cell in range(cells):
            row, column = divmod(cell, width // stride)
            score = outputs[f"cls_{stride}"][1, cell, 0] * outputs[f"obj_{stride}"][1, cell, 0]
            if score >= 0.4:
                dx, dy, w, h = outputs[f"bbox_{stride}"][1, cell]
                cx, cy = (column + dx) * stride, (row + dy) * stride
                w, h = np.exp(w) * stride, np.exp(h) * stride
                points = outputs[f"kps_{stride}"][1, cell].reshape(5, 2) * stride + [column * stride, row * stride]
                expected.append((score, [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], points))
    found = yunet.decode(outputs, width, height, 0.4)
    assert len(found) == 2
    assert found[1].scores.tolist() == [e[0] for e in expected]
    assert np.allclose(found[1].boxes, [e[1] for e in expected], atol=1e-3)
    assert found[1].landmarks is not None
    assert np.allclose(found[1].landmarks, [e[2] for e in expected], atol=1e-3)


def test_ultraface_boxes_are_shares_of_the_canvas_and_class_one_is_the_face() -> None:
    scores = np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32)
    boxes = np.array([[[0, 0, 1, 1], [0.25, 0.5, 0.5, 1]]], np.float32)
    (found,) = ultraface.decode({"scores": scores, "boxes": boxes}, 320, 240, 0.7)
    assert found.boxes.tolist() == [[80, 120, 160, 240]]
    assert found.scores.tolist() == [np.float32(0.8)]
    assert found.landmarks is None


def test_nothing_above_the_threshold_is_an_empty_list_of_boxes() -> None:
    scores, boxes = np.zeros((1, 3, 2), np.float32), np.zeros((1, 3, 4), np.float32)
    (found,) = ultraface.decode({"scores": scores, "boxes": boxes}, 320, 240, 0.7)
    assert found.boxes.shape == (0, 4)
