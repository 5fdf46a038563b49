"""Training pictures: faces are where the pixels say, whatever is done to both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facebatch.training.crops import Crop, Drawing, coloured, cut, draw, mirrored
from facebatch.training.photos import Photo
from tests.training.photographs import COLOURS, centre, extent, painted, saved

pytestmark = pytest.mark.reference

EASY = Drawing(mosaics=(), whole=0.0, smallest=8.0, largest=280.0, grey=0.0, blurred=0.0)
ALL = (0.0, 0.0, 400.0)
"""A window as large as the photograph below."""


@pytest.fixture
def portrait(tmp_path: Path) -> Photo:
    """400x300, one face of 100x120, midway from left to right."""
    return painted(tmp_path / "portrait.png", 400, 300, [[150, 60, 250, 180]])


def _assert_seen(crop: Crop, within: float = 1.0) -> None:
    """The one face of a crop is where its pixels are, and its points are, each in its colour."""
    assert np.allclose(crop.boxes[0], extent(crop.pixels), atol=within)
    for point, colour in zip(crop.points[0], COLOURS, strict=True):
        assert np.allclose(point, centre(crop.pixels, colour), atol=within)


@pytest.mark.parametrize(
    ("window", "size"),
    [
        ((0.0, 0.0, 400.0), 400),
        ((100.0, 20.0, 200.0), 200),
        ((120.0, 30.0, 160.0), 360),
        ((130.5, 40.25, 163.7), 320),
        ((-50.0, -80.0, 500.0), 300),
        ((0.0, 0.0, 400.0), 150),
        ((-30.3, 10.6, 450.9), 96),
    ],
    ids=["as it is", "a part", "enlarged", "between pixels", "beyond the edges", "shrunk by 2.7", "shrunk by 4.7"],
)
def test_boxes_and_points_go_where_the_pixels_go(
    portrait: Photo, window: tuple[float, float, float], size: int
) -> None:
    crop = cut(portrait, portrait.read(), window, size, EASY)
    assert crop.pixels.shape == (size, size, 3)
    assert crop.ignored.tolist() == [False]
    _assert_seen(crop, within=max(1.0, size / window[2]))


@pytest.mark.parametrize("size", [1000, 400, 250, 150, 96, 50])
def test_not_even_half_a_pixel_is_lost(tmp_path: Path, size: int) -> None:
    """Enlarged 2.5 times up to shrunk by eight: a white face has its centre of mass in the middle of its box."""
    white = np.zeros((300, 400, 3), np.uint8)
    white[60:180, 152:248] = 255
    photo = saved(tmp_path / "white.png", white, [[152, 60, 248, 180]])
    crop = cut(photo, white, ALL, size, EASY)
    weights = crop.pixels[..., 0].astype(np.float64)
    y, x = np.mgrid[:size, :size] + 0.5
    middle = [(x * weights).sum() / weights.sum(), (y * weights).sum() / weights.sum()]
    assert np.allclose(middle, (crop.boxes[0, :2] + crop.boxes[0, 2:]) / 2, atol=0.02)


def test_a_window_of_the_canvas_size_is_cut_out_pixel_by_pixel(portrait: Photo) -> None:
    pixels = portrait.read()
    crop = cut(portrait, pixels, (120.0, 30.0, 160.0), 160, EASY)
    assert np.array_equal(crop.pixels, pixels[30:190, 120:280])
    assert crop.boxes.tolist() == [[30, 30, 130, 150]]


def test_fine_patterns_become_their_mean_where_much_is_shrunk(tmp_path: Path) -> None:
    """Black and white pixels by turns, a fifth of the size. Bilinear alone would take some of them for the whole."""
    y, x = np.mgrid[:400, :400]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    crop = cut(saved(tmp_path / "board.png", board, []), board, ALL, 80, EASY)
    inner = crop.pixels[2:-2, 2:-2]
    assert (inner.min(), inner.max()) == (128, 128)


@pytest.mark.parametrize("side", [3, 1])
def test_even_a_few_pixels_are_shrunk(tmp_path: Path, side: int) -> None:
    white = np.full((side, side, 3), 255, np.uint8)
    crop = cut(saved(tmp_path / "tiny.png", white, []), white, (0.0, 0.0, 100.0), 10, EASY)
    assert crop.pixels.shape == (10, 10, 3)


def test_a_face_whose_centre_is_outside_is_ignored_and_one_that_is_quite_outside_is_left_out(tmp_path: Path) -> None:
    photo = painted(tmp_path / "two.png", 400, 300, [[90, 50, 150, 110], [300, 50, 360, 110]])
    crop = cut(photo, photo.read(), (122.0, 0.0, 100.0), 100, EASY)
    assert crop.boxes.tolist() == [[0, 50, 28, 100]]
    assert crop.ignored.tolist() == [True]
    inner = cut(photo, photo.read(), (118.0, 0.0, 100.0), 100, EASY)
    assert inner.boxes.tolist() == [[0, 50, 32, 100]]
    assert inner.ignored.tolist() == [False]


@pytest.mark.parametrize(("size", "ignored"), [(26, True), (28, False), (932, False), (936, True)])
def test_faces_whose_longer_side_is_too_small_or_too_large_on_the_canvas_are_ignored(
    portrait: Photo, size: int, ignored: bool
) -> None:
    """120 of 400 pixels: 7.8, 8.4, 279.6 and 280.8 on the canvas."""
    assert cut(portrait, portrait.read(), ALL, size, EASY).ignored.tolist() == [ignored]


def test_what_was_ignored_is_ignored(portrait: Photo) -> None:
    unsure = replace(portrait, ignored=np.array([True]))
    assert cut(unsure, unsure.read(), ALL, 400, EASY).ignored.tolist() == [True]


def test_a_mirror_image_has_its_left_eye_on_the_left(portrait: Photo) -> None:
    crop = cut(portrait, portrait.read(), ALL, 400, EASY)
    other = mirrored(crop)
    assert np.array_equal(other.pixels, crop.pixels[:, ::-1])
    assert np.allclose(other.boxes[0], extent(other.pixels))
    left, right, nose, mouth_left, mouth_right = other.points[0]
    assert left[0] < nose[0] < right[0]
    assert mouth_left[0] < mouth_right[0]
    swapped = [COLOURS[k] for k in (1, 0, 2, 4, 3)]
    for point, colour in zip(other.points[0], swapped, strict=True):
        assert np.allclose(point, centre(other.pixels, colour), atol=1)


def test_the_mirror_image_of_the_mirror_image_is_the_picture(portrait: Photo) -> None:
    crop = cut(portrait, portrait.read(), (111.0, 13.0, 199.0), 320, EASY)
    twice = mirrored(mirrored(crop))
    assert np.array_equal(twice.pixels, crop.pixels)
    assert np.allclose(twice.boxes, crop.boxes, atol=1e-4)
    assert np.allclose(twice.points, crop.points, atol=1e-4)


def test_equal_generators_draw_equal_pictures(tmp_path: Path) -> None:
    photos = [painted(tmp_path / f"{k}.png", 300, 200, [[50, 40, 150, 160]], 100 + 40 * k) for k in range(3)]
    drawn = [draw(photos, 1, 128, np.random.default_rng(seed), Drawing()) for seed in (*range(20), *range(20))]
    for one, same in zip(drawn[:20], drawn[20:], strict=True):
        assert np.array_equal(one.pixels, same.pixels)
        assert np.array_equal(one.boxes, same.boxes)
        assert np.array_equal(one.points, same.points)
        assert np.array_equal(one.ignored, same.ignored)
    assert len({crop.pixels.tobytes() for crop in drawn}) == 20


@pytest.mark.parametrize("how", [EASY, replace(EASY, smallest=30.0, largest=150.0)], ids=["any size", "few sizes"])
def test_every_window_shows_the_face_in_a_size_that_is_learned(portrait: Photo, how: Drawing) -> None:
    """Some small, some large: that of PyramidBox's sampling."""
    sides = []
    for seed in range(60):
        crop = draw([portrait], 0, 320, np.random.default_rng(seed), how)
        assert crop.ignored.tolist() == [False]
        sides.append(float((crop.boxes[0, 2:] - crop.boxes[0, :2]).max()))
    assert how.smallest <= min(sides)
    assert max(sides) <= how.largest
    assert max(sides) > 1.5 * min(sides)


def test_the_whole_photograph_fills_the_canvas_from_the_top_as_in_use(portrait: Photo) -> None:
    for seed in range(10):
        crop = draw([portrait], 0, 200, np.random.default_rng(seed), replace(EASY, whole=1.0))
        assert crop.boxes.tolist() == [[75, 30, 125, 90]]


@pytest.mark.parametrize(("mosaics", "across"), [((1.0, 0.0), 2), ((0.0, 1.0), 3)])
def test_a_mosaic_has_a_photograph_in_each_field(tmp_path: Path, mosaics: tuple[float, ...], across: int) -> None:
    photos = [painted(tmp_path / f"{k}.png", 200, 200, [[60, 60, 140, 140]], 255) for k in range(5)]
    side = 240 // across
    for seed in range(5):
        crop = draw(photos, 0, 240, np.random.default_rng(seed), replace(EASY, whole=1.0, mosaics=mosaics))
        middles = (crop.boxes[:, :2] + crop.boxes[:, 2:]) / 2
        fields = {(int(x // side), int(y // side)) for x, y in middles}
        assert fields == {(column, row) for column in range(across) for row in range(across)}
        assert len(crop.boxes) == across**2
        luma = crop.pixels.astype(np.float64).mean(axis=2)
        inner = np.zeros(luma.shape, np.bool_)
        for left, top, right, bottom in np.round(crop.boxes).astype(int):
            inner[top + 1 : bottom - 1, left + 1 : right - 1] = True
            assert luma[top + 1 : bottom - 1, left + 1 : right - 1].mean() > luma.min() + 50
        assert luma[inner].mean() > luma[~inner].mean() + 50


def test_photographs_without_faces_are_drawn_too(tmp_path: Path) -> None:
    ground = saved(tmp_path / "wall.png", np.full((90, 160, 3), 200, np.uint8), [])
    for seed in range(10):
        crop = draw([ground], 0, 64, np.random.default_rng(seed), EASY)
        assert crop.boxes.shape == (0, 4)
        assert crop.points.shape == (0, 5, 2)
        assert crop.pixels.any()


def test_colours_change_and_places_do_not() -> None:
    random = np.random.default_rng(0)
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:] = (200, 120, 40)
    seen = [coloured(pixels, random, Drawing()) for _ in range(60)]
    assert all(one.dtype == np.uint8 and one.shape == pixels.shape for one in seen)
    assert len({one.tobytes() for one in seen}) > 40
    for one in seen:
        assert one[:, 40:].astype(int).mean() > one[:, :24].astype(int).mean() + 20
    grey = coloured(pixels, random, Drawing(grey=1.0, blurred=0.0))
    assert np.ptp(grey.astype(int), axis=2).max() == 0
