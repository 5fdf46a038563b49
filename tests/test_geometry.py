"""Coordinates and resampling."""

from __future__ import annotations

import numpy as np
import pytest

from facebatch.geometry import (
    Picture,
    clip,
    halvings,
    iou,
    letterbox,
    level_for,
    resize,
    similarity,
    stretch,
    tiles,
    warp,
)


def picture(width: int, height: int, scale: int = 1) -> Picture:
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[:, :, 0] = np.rint(np.linspace(0, 255, width))
    ramp[:, :, 1] = np.rint(np.linspace(0, 255, height))[:, None]
    return Picture(halvings(ramp), width * scale, height * scale, scale)


def test_each_level_of_the_pyramid_is_the_mean_of_two_by_two() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (301, 403, 3), np.uint8)
    levels = halvings(pixels)
    assert [level.shape[:2] for level in levels] == [(301, 403), (150, 201), (75, 100)]
    means = pixels[:300, :402].reshape(150, 2, 201, 2, 3).mean(axis=(1, 3))
    assert np.abs(levels[1] - means).max() <= 0.5


def test_a_small_picture_is_its_own_pyramid() -> None:
    assert len(halvings(np.zeros((1, 1, 3), np.uint8))) == 1
    assert len(halvings(np.zeros((127, 1000, 3), np.uint8))) == 1


@pytest.mark.parametrize(("shrink", "level"), [(0.5, 0), (1.0, 0), (1.99, 0), (2.0, 1), (3.9, 1), (4.0, 2), (1e9, 2)])
def test_less_than_a_factor_of_two_is_left_to_the_bilinear_filter(shrink: float, level: int) -> None:
    assert level_for([np.zeros((1, 1, 3), np.uint8)] * 3, shrink) == level


def test_resizing_tells_how_coordinates_come_back() -> None:
    levels = halvings(np.zeros((1001, 1601, 3), np.uint8))
    small, fx, fy = resize(levels, 640, 400)
    assert small.shape == (400, 640, 3)
    assert (fx * 640, fy * 400) == (1600, 1000), "the odd last column and row are not in level 1"


@pytest.mark.parametrize(
    ("size", "canvas", "content"),
    [
        ((1600, 1200), (640, 480), (640, 480)),
        ((1500, 1000), (640, 480), (640, 427)),
        ((1000, 1500), (480, 640), (427, 640)),
        ((1000, 1000), (640, 640), (640, 640)),
        ((1200, 1000), (640, 640), (640, 533)),
        ((100, 100), (640, 640), (640, 640)),
        ((5000, 10), (640, 480), (640, 1)),
        ((1, 1), (640, 640), (640, 640)),
    ],
)
def test_a_letterbox_takes_the_canvas_that_shows_most(
    size: tuple[int, int], canvas: tuple[int, int], content: tuple[int, int]
) -> None:
    seen = letterbox(
        Picture((np.full((size[1], size[0], 3), 255, np.uint8),), *size), [(640, 480), (480, 640), (640, 640)]
    )
    assert seen.pixels.shape == (canvas[1], canvas[0], 3)
    assert (seen.pixels[: content[1], : content[0]] == 255).all()
    assert not seen.pixels[content[1] :].any()
    assert not seen.pixels[:, content[0] :].any()
    assert seen.fx * content[0] == pytest.approx(size[0])


@pytest.mark.parametrize("scale", [1, 4])
def test_tiles_cover_the_picture_and_share_what_they_are_told_to(scale: int) -> None:
    seen = tiles(picture(640, 480, scale), [(320, 240)], across=2, overlap=0.2)
    corners = np.array([(view.x, view.y) for view in seen]) / scale
    assert np.allclose(corners, [(0, 0), (256, 0), (0, 192), (256, 192)])
    for view in seen:
        assert view.pixels.shape == (240, 320, 3)
        assert (view.fx * 320 / scale, view.fy * 240 / scale) == pytest.approx((384, 288))
    last = seen[-1]
    assert (last.x + last.fx * 320, last.y + last.fy * 240) == pytest.approx((640 * scale, 480 * scale))


def test_a_tile_shows_its_part_of_the_picture() -> None:
    """Red rises with x, green with y: a pixel tells where it was taken from."""
    for view in tiles(picture(1280, 960), [(320, 240)], across=3, overlap=0.1):
        for row, column in ((5, 5), (120, 160), (234, 314)):
            x, y = view.x + (column + 0.5) * view.fx - 0.5, view.y + (row + 0.5) * view.fy - 0.5
            assert np.abs(view.pixels[row, column, :2] - np.array([x * 255 / 1279, y * 255 / 959])).max() < 1


def test_tiles_of_an_upright_picture_are_upright_where_the_detector_allows_it() -> None:
    canvases = [(640, 480), (480, 640), (640, 640)]
    assert {v.pixels.shape for v in tiles(picture(600, 800), canvases, 2, 0.1)} == {(640, 480, 3)}
    assert {v.pixels.shape for v in tiles(picture(800, 600), canvases, 2, 0.1)} == {(480, 640, 3)}


def test_view_coordinates_count_in_full_size_pixels_whatever_scale_was_decoded() -> None:
    seen = letterbox(picture(1600, 1200, scale=4), [(640, 480)])
    assert (seen.fx, seen.fy) == (10, 10)
    assert stretch(picture(1600, 1200, scale=4), (320, 240), fill=0.5).fx == 40


def test_boxes_are_cut_to_the_picture() -> None:
    assert clip(np.array([[-5, 2, 30, 400]], np.float32), 20, 100).tolist() == [[0, 2, 20, 100]]


def test_iou() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [2, 2, 4, 4]], np.float32)
    assert iou(box, others).tolist() == pytest.approx([1, 1 / 3, 0, 0.04])
    assert iou(box * 0, others[:1] * 0).tolist() == [0]


def test_a_similarity_is_recovered_from_its_points() -> None:
    angle, scale, shift = 0.7, 1.8, np.array([12.0, -30.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.random.default_rng(0).uniform(0, 100, (5, 2))
    matrix = similarity(points, points @ turn.T + shift)
    assert np.allclose(matrix[:, :2], turn)
    assert np.allclose(matrix[:, 2], shift)


def test_a_mirrored_face_is_not_matched_by_mirroring() -> None:
    points = np.array([[0, 0], [10, 0], [5, 6], [1, 10], [9, 10.0]])
    matrix = similarity(points, points * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0


def test_points_that_all_coincide_give_a_matrix_without_nan() -> None:
    assert np.isfinite(similarity(np.ones((5, 2)), np.random.default_rng(0).uniform(0, 1, (5, 2)))).all()


def test_the_identity_warp_copies_pixels() -> None:
    source = picture(200, 200)
    assert np.array_equal(warp(source, np.array([[1.0, 0, 0], [0, 1, 0]]), 112, 112), source.levels[0][:112, :112])


def test_a_very_wide_picture_can_be_warped_at_its_far_end() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (120, 40_000, 3), np.uint8)
    chip = warp(Picture((wide,), 40_000, 120), np.array([[1.0, 0, -39_000], [0, 1, 0]]), 112, 112)
    assert np.array_equal(chip, wide[:112, 39_000:39_112])


def test_outside_the_picture_is_black() -> None:
    assert not warp(picture(200, 200), np.array([[1.0, 0, 500], [0, 1, 500]]), 112, 112).any()


@pytest.mark.parametrize("shrink", [1.0, 1.7, 2.0, 3.3, 5.0, 9.0])
def test_a_warp_hits_the_same_place_from_every_level(shrink: float) -> None:
    """The centre of a smooth ramp is mapped to the chip's centre, whichever level of the pyramid it is taken from."""
    source = picture(1024, 1024)
    centre, scale = 600.0, 1 / shrink
    matrix = np.array([[scale, 0, 55.5 - scale * centre], [0, scale, 55.5 - scale * centre]])
    assert np.abs(warp(source, matrix, 112, 112)[55:57, 55:57, :2].mean(axis=(0, 1)) - centre * 255 / 1023).max() < 0.6


def test_a_warp_from_a_scaled_decode_hits_the_same_place() -> None:
    full = picture(1024, 1024)
    half = Picture(full.levels[1:], 1024, 1024, scale=2)
    matrix = np.array([[0.4, 0, -100], [0, 0.4, -80.0]])
    assert np.array_equal(warp(full, matrix, 112, 112), warp(half, matrix, 112, 112))
