"""How far a face can be trusted: measurements, words, and one number. Nothing is dropped here, only described."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from facebatch import config
from facebatch.geometry import Floats, Pixels
from facebatch.reasons import QualityReason

_FACE = np.array([[-32.0, 36.6, -28], [32, 36.6, -28], [0, -6.5, 0], [-26.5, -37.3, -22], [26.5, -37.3, -22]])
"""Eyes, nose tip, mouth corners in millimetres: x to the image's right, y up, z to the camera. x and y are ArcFace's
template at an eye distance of 64 mm, made symmetric; but the nose is where detectors see it on people who look straight
ahead, 0.58 of the way from eyes to mouth. The template has it at 0.5, by which the same people look down by 9 to 17
degrees (medians: YuNet and SCRFD, 160 photos of famous people and 393 grey portraits; so they are -3, 3, -1 and 5)."""


_FIT = np.linalg.pinv(_FACE - _FACE.mean(axis=0))
"""What makes the rows of the fitted projection of five points: a least-squares fit whose model never changes."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Degrees. Yaw is positive when the face looks to the image's right, pitch when it looks up, roll when the head
    leans clockwise as seen in the image."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, slots=True)
class Quality:
    """`sharpness`: variance of the Laplacian of the chip's luma; `brightness`: its mean, 0..1; `quality`: 0..1."""

    sharpness: float
    brightness: float
    pose: Pose | None
    quality: float
    reasons: tuple[QualityReason, ...]


def assess(chip: Pixels, face_px: float, score: float, landmarks: Floats | None, limits: config.Quality) -> Quality:
    """Measure one face. chip: 112 x 112 x 3; face_px: shorter box side; landmarks: 5 x 2 or None."""
    luma = cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY)
    _, ((deviation,),) = cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_32F))
    sharpness, brightness = float(deviation**2), cv2.mean(luma)[0] / 255
    pose = head_pose(landmarks) if landmarks is not None else None
    turned = max(abs(pose.yaw), abs(pose.pitch)) if pose else 0.0
    flags = (
        (face_px < limits.small_face, QualityReason.SMALL_BOUNDING_BOX),
        (sharpness < limits.low_sharpness, QualityReason.LOW_SHARPNESS),
        (brightness < limits.low_brightness, QualityReason.LOW_BRIGHTNESS),
        (turned > limits.extreme_pose, QualityReason.EXTREME_POSE),
        (score < limits.low_confidence, QualityReason.LOW_CONFIDENCE),
    )
    quality = (
        min(1.0, float(face_px) / 112)
        * min(1.0, sharpness / 200)
        * min(1.0, brightness / 0.25, (1 - brightness) / 0.1)
        * max(0.0, math.cos(math.radians(turned)))
        * float(score)
    ) ** (1 / 5)
    return Quality(sharpness, brightness, pose, quality, tuple(word for low, word in flags if low))


def head_pose(landmarks: Floats) -> Pose:
    """The pose by scaled orthography: the rotation whose projection of an average head fits the points best.

    Dementhon and Davis, "Model-based object pose in 25 lines of code" (1995), without the perspective refinement, for
    which five points are too few. landmarks: 5 x 2, pixels, y down.
    """
    seen = (landmarks - landmarks.mean(axis=0)).astype(np.float64) * [1, -1]
    u, _, v = np.linalg.svd((_FIT @ seen).T, full_matrices=False)
    (x1, x2, x3), (y1, y2, y3) = (u @ v).tolist()  # the nearest pair of orthogonal unit vectors
    z1, z2, z3 = x2 * y3 - x3 * y2, x3 * y1 - x1 * y3, x1 * y2 - x2 * y1
    yaw = math.degrees(math.atan2(-z1, z3))
    pitch = math.degrees(math.asin(min(max(-z2, -1.0), 1.0)))
    roll = math.degrees(math.atan2(x2, y2))
    return Pose(yaw, pitch, roll)
