"""How near is near enough, and what is said where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from facebatch.agreement import NEAR, WIDE, Stored, Tolerance, differences
from facebatch.reasons import Reason, Status
from facebatch.sink import faces_table, images_table
from facebatch.work import Face, Work
from tests.test_sink import FACTS, face, work

THRESHOLD = 0.6


def _work(*faces: Face) -> Work:
    made = work(0)
    made.faces = list(faces)
    made.status = Status.OK if faces else Status.NO_FACE
    made.content_sha256, made.phash, made.format, made.orientation = "aa", 0b1111, "JPEG", 1
    return made


def _two() -> Work:
    return _work(face(x=10, seed=1), face(x=200, seed=2))


def _stored(made: Work) -> Stored:
    return Stored(images_table([made]).to_pylist()[0], faces_table([made], FACTS))


def _said(before: Work, after: Work, tolerance: Tolerance = NEAR) -> str:
    return "; ".join(differences(_stored(before), after, tolerance, THRESHOLD))


def _changed(change: Callable[[Work], Any]) -> Work:
    made = _two()
    change(made)
    return made


def _move(pixels: float) -> Callable[[Work], Any]:
    def moved(made: Work) -> None:
        made.faces[1].box = made.faces[1].box + np.float32(pixels)

    return moved


def _turn(angle: float) -> Callable[[Work], Any]:
    """Turns a vector by so many radians."""

    def turned(made: Work) -> None:
        vector = made.faces[1].embedding
        assert vector is not None
        other = np.roll(vector, 1) - (np.roll(vector, 1) @ vector) * vector
        made.faces[1].embedding = np.cos(angle) * vector + np.sin(angle) * other / np.linalg.norm(other)

    return turned


def _set(**values: Any) -> Callable[[Work], Any]:
    def put(made: Work) -> None:
        for name, value in values.items():
            setattr(made, name, value)

    return put


def _score(score: float) -> Callable[[Work], Any]:
    return lambda made: setattr(made.faces[1], "score", score)


def _shift_landmarks(pixels: float) -> Callable[[Work], Any]:
    def shifted(made: Work) -> None:
        landmarks = made.faces[1].landmarks
        assert landmarks is not None
        made.faces[1].landmarks = landmarks + np.float32(pixels)

    return shifted


@pytest.mark.parametrize("tolerance", [NEAR, WIDE])
def test_the_same_results_agree(tolerance: Tolerance) -> None:
    assert _said(_two(), _two(), tolerance) == ""
    assert _said(_work(), _work(), tolerance) == ""
    broken = work(0, reason=Reason.CORRUPT)
    assert _said(broken, work(0, reason=Reason.CORRUPT), tolerance) == ""


@pytest.mark.parametrize(
    "change",
    [_move(0.009), _shift_landmarks(0.009), _score(0.90009), _turn(1e-6), lambda made: made.faces.reverse()],
)
def test_the_last_digits_and_the_order_of_faces_are_not_compared(change: Callable[[Work], Any]) -> None:
    assert _said(_two(), _changed(change)) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set(format="PNG"), "format was JPEG and is now PNG"),
        (_set(width=641), "width was 640 and is now 641"),
        (_set(height=481), "height was 480 and is now 481"),
        (_set(orientation=3), "orientation was 1 and is now 3"),
        (_set(content_sha256="bb"), "content_sha256 was aa and is now bb: other bytes, so nothing else is compared"),
        (_set(content_sha256=None), "content_sha256 was aa and is now None"),
        (_set(phash=None), "phash was 15 and is now None"),
        (_set(phash=~0b1111), "phash was 15 and is now -16"),
        (lambda made: made.end(Reason.CORRUPT, ""), "reason was None and is now CORRUPT; status was ok and is now"),
        (lambda made: made.faces.pop(), "n_faces was 2 and is now 1; face 1 is not found again"),
        (lambda made: made.faces.append(face(x=400)), "n_faces was 2 and is now 3"),
        (_move(20), "face 1 is not found again"),
        (_move(2), "face 1: its box has moved by 2 px, IoU 0.8"),
        (_shift_landmarks(3), "face 1: its landmarks have moved by 3 px"),
        (_shift_landmarks(np.nan), "face 1: its landmarks have moved by nan px"),
        (lambda made: setattr(made.faces[1], "landmarks", None), "face 1: it has no landmarks now"),
        (_score(0.8), "face 1: its score was 0.90000 and is now 0.80000"),
        (_turn(0.05), "face 1: its vector is another one: cosine 0.998750"),
        (_turn(np.nan), "face 1: its vector is another one: cosine nan"),
    ],
)
@pytest.mark.parametrize("tolerance", [NEAR, WIDE])
def test_what_does_not_agree_is_said(tolerance: Tolerance, change: Callable[[Work], Any], said: str) -> None:
    assert said in _said(_two(), _changed(change), tolerance)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_move(0.1), "face 1: its box has moved"),
        (_shift_landmarks(0.1), "face 1: its landmarks have moved by 0.1 px"),
        (_score(0.899), "face 1: its score was"),
        (_turn(0.01), "face 1: its vector is another one"),
        (_set(phash=0b111), "phash was"),
    ],
)
def test_what_another_package_or_a_gpu_may_do_is_tolerated_only_there(change: Callable[[Work], Any], said: str) -> None:
    assert said in _said(_two(), _changed(change), NEAR)
    assert _said(_two(), _changed(change), WIDE) == ""


def test_vectors_of_two_faces_that_changed_places_are_found() -> None:
    swapped = _two()
    one, other = swapped.faces
    one.embedding, other.embedding = other.embedding, one.embedding
    for tolerance in (NEAR, WIDE):
        assert _said(swapped, _two(), tolerance).count("its vector is another one") == 2


def test_a_face_on_the_edge_of_the_threshold_may_be_missing_on_one_side_where_rounding_differs() -> None:
    edge, clear = face(x=200, seed=2), face(x=200, seed=2)
    edge.score, clear.score = THRESHOLD + 0.01, THRESHOLD + 0.03
    one = _work(face(x=10, seed=1))
    for before, after in ((one, _work(*one.faces, edge)), (_work(*one.faces, edge), one), (_work(edge), _work())):
        assert _said(before, after, WIDE) == ""
        assert "n_faces was" in _said(before, after, NEAR)
    assert "n_faces was 2 and is now 1; face 1 is not found again" in _said(_work(*one.faces, clear), one, WIDE)


def test_two_outcomes_without_faces_are_not_the_same() -> None:
    said = _said(_work(), work(0, reason=Reason.CORRUPT), WIDE)
    assert "status was no_face and is now failed" in said
