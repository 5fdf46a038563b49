"""Which priors learn which faces: cases that fit on a sheet of paper."""

from __future__ import annotations

import numpy as np
import pytest

from facebatch.detectors.priors import decode, priors
from facebatch.training.detector import kind
from facebatch.training.matching import BACKGROUND, FACE, NEITHER, encode, match, targets

pytestmark = pytest.mark.reference

ROW = np.array([[5, 5, 10, 10], [15, 5, 10, 10], [25, 5, 10, 10], [45, 5, 10, 10]], np.float32)
"""Four priors of 10x10 pixels: three side by side, and one apart."""
NOWHERE = np.full((5, 2), np.nan, np.float32)


def _overlaps(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_a_prior_takes_the_face_that_it_overlaps_most_if_by_enough() -> None:
    found = match(_overlaps([0.35, 0.40, 0.34], [0.20, 0.50, 0.33]), least=1.0)
    assert found.tolist() == [0, 1, -1]


def test_faces_with_few_priors_take_the_best_of_those_that_are_left_up_to_the_mean() -> None:
    """The first two columns go to face 0, the next to face 1: one and a half each, hence two for every face. Face 2 has
    none and comes first; it overlaps the last by 0.1, which is not more than that. Then nothing is left for face 1."""
    found = match(
        _overlaps(
            [0.50, 0.36, 0.40, 0.20, 0.00, 0.05],
            [0.00, 0.00, 0.45, 0.30, 0.15, 0.00],
            [0.00, 0.00, 0.00, 0.12, 0.30, 0.10],
        )
    )
    assert found.tolist() == [0, 0, 1, 2, 2, -1]


def test_where_no_overlap_is_enough_each_face_has_its_best_prior() -> None:
    assert match(_overlaps([0.20, 0.30, 0.05], [0.25, 0.15, 0.00])).tolist() == [1, 0, -1]
    assert match(_overlaps([0.05, 0.10, 0.00])).tolist() == [-1, -1, -1]


def test_a_face_that_has_more_than_the_mean_keeps_them() -> None:
    assert match(_overlaps([0.9, 0.8, 0.7, 0.0], [0.0, 0.0, 0.0, 0.5])).tolist() == [0, 0, 0, 1]


def test_without_faces_all_is_background() -> None:
    assert match(np.empty((0, 3), np.float32)).tolist() == [-1, -1, -1]
    aims = targets(ROW, np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32), np.empty(0, np.bool_))
    assert aims.labels.tolist() == [BACKGROUND] * 4
    assert not aims.loc.any()
    assert not aims.landms.any()
    assert not aims.marked.any()


def test_the_code_is_the_shift_in_tenths_of_the_prior_and_fifths_of_the_logarithm_of_its_size() -> None:
    box = np.array([[1, 2, 11, 22]], np.float32)
    assert encode(box, ROW[:1]).tolist() == [[pytest.approx(v) for v in (1.0, 7.0, 0.0, np.log(2) / 0.2)]]


def test_a_face_is_coded_for_its_prior_with_its_points() -> None:
    """It lies one pixel to the right of the first prior, which it overlaps by 90 of 110 square pixels; the second one
    by 10 of 190, which is too little."""
    points = np.array([[[3, 3], [7, 3], [5, 5], [3, 7], [7, 7]]], np.float32)
    aims = targets(ROW, np.array([[1, 0, 11, 10]], np.float32), points, np.array([False]))
    assert aims.labels.tolist() == [FACE, BACKGROUND, BACKGROUND, BACKGROUND]
    assert aims.loc.tolist() == [[1, 0, 0, 0], *[[0] * 4] * 3]
    assert aims.landms.tolist() == [[-2, -2, 2, -2, 0, 0, -2, 2, 2, 2], *[[0] * 10] * 3]
    assert aims.marked.tolist() == [True, False, False, False]


def test_points_of_which_one_is_not_known_are_not_learned() -> None:
    points = np.array([[[3, 3], [7, 3], [5, 5], [3, 7], [7, np.nan]]], np.float32)
    aims = targets(ROW, np.array([[0, 0, 10, 10]], np.float32), points, np.array([False]))
    assert aims.labels[0] == FACE
    assert not aims.marked.any()
    assert not aims.landms.any()


def test_an_ignored_face_is_neither_learned_nor_background_where_it_covers_half_of_a_prior() -> None:
    """It covers the second prior whole, half of the third, and four tenths of the first."""
    aims = targets(ROW, np.array([[6, 0, 25, 10]], np.float32), NOWHERE[None], np.array([True]))
    assert aims.labels.tolist() == [BACKGROUND, NEITHER, NEITHER, BACKGROUND]
    assert not aims.loc.any()


def test_a_face_beside_an_ignored_one_is_learned_all_the_same() -> None:
    boxes = np.array([[0, 0, 30, 10], [10, 0, 20, 10]], np.float32)
    aims = targets(ROW, boxes, np.stack([NOWHERE, NOWHERE]), np.array([True, False]))
    assert aims.labels.tolist() == [NEITHER, FACE, NEITHER, BACKGROUND]


def test_what_detectors_decode_is_what_was_coded() -> None:
    anchors, side = kind("slim").anchors, 128
    random = np.random.default_rng(0)
    corners = random.uniform(0, 100, (40, 2))
    boxes = np.concatenate([corners, corners + random.uniform(8, 90, (40, 2))], axis=1).astype(np.float32)
    points = random.uniform(0, side, (40, 5, 2)).astype(np.float32)
    prior = priors(anchors, side, side)
    found = 0
    for box, spots in zip(boxes, points, strict=True):
        aims = targets(prior, box[None], spots[None], np.array([False]))
        conf = np.stack([aims.labels != FACE, aims.labels == FACE], axis=1).astype(np.float32)
        outputs = {"loc": aims.loc[None], "conf": conf[None], "landms": aims.landms[None]}
        (seen,) = decode(outputs, side, side, 0.5, anchors)
        found += len(seen.boxes)
        assert np.allclose(seen.boxes, box, atol=1e-3)
        assert seen.landmarks is not None
        assert np.allclose(seen.landmarks, spots, atol=1e-3)
    assert found > 100
