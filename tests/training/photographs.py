"""Photographs that are painted, so that it is known where everything is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from facebatch.geometry import Floats, Pixels
from facebatch.training.photos import Photo

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
"""Of the five points: RGB."""


def painted(file: Path, width: int, height: int, boxes: list[list[float]], grey: int = 128) -> Photo:
    """A black photograph with a grey rectangle for each face, on it its five points as coloured squares, whose sides
    are a tenth of the face's width. Boxes are in whole pixels."""
    pixels = np.zeros((height, width, 3), np.uint8)
    points = np.array([_spots(box) for box in boxes], np.float32).reshape(-1, 5, 2)
    for (left, top, right, bottom), spots in zip(boxes, points, strict=True):
        pixels[int(top) : int(bottom), int(left) : int(right)] = grey
        half = (right - left) / 20
        for (x, y), colour in zip(spots, COLOURS, strict=True):
            pixels[round(y - half) : round(y + half), round(x - half) : round(x + half)] = colour
    return saved(file, pixels, boxes, points)


def saved(file: Path, pixels: Pixels, boxes: list[list[float]], points: Floats | None = None) -> Photo:
    """A photograph of these pixels, without loss. Without points none are known."""
    assert cv2.imwrite(str(file), pixels[:, :, ::-1])
    unknown = np.full((len(boxes), 5, 2), np.nan, np.float32)
    places = np.array(boxes, np.float32).reshape(-1, 4)
    return Photo(file, places, unknown if points is None else points, np.zeros(len(boxes), np.bool_))


def centre(pixels: Pixels, colour: tuple[int, int, int]) -> list[float]:
    """The middle (x, y, edge coordinates) of what has about this colour."""
    away = np.abs(pixels.astype(np.int64) - colour).max(axis=2)
    y, x = np.nonzero(away < 100)
    return [float(x.mean()) + 0.5, float(y.mean()) + 0.5]


def extent(pixels: Pixels) -> list[float]:
    """The box around all that is not black."""
    y, x = np.nonzero(pixels.max(axis=2) >= 64)
    return [float(x.min()), float(y.min()), float(x.max()) + 1, float(y.max()) + 1]


def _spots(box: list[float]) -> Floats:
    left, top, right, bottom = box
    shares = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
    return np.array([left, top], np.float32) + shares * np.array([right - left, bottom - top], np.float32)
