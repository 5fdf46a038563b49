"""Non-maximum suppression."""

from __future__ import annotations

import numpy as np

from facebatch.geometry import iou
from facebatch.nms import nms


def test_the_better_of_two_overlapping_boxes_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60]], np.float32)
    assert nms(boxes, np.array([0.8, 0.9, 0.5], np.float32), 0.5).tolist() == [1, 2]


def test_an_overlap_of_exactly_the_threshold_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], np.float32)
    assert nms(boxes, np.array([0.9, 0.8], np.float32), 1 / 3 + 1e-6).tolist() == [0, 1]
    assert nms(boxes, np.array([0.9, 0.8], np.float32), 1 / 3 - 1e-6).tolist() == [0]


def test_equal_scores_keep_their_order() -> None:
    boxes = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(5)], np.float32)
    assert nms(boxes, np.ones(5, np.float32), 0.5).tolist() == [0, 1, 2, 3, 4]


def test_nothing_gives_nothing() -> None:
    assert nms(np.empty((0, 4), np.float32), np.empty(0, np.float32), 0.5).tolist() == []


def test_it_is_the_textbook_algorithm() -> None:
    random = np.random.default_rng(1)
    corners = random.uniform(0, 100, (300, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 40, (300, 2))], axis=1).astype(np.float32)
    scores = random.uniform(0, 1, 300).astype(np.float32)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(iou(boxes[j], boxes[i : i + 1])[0] <= 0.4 for j in kept):
            kept.append(int(i))
    assert nms(boxes, scores, 0.4).tolist() == kept


def test_a_score_of_zero_is_a_score() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    assert nms(boxes, np.array([0.0, 0.5], np.float32), 0.5).tolist() == [1, 0]


def test_of_thousands_of_candidates_around_few_faces_one_each_stays() -> None:
    random = np.random.default_rng(0)
    around = random.integers(0, 5, 20_000)
    corners = around[:, None] * 500 + random.uniform(0, 3, (20_000, 2))
    boxes = np.concatenate([corners, corners + 100], axis=1).astype(np.float32)
    kept = nms(boxes, random.uniform(0, 1, 20_000).astype(np.float32), 0.5)
    assert sorted(around[kept].tolist()) == [0, 1, 2, 3, 4]
