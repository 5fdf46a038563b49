"""Landmarks of two detectors, held against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facebatch import config
from facebatch.config import Detect
from facebatch.detect import Faces
from facebatch.errors import UsageError
from facebatch.evaluation.landmarks import Apart, Finder, compare, finder, measure, said, steadied
from facebatch.evaluation.truth import Truth
from facebatch.geometry import Pixels
from tests.models import bright_squares

EYES = np.array([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]], np.float32)
"""Twenty pixels apart."""


def _finder(boxes: list[list[float]], scores: list[float]) -> Finder:
    """Finds these; the points of the k-th are all (k, k)."""
    points = np.broadcast_to(np.arange(len(boxes), dtype=np.float32)[:, None, None], (len(boxes), 5, 2))
    faces = Faces(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), points.copy())
    return lambda pixels: faces


def _faces(*boxes: list[float], points: np.ndarray | None = None) -> Faces:
    given = np.stack([EYES] * len(boxes)) if points is None else points
    return Faces(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32), given)


@pytest.fixture
def photo(astronaut: bytes, tmp_path: Path) -> Truth:
    (tmp_path / "a.png").write_bytes(astronaut)
    return _truth(tmp_path / "a.png")


def _truth(file: Path) -> Truth:
    """Of an image in which nothing is marked."""
    return Truth(str(file), np.zeros((0, 4), np.float32), np.zeros(0, np.bool_), file.stem)


def _measured(truths: list[Truth], detector: str, *words: str) -> tuple[dict[tuple[str, str], list[Apart]], list[str]]:
    """Against YuNet, with these settings; and what is told."""
    told: list[str] = []
    return measure(truths, [detector], "yunet-n", config.load(None, words), told.append), told


def test_it_finds_with_the_settings_of_the_user_and_all_candidates_unless_there_is_a_limit() -> None:
    """Twelve cells that are all bright are twelve faces."""
    model, pixels = bright_squares(), np.full((48, 64, 3), 230, np.uint8)
    assert len(finder(model)(pixels)) == 12
    assert len(finder(model, most=3)(pixels)) == 3
    assert len(finder(model, Detect(score=0.95))(pixels)) == 0


def test_landmarks_are_means_over_looks_in_the_frame_of_the_picture() -> None:
    """A detector that sees a bright square and is always off: to the right by two pixels, more so in smaller pictures.
    Mirrored looks cancel the first; what borders add is taken off again."""
    pixels = np.zeros((120, 200, 3), np.uint8)
    pixels[40:80, 60:100] = 255
    shown: list[tuple[int, int]] = []

    def find(seen: Pixels) -> Faces:
        shown.append((seen.shape[1], seen.shape[0]))
        ys, xs = np.nonzero(seen[:, :, 0])
        box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
        points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
        return Faces(box, np.ones(1, np.float32), (box[0, :2] + 40 * points + [2, 0])[None].astype(np.float32))

    once, steady = find(pixels), steadied(find)(pixels)
    assert once.landmarks is not None
    assert steady.landmarks is not None
    assert np.array_equal(steady.boxes, once.boxes)
    assert np.allclose(steady.landmarks, once.landmarks - [2, 0], atol=1e-3)  # three looks of six are mirrored
    assert len(set(shown[1:])) > 3


def test_looks_that_miss_a_face_do_not_count() -> None:
    pixels = np.zeros((120, 200, 3), np.uint8)
    looks = 0

    def find(seen: Pixels) -> Faces:
        nonlocal looks
        looks += 1
        if looks == 1:
            return _finder([[10, 10, 50, 60], [100, 20, 140, 70]], [0.9, 0.8])(seen)
        return _finder([], [])(seen)

    first = _finder([[10, 10, 50, 60], [100, 20, 140, 70]], [0.9, 0.8])(pixels)
    steady = steadied(find)(pixels)
    assert first.landmarks is not None
    assert steady.landmarks is not None
    assert np.array_equal(steady.landmarks, first.landmarks)
    assert looks > 1
    assert len(steadied(_finder([], []))(pixels)) == 0


def test_distances_are_in_eye_distances_of_the_reference() -> None:
    reference = _faces([0, 0, 40, 50], [100, 0, 140, 40])
    moved = np.stack([np.add(EYES, [3, 4]), EYES * 100])
    found = compare(_faces([1, 0, 41, 50], [300, 0, 340, 40], points=moved), reference)
    assert [(round(one.share, 4), one.side) for one in found] == [(0.25, 40.0)]  # five pixels of twenty


def test_of_two_boxes_on_a_face_the_nearer_one_counts() -> None:
    points = np.stack([EYES + 99, EYES])
    found = compare(_faces([0, 10, 40, 50], [0, 0, 40, 41], points=points), _faces([0, 0, 40, 40]))
    assert [one.share for one in found] == [0]


def test_where_one_finds_nothing_there_is_nothing_to_compare() -> None:
    nothing = _faces(points=np.empty((0, 5, 2), np.float32))
    assert compare(nothing, _faces([0, 0, 9, 9])) == compare(_faces([0, 0, 9, 9]), nothing) == []


def test_eyes_in_one_place_are_a_pixel_apart() -> None:
    one = np.full((1, 5, 2), 7, np.float32)
    (found,) = compare(_faces([0, 0, 9, 9], points=one + 2), _faces([0, 0, 9, 9], points=one))
    assert found.share == pytest.approx(np.hypot(2, 2))


def test_figures_are_median_and_mean_of_faces_that_are_large_enough() -> None:
    reference = _faces([0, 0, 40, 50], [100, 0, 120, 40], [200, 0, 260, 60])
    own = _faces(
        [0, 0, 40, 50],
        [100, 0, 120, 40],
        [200, 0, 260, 60],
        points=np.stack([EYES, np.add(EYES, [0, 2]), EYES - [6, 0]]),
    )
    apart = compare(own, reference)
    assert said(apart, 0) == "10.0 % (13.3)"
    assert said(apart, 32) == "15.0 % (15.0)"
    assert said(apart, 64) == ""


@pytest.mark.needs_models
def test_a_detector_is_away_from_its_own_mean_too(photo: Truth) -> None:
    found, told = _measured([photo], "facebatch-detector")
    share = {key: apart[0].share for key, apart in found.items()}
    assert share["yunet-n", "one look"] == 0
    assert 0 < share["yunet-n", "mean"] < 0.1
    assert 0 < share["facebatch-detector", "mean"] < 0.15
    assert told == []


@pytest.mark.needs_models
def test_settings_of_the_user_count(photo: Truth) -> None:
    """From a score that no face has, nothing is found; the picture at half its size has faces of half theirs."""
    found, _ = _measured([photo], "facebatch-detector", "detect.score=1.0")
    assert list(found.values()) == [[], [], [], []]
    (whole,), (half,) = (
        _measured([photo], "yunet-n", f"decode.scale_above={above}")[0]["yunet-n", "mean"] for above in (0, 256)
    )
    assert half.side == pytest.approx(whole.side / 2, rel=0.05)


@pytest.mark.needs_models
def test_photographs_that_cannot_be_decoded_are_told_and_those_that_are_gone_refused(
    photo: Truth, tmp_path: Path
) -> None:
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    found, told = _measured([_truth(tmp_path / "b.jpg"), photo], "yunet-n")
    assert [len(apart) for apart in found.values()] == [1, 1]
    assert told == [f"1 of 2 photographs could not be decoded, e.g. {tmp_path / 'b.jpg'}: it begins with b'no pictu'"]
    with pytest.raises(UsageError, match=r"c\.jpg, which the annotations name, cannot be read: No such file"):
        _measured([_truth(tmp_path / "c.jpg")], "yunet-n")


@pytest.mark.needs_models
def test_a_detector_without_landmarks_is_refused() -> None:
    with pytest.raises(UsageError, match="slim-320 has no landmarks to compare"):
        _measured([], "slim-320")
