"""Measurements and words about a face."""

from __future__ import annotations

import math

import numpy as np
import pytest

from facebatch import config
from facebatch.align import TEMPLATE
from facebatch.geometry import Floats
from facebatch.quality import _FACE, assess, head_pose
from facebatch.reasons import QualityReason

LIMITS = config.Quality()
SHARP = np.random.default_rng(0).integers(60, 200, (112, 112, 3), np.uint8)


def _rotated(yaw: float, pitch: float, roll: float) -> Floats:
    """The model head turned, and projected in parallel: pixels, y down."""
    y, p, r = map(math.radians, (yaw, pitch, roll))
    about_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
    about_z = np.array([[math.cos(r), math.sin(r), 0], [-math.sin(r), math.cos(r), 0], [0, 0, 1]])
    turned = _FACE @ (about_z @ about_x @ about_y).T
    return np.asarray(turned[:, :2] * [1, -1] * 3 + 500, np.float32)


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (30, 0, 0), (-30, 0, 0), (0, 20, 0), (0, 0, 25), (20, -10, 15), (50, 20, -30)]
)
def test_the_pose_of_a_turned_head_is_recovered(angles: tuple[float, float, float]) -> None:
    pose = head_pose(_rotated(*angles))
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx(angles, abs=0.01)


def test_a_face_whose_nose_is_where_detectors_see_it_looks_straight_ahead() -> None:
    """0.58 of the way from eyes to mouth; ArcFace's template has it at 0.5."""
    eyes, mouth = TEMPLATE[:2, 1].mean(), TEMPLATE[3:, 1].mean()
    points = TEMPLATE.copy()
    points[2, 1] = eyes + 0.583 * (mouth - eyes)
    pose = head_pose(points.astype(np.float32))
    assert max(abs(pose.yaw), abs(pose.pitch), abs(pose.roll)) < 1.5
    assert 10 < head_pose(TEMPLATE.astype(np.float32)).pitch < 20


def test_signs_are_those_of_the_documentation() -> None:
    looks_right = np.add(TEMPLATE, [[0, 0], [0, 0], [8, 0], [0, 0], [0, 0]])
    looks_up = np.add(TEMPLATE, [[0, 0], [0, 0], [0, -5], [0, 0], [0, 0]])
    leans_clockwise = (TEMPLATE - 56) @ np.array([[0.97, 0.24], [-0.24, 0.97]]) + 56
    assert head_pose(looks_right.astype(np.float32)).yaw > 10
    assert head_pose(looks_up.astype(np.float32)).pitch > head_pose(TEMPLATE.astype(np.float32)).pitch + 5
    assert head_pose(leans_clockwise.astype(np.float32)).roll > 10


def test_a_good_face_has_no_reasons() -> None:
    found = assess(SHARP, 150, 0.95, TEMPLATE.astype(np.float32), LIMITS)
    assert found.reasons == ()
    assert found.quality > 0.9


@pytest.mark.parametrize(
    ("chip", "face_px", "score", "landmarks", "reason"),
    [
        (SHARP, 31.9, 0.95, None, QualityReason.SMALL_BOUNDING_BOX),
        (np.full_like(SHARP, 128), 150, 0.95, None, QualityReason.LOW_SHARPNESS),
        (SHARP // 8, 150, 0.95, None, QualityReason.LOW_BRIGHTNESS),
        (SHARP, 150, 0.95, _rotated(60, 0, 0), QualityReason.EXTREME_POSE),
        (SHARP, 150, 0.6, None, QualityReason.LOW_CONFIDENCE),
    ],
)
def test_each_word_has_its_cause(
    chip: np.ndarray, face_px: float, score: float, landmarks: np.ndarray | None, reason: QualityReason
) -> None:
    found = assess(chip, face_px, score, landmarks, LIMITS)
    assert reason in found.reasons
    assert 0 <= found.quality < assess(SHARP, 150, 0.95, None, LIMITS).quality


def test_measurements_are_what_they_say() -> None:
    found = assess(np.full((112, 112, 3), 51, np.uint8), 100, 0.9, None, LIMITS)
    assert found.brightness == pytest.approx(0.2)
    assert found.sharpness == 0
    assert found.pose is None
