"""Chips."""

from __future__ import annotations

import numpy as np
import pytest

from facebatch.align import CHIP, TEMPLATE, box_matrix, chip_by_box, chip_by_landmarks
from facebatch.geometry import Picture, halvings


def _spots(points: np.ndarray, width: int = 400, height: int = 400) -> Picture:
    """A dark picture with a bright 5x5 spot centred on each point (pixel-centre coordinates)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for x, y in np.rint(points).astype(int):
        pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    return Picture(halvings(pixels), width, height)


@pytest.mark.parametrize(("turn", "scale"), [(0.0, 1.0), (0.5, 1.0), (-0.8, 1.6), (0.2, 2.5)])
def test_landmarks_land_on_the_template(turn: float, scale: float) -> None:
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    landmarks = ((TEMPLATE - 56) @ rotation.T + 200).astype(np.float32)
    chip = chip_by_landmarks(_spots(landmarks), landmarks)
    assert chip.shape == (CHIP, CHIP, 3)
    for x, y in np.rint(TEMPLATE).astype(int):
        assert chip[y, x, 0] > 150
    assert chip[:30].max() == 0


def test_a_box_becomes_the_square_of_its_longer_side_moved_up_by_a_twentieth() -> None:
    box = np.array([100, 120, 180, 220], np.float32)
    matrix = box_matrix(box)
    left, top, side = 140 - 50, 120 - 5, 100
    corners = np.array([[left, top], [left + side, top + side]]) - 0.5  # edges as pixel-centre coordinates
    assert np.allclose(corners @ matrix[:, :2].T + matrix[:, 2], [[-0.5, -0.5], [111.5, 111.5]])


def test_a_box_chip_shows_the_box() -> None:
    pixels = np.zeros((300, 300, 3), np.uint8)
    pixels[95:195, 100:200] = 200
    chip = chip_by_box(Picture(halvings(pixels), 300, 300), np.array([100, 100, 200, 200], np.float32))
    assert (chip[1:-1, 1:-1] == 200).all()
