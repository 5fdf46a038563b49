"""Detection: passes, batches, and boxes in full-size pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from facebatch import config, packs
from facebatch.decode import decode, probe
from facebatch.detect import Detector, Faces, Pass, Settings, views
from facebatch.geometry import Picture, halvings, iou
from facebatch.packs import Model, Tiles
from facebatch.session import Session
from tests import models
from tests.conftest import encode, lying, rgb

SQUARES = Settings("stretch", (Pass(((64, 48),)),), score=0.6, nms=0.5)


def _picture(pixels: np.ndarray, scale: int = 1) -> Picture:
    return Picture(halvings(pixels), pixels.shape[1] * scale, pixels.shape[0] * scale, scale)


def _find(detector: Detector, settings: Settings, *pictures: Picture) -> list[Faces]:
    return detector([views(p, settings) for p in pictures], [(p.width, p.height) for p in pictures])


def _squares(*cells: tuple[int, int, int]) -> Picture:
    """640x480 with bright cells of 160x160: (column, row, brightness)."""
    pixels = np.zeros((480, 640, 3), np.uint8)
    for column, row, brightness in cells:
        pixels[row * 160 : (row + 1) * 160, column * 160 : (column + 1) * 160] = brightness
    return _picture(pixels)


def test_boxes_come_in_full_size_pixels() -> None:
    detector = Detector(Session(models.bright_squares(), "cpu"), SQUARES)
    (faces,) = _find(detector, SQUARES, _squares((1, 2, 255)))
    assert faces.boxes.tolist() == [[160, 320, 320, 480]]
    scaled = Picture(_squares((1, 2, 255)).levels, 2560, 1920, scale=4)
    assert _find(detector, SQUARES, scaled)[0].boxes.tolist() == [[640, 1280, 1280, 1920]]


def test_faces_are_ordered_by_score_then_from_top_then_from_left() -> None:
    detector = Detector(Session(models.bright_squares(), "cpu"), SQUARES)
    (faces,) = _find(detector, SQUARES, _squares((3, 0, 200), (0, 1, 255), (2, 0, 200), (0, 2, 230)))
    assert faces.boxes[:, :2].tolist() == [[0, 160], [0, 320], [320, 0], [480, 0]]


def test_each_image_of_a_batch_gets_its_own_faces() -> None:
    pictures = [_squares((i % 4, i % 3, 255)) for i in range(11)] + [_squares()]
    for batch in (1, 4, 32):
        detector = Detector(Session(models.bright_squares(), "cpu"), SQUARES, batch)
        found = _find(detector, SQUARES, *pictures)
        assert [len(f) for f in found] == [1] * 11 + [0]
        assert [f.boxes[0, :2].tolist() for f in found[:11]] == [[i % 4 * 160, i % 3 * 160] for i in range(11)]


def test_the_second_pass_gives_only_large_boxes() -> None:
    settings = Settings("stretch", (Pass(((64, 48),)), Pass(((64, 48),), fill=0.5, min_face=0.4)), 0.6, 0.5)
    detector = Detector(Session(models.bright_squares(), "cpu"), settings)
    picture = _squares((0, 0, 255), (1, 0, 255), (0, 1, 255), (1, 1, 255))
    (faces,) = _find(detector, settings, picture)
    sizes = (faces.boxes[:, 2] - faces.boxes[:, 0]).tolist()
    assert sizes.count(160) == 4, "the first pass sees four cells"
    assert sizes.count(320) == 1, "the second sees the picture at half size, where the four are one"
    stricter = replace(settings, passes=(settings.passes[0], replace(settings.passes[1], min_face=0.6)))
    (faces,) = _find(Detector(Session(models.bright_squares(), "cpu"), stricter), stricter, picture)
    assert (faces.boxes[:, 2] - faces.boxes[:, 0]).tolist() == [160] * 4, "320 of 640 pixels are less than 0.6"


TILED = Settings("stretch", (Pass(((64, 48),)), Pass(((64, 48),), max_face=0.2, across=2, overlap=0.25)), 0.9, 0.5)
"""Tiles of 400x300 in a picture of 640x480; a cell of a tile is 100 pixels wide and high."""


def _spots(*boxes: tuple[int, int, int, int]) -> Picture:
    """640x480, black, with white boxes."""
    pixels = np.zeros((480, 640, 3), np.uint8)
    for x_min, y_min, x_max, y_max in boxes:
        pixels[y_min:y_max, x_min:x_max] = 255
    return _picture(pixels)


def test_small_faces_are_found_in_parts_of_the_picture() -> None:
    detector = Detector(Session(models.bright_squares(), "cpu"), TILED)
    small = _spots((100, 100, 200, 200), (340, 280, 440, 380))
    assert not _find(Detector(Session(models.bright_squares(), "cpu"), SQUARES), SQUARES, small)[0].boxes.size
    (faces,) = _find(detector, TILED, small)
    assert sorted(faces.boxes.tolist()) == [[100, 100, 200, 200], [340, 280, 440, 380]]


def test_a_face_that_two_tiles_see_is_one_face() -> None:
    """Columns of the left tiles begin at 0, 100, ..., of the right ones at 240, 340, ..."""
    shared = _spots((240, 100, 400, 200))
    (faces,) = _find(Detector(Session(models.bright_squares(), "cpu"), TILED), TILED, shared)
    kept = faces.boxes[:, 0].tolist()
    assert len(kept) == len(set(kept))
    assert 300 not in kept, "it reaches the right edge of the left tile, behind which the picture goes on"
    assert 340 not in kept or 240 in kept


def test_what_is_cut_by_a_tile_or_too_large_for_one_is_left_to_others() -> None:
    from facebatch.detect import _full_size
    from facebatch.detectors import Candidates
    from facebatch.geometry import View

    view = View(np.zeros((48, 64, 3), np.uint8), 5.0, 5.0, x=320, y=0)  # the right upper part of 640x480
    boxes = [[10, 10, 30, 30], [0, 10, 20, 30], [10, 40, 20, 48], [44, 10, 64, 30], [10, 0, 20, 10], [10, 5, 50, 40]]
    found = Candidates(np.array(boxes, np.float32), np.ones(6, np.float32), np.zeros((6, 5, 2), np.float32))
    look = Pass(((64, 48),), max_face=0.2, across=2, overlap=0.1)
    kept = _full_size(found, view, look, (640, 480))
    assert kept.boxes.tolist() == [
        [370, 50, 470, 150],
        [540, 50, 640, 150],
        [370, 0, 420, 50],
    ], "the edges of the picture itself cut nothing off that another tile could see"
    assert kept.landmarks is not None
    assert kept.landmarks[0, 0].tolist() == [320, 0]


def test_of_too_many_candidates_the_best_are_compared() -> None:
    settings = replace(SQUARES, score=0.1)
    squares = _squares(*((column, row, 60 + 40 * row + 10 * column) for column in range(4) for row in range(3)))
    every, few = (
        _find(Detector(Session(models.bright_squares(), "cpu"), settings, most=most), settings, squares)[0]
        for most in (0, 5)
    )
    assert len(every) == 12
    assert few.scores.tolist() == every.scores[:5].tolist()


def test_a_look_that_yields_has_no_face_where_the_first_is_sure_of_one() -> None:
    from facebatch.detect import _beside
    from facebatch.detectors import Candidates

    def candidates(*rows: tuple[float, float]) -> Candidates:
        """Squares of 100 pixels, by their left edge and score."""
        boxes = np.array([[x, 0, x + 100, 100] for x, _ in rows], np.float32).reshape(-1, 4)
        return Candidates(
            boxes, np.array([score for _, score in rows], np.float32), np.zeros((len(rows), 5, 2), np.float32)
        )

    first, found = candidates((0, 0.9), (300, 0.4)), candidates((10, 0.99), (60, 0.8), (310, 0.95), (600, 0.7))
    kept = _beside(first, found, 0.5)
    assert kept.boxes[:, 0].tolist() == [60, 310, 600], (
        "the first is not sure of 300, and 60 overlaps by a quarter only"
    )
    assert kept.landmarks is not None
    assert len(kept.landmarks) == 3
    assert len(_beside(candidates(), found, 0.5).scores) == 4
    assert len(_beside(first, candidates(), 0.5).scores) == 0


@pytest.mark.needs_models
def test_yunets_close_up_moves_no_box_of_a_first_look_that_saw_all_pixels(
    model: Callable[[str, str], Model], hopper: bytes
) -> None:
    yunet = model("yunet-n", "detector")
    both = Settings.of(config.Detect(), yunet.pack)
    one = replace(both, passes=both.passes[:1])
    wide = encode(np.pad(rgb(hopper), ((100, 100), (200, 200), (0, 0))), "JPEG")
    picture = decode(wide, probe(wide, config.Decode()), config.Decode())
    first, again = (
        _find(Detector(Session(yunet, "cpu"), settings), settings, picture)[0].boxes for settings in (one, both)
    )
    assert both.passes[1].yields_to == yunet.pack.score
    assert np.array_equal(first, again)


def test_only_packs_that_say_so_are_tiled_and_the_configuration_may_forbid_it() -> None:
    pack = replace(models.bright_squares().pack, tiles=Tiles(2, 0.2, 0.2))
    assert [look.across for look in Settings.of(config.Detect(), pack).passes] == [1, 2]
    assert [look.across for look in Settings.of(config.Detect(tiles=False), pack).passes] == [1]
    without = models.bright_squares().pack
    assert [look.across for look in Settings.of(config.Detect(), without).passes] == [1]
    assert [look.across for look in Settings.of(config.Detect(tiles=True), without).passes] == [1, 2], "any pack can"


def test_the_terms_of_settings_without_tiles_are_those_of_before_there_were_any() -> None:
    plain = {"canvases": ((64, 48),), "fill": 1.0, "min_face": 0.0}
    assert SQUARES.terms()["passes"] == [plain]
    assert TILED.terms()["passes"] == [plain, plain | {"max_face": 0.2, "across": 2, "overlap": 0.25}]


def test_what_the_detector_says_is_cut_to_the_picture_and_made_sane() -> None:
    detector = Detector(Session(models.bright_squares(), "cpu"), SQUARES)
    from facebatch.detectors import Candidates

    boxes = np.array([[-10, -10, 50, 50], [90, 20, 90, 40], [np.nan, 0, 1, 1], [95, 50, 130, 90]], np.float32)
    faces = detector._select([Candidates(boxes, np.array([0.7, 0.8, 0.9, 0.6], np.float32), None)], (100, 80))
    assert faces.boxes.tolist() == [[0, 0, 50, 50], [95, 50, 100, 80]]


def test_the_configuration_wins_over_the_pack() -> None:
    pack = models.bright_squares().pack
    assert Settings.of(config.Detect(score=0.9, nms=0.1), pack).score == 0.9
    assert Settings.of(config.Detect(), pack).score == pack.score
    assert Settings.of(config.Detect(score=0.0), pack).score == 0, "zero is a threshold, not its absence"


@pytest.fixture(scope="module", params=["yunet-n", "slim-320"])
def published(request: pytest.FixtureRequest, model: Callable[[str, str], Model]) -> tuple[Session, Settings]:
    loaded = model(request.param, "detector")
    return Session(loaded, "cpu", threads=2), Settings.of(config.Detect(), loaded.pack)


@pytest.mark.needs_models
def test_batches_of_one_seven_and_thirty_two_agree(published: tuple[Session, Settings], group: np.ndarray) -> None:
    session, settings = published
    random = np.random.default_rng(0)
    pictures = [_picture(np.roll(group, random.integers(0, 600, 2), axis=(0, 1))) for _ in range(32)]
    alone = _find(Detector(session, settings, 1), settings, *pictures)
    assert sum(map(len, alone)) > 60
    for batch in (7, 32):
        for one, many in zip(alone, _find(Detector(session, settings, batch), settings, *pictures), strict=True):
            assert len(one) == len(many)
            assert np.abs(one.boxes - many.boxes).max(initial=0) < 0.01
            assert np.abs(one.scores - many.scores).max(initial=0) < 1e-4


@pytest.mark.needs_models
def test_eight_orientations_give_the_same_faces(published: tuple[Session, Settings], group: np.ndarray) -> None:
    session, settings = published
    detector = Detector(session, settings)
    upright = encode(group)
    (expected,) = _find(detector, settings, decode(upright, probe(upright, config.Decode()), config.Decode()))
    assert len(expected) >= 3
    for orientation, turned in lying(group).items():
        (faces,) = _find(detector, settings, decode(turned, probe(turned, config.Decode()), config.Decode()))
        assert np.array_equal(faces.boxes, expected.boxes), orientation


@pytest.mark.needs_models
def test_a_face_that_fills_the_frame_is_found(published: tuple[Session, Settings], astronaut: bytes) -> None:
    session, settings = published
    face = np.asarray(Image.open(io.BytesIO(astronaut)).convert("RGB"))[70:200, 165:285]
    once = Settings(settings.resize, settings.passes[:1], settings.score, settings.nms)
    (faces,) = _find(Detector(session, settings), settings, _picture(face))
    (first_pass,) = _find(Detector(session, once), once, _picture(face))
    assert len(faces) == 1
    assert iou(faces.boxes[0], np.array([[0, 0, 120, 130]], np.float32))[0] > 0.5
    assert faces.scores[0] >= first_pass.scores.max(initial=0)


@pytest.mark.needs_models
def test_golden_boxes(published: tuple[Session, Settings], astronaut: bytes) -> None:
    """What a published dataset contains. Red after a change of colour order, resize, mean, decode or threshold."""
    session, settings = published
    (faces,) = _find(
        Detector(session, settings), settings, decode(astronaut, probe(astronaut, config.Decode()), config.Decode())
    )
    golden = {
        "yunet-n": ([181.340, 53.765, 273.802, 178.082], 0.89255),
        "ultra-lightweight-face-detection-slim-320": ([178.181, 62.411, 272.814, 173.532], 1.0),
    }
    box, score = golden[session.model.pack.name]
    assert faces.boxes.tolist() == [pytest.approx(box, abs=0.02)]
    assert faces.scores.tolist() == [pytest.approx(score, abs=2e-4)]


@pytest.mark.parametrize("name", ["facebatch-detector", "yunet-n", "slim-320", "scrfd-2.5g"])
def test_the_bytes_of_what_is_shown_are_those_of_the_views(name: str) -> None:
    wide = Picture(halvings(np.zeros((300, 400, 3), np.uint8)), 400, 300)
    for chosen in (config.Detect(), config.Detect(tiles=True), config.Detect(close_up=False)):
        settings = Settings.of(chosen, packs.pack(name))
        shown = sum(view.pixels.nbytes for view in views(wide, settings))
        assert 0 < shown <= settings.view_bytes <= 2 * shown
