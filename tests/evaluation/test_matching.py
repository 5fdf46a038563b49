"""Boxes against boxes."""

from __future__ import annotations

import numpy as np
import pytest

from facebatch.evaluation.matching import areas, best, covered, firsts, iou

A = np.array([[0, 0, 10, 10]], np.float64)


@pytest.mark.parametrize(
    ("other", "boundaries", "expected"),
    [
        ([0, 0, 10, 10], 0, 1.0),
        ([5, 0, 15, 10], 0, 50 / 150),
        ([5, 0, 15, 10], 1, 66 / (121 + 121 - 66)),
        ([10, 0, 20, 10], 0, 0.0),
        ([10, 0, 20, 10], 1, 11 / (121 + 121 - 11)),
        ([12, 12, 20, 20], 1, 0.0),
        ([5, 5, 5, 5], 0, 0.0),
        ([9, 2, 7, 8], 0, 0.0),
    ],
)
def test_overlap_is_intersection_over_union(other: list[float], boundaries: int, expected: float) -> None:
    assert iou(A, np.array([other], np.float64), boundaries).tolist() == [[pytest.approx(expected, abs=1e-15)]]


def test_two_empty_boxes_do_not_overlap() -> None:
    nothing = np.array([[3, 3, 3, 3]], np.float64)
    assert iou(nothing, nothing).tolist() == [[0.0]]
    assert covered(nothing, A).tolist() == [[0.0]]


def test_covered_is_the_share_of_the_first_boxes_own_area() -> None:
    boxes = np.array([[0, 0, 10, 10], [2, 2, 4, 4], [8, 0, 12, 10]], np.float64)
    assert covered(boxes, A).ravel().tolist() == [1.0, 1.0, 0.5]
    assert covered(A, boxes).ravel().tolist() == [1.0, 0.04, 0.2]
    assert covered(A, boxes[2:], 1).ravel().tolist() == [pytest.approx(33 / 121)]


def test_every_box_meets_every_other() -> None:
    three, two = np.tile(A, (3, 1)) + np.arange(3)[:, None], np.tile(A, (2, 1))
    assert iou(three, two).shape == (3, 2)
    assert iou(three, two[:0]).shape == (3, 0)
    assert iou(three[:0], two).shape == (0, 2)
    assert iou(three, two)[2].tolist() == [pytest.approx(64 / 136)] * 2


def test_areas_are_width_times_height() -> None:
    assert areas(np.array([[1, 2, 4, 4], [0, 0, 0, 9]], np.float64)).tolist() == [6.0, 0.0]


def test_the_best_is_looked_for_among_some_and_of_equals_it_is_the_first() -> None:
    overlaps = np.array([[0.9, 0.6, 0.6], [0.0, 0.4, 0.5], [0.1, 0.2, 0.3]])
    index, enough = best(overlaps, np.array([False, True, True]), 0.5)
    assert index.tolist() == [1, 2, 2]
    assert enough.tolist() == [True, True, False]


def test_where_nothing_is_asked_for_nothing_is_found() -> None:
    assert best(np.ones((2, 3)), np.zeros(3, np.bool_), 0.5)[1].tolist() == [False, False]
    assert best(np.ones((2, 0)), np.zeros(0, np.bool_), 0.5)[1].tolist() == [False, False]
    assert best(np.ones((0, 2)), np.ones(2, np.bool_), 0.5)[1].tolist() == []


def test_the_first_of_those_that_point_is_told() -> None:
    index = np.array([4, 1, 4, 1, 0])
    assert firsts(index, np.array([False, True, True, True, True])).tolist() == [False, True, True, False, True]
    assert firsts(index, np.zeros(5, np.bool_)).tolist() == [False] * 5
