"""Annotated photographs to learn from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from facebatch.detect import Faces
from facebatch.errors import UsageError
from facebatch.evaluation.landmarks import Finder
from facebatch.geometry import Floats, Pixels
from facebatch.training import photos
from facebatch.training.photos import Photo, remember, remembered, split, taught
from tests.training.photographs import saved

pytestmark = pytest.mark.reference


def _listed(folder: Path, *lines: str) -> Path:
    (folder / photos.JSONL).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder


def _many(folder: Path, count: int) -> list[Photo]:
    random = np.random.default_rng(0)
    made = random.integers(0, 256, (count, 2, 2, 3), np.uint8)
    return [saved(folder / f"{k}.bmp", pixels, []) for k, pixels in enumerate(made)]


def test_photographs_are_read_with_their_boxes_and_nothing_else_is_known_of_them(tmp_path: Path) -> None:
    lines = [
        {"file": "a/one.jpg", "boxes": [[1, 2, 3.5, 4], [5, 6, 7, 8]], "source": "left alone"},
        {"file": "two.png", "boxes": []},
    ]
    one, two = photos.read(_listed(tmp_path, json.dumps(lines[0]), "", json.dumps(lines[1])))
    assert (one.file, two.file) == (tmp_path / "a/one.jpg", tmp_path / "two.png")
    assert one.boxes.tolist() == [[1, 2, 3.5, 4], [5, 6, 7, 8]]
    assert one.boxes.dtype == np.float32
    assert one.points.shape == (2, 5, 2)
    assert np.isnan(one.points).all()
    assert one.ignored.tolist() == [False, False]
    assert (two.boxes.shape, two.points.shape, two.ignored.shape) == ((0, 4), (0, 5, 2), (0,))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{'file': 1", "expected {'file'"),
        ("[1, 2]", "expected {'file'"),
        ('{"boxes": []}', "expected {'file'"),
        ('{"file": "a.jpg"}', "expected {'file'"),
        ('{"file": "a.jpg", "boxes": [[1, 2, 3]]}', "expected {'file'"),
        ('{"file": "a.jpg", "boxes": [1, 2, 3, 4]}', "expected {'file'"),
        ('{"file": "a.jpg", "boxes": [[1, 2, 3, 4, 5, 6, 7, 8]]}', "expected {'file'"),
        ('{"file": "a.jpg", "boxes": [["a", 2, 3, 4]]}', "expected {'file'"),
        ('{"file": "a.jpg", "boxes": [[1, 2, 1, 4]]}', "ends before it begins"),
        ('{"file": "a.jpg", "boxes": [[1, 2, 3, NaN]]}', "not finite"),
        ('{"file": "a.jpg", "boxes": [[1, 2, Infinity, 4]]}', "not finite"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, words: str) -> None:
    _listed(tmp_path, '{"file": "a.jpg", "boxes": []}', line)
    with pytest.raises(UsageError) as caught:
        photos.read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'boxes.jsonl'}, line 2: ")
    assert words in str(caught.value)


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="boxes.jsonl cannot be read: No such file or directory. It lists photographs"):
        photos.read(tmp_path / "nowhere")


def test_pixels_are_rgb_and_a_file_that_has_none_is_named(tmp_path: Path) -> None:
    red = np.zeros((3, 5, 3), np.uint8)
    red[..., 0] = 255
    assert np.array_equal(saved(tmp_path / "red.png", red, []).read(), red)
    for name in ("text.jpg", "absent.jpg"):
        (tmp_path / "text.jpg").write_text("not a photograph", encoding="utf-8")
        photo = Photo(tmp_path / name, *_nothing())
        with pytest.raises(UsageError, match=f"{name} is no photograph that OpenCV can read"):
            photo.read()


def test_which_side_a_photograph_is_on_hangs_on_its_content(tmp_path: Path) -> None:
    """Another name, another order, more photographs: nothing moves."""
    many = _many(tmp_path, 60)
    learn, judge = split(many, 0.3)
    assert 8 <= len(judge) <= 28
    assert len(learn) + len(judge) == 60
    sides = {photo.file: True for photo in judge}
    copies = [Photo(tmp_path / f"copy{k}.bmp", *_nothing()) for k in range(60)]
    for photo, copy in zip(many, copies, strict=True):
        shutil.copy(photo.file, copy.file)
    _, again = split([*reversed(copies), *many], 0.3)
    assert {photo.file for photo in again} == set(sides) | {
        copy.file for photo, copy in zip(many, copies, strict=True) if photo.file in sides
    }


def test_a_larger_share_holds_the_smaller_one(tmp_path: Path) -> None:
    many = _many(tmp_path, 40)
    less, more = ({photo.file for photo in split(many, share)[1]} for share in (0.2, 0.5))
    assert less < more


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_both_sides_need_photographs(tmp_path: Path, share: float) -> None:
    with pytest.raises(UsageError, match=f"5 photographs are too few to judge by a share of {share} of them"):
        split(_many(tmp_path, 5), share)


def test_a_photograph_that_is_listed_and_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent.jpg cannot be read: No such file or directory. boxes.jsonl lists it"):
        split([Photo(tmp_path / "absent.jpg", *_nothing())], 0.5)


def test_the_teacher_adds_points_to_faces_that_it_is_half_sure_of(tmp_path: Path) -> None:
    """The first face is seen, the second only guessed at, the third elsewhere."""
    marked = _portraits(tmp_path, [[0, 0, 100, 100], [200, 0, 300, 100], [0, 200, 100, 300]])
    seen = _finder([[10, 0, 110, 100], [200, 0, 300, 100], [60, 200, 160, 300]], [0.9, 0.4, 0.9])
    found = taught(marked, seen, sure=0.8)
    assert found.boxes[:3].tolist() == marked.boxes.tolist()
    assert np.isfinite(found.points).all(axis=(1, 2)).tolist() == [True, False, False, True]
    assert found.points[0].tolist() == [[0.0, 0.0]] * 5
    assert not found.ignored[:3].any()


def test_faces_that_nobody_has_marked_are_learned_where_it_is_sure_and_ignored_where_not(tmp_path: Path) -> None:
    """The last overlaps a face that is marked by a third: it is neither that one nor another."""
    marked = _portraits(tmp_path, [[0, 0, 100, 100]])
    seen = _finder([[0, 0, 100, 100], [200, 0, 300, 100], [0, 200, 100, 300], [50, 0, 150, 100]], [1.0, 0.8, 0.79, 0.9])
    found = taught(marked, seen, sure=0.8)
    assert found.boxes.tolist() == [[0, 0, 100, 100], [200, 0, 300, 100], [0, 200, 100, 300]]
    assert found.ignored.tolist() == [False, False, True]
    assert found.points[:, 0, 0].tolist() == [0, 1, 2]


def test_of_two_boxes_on_one_face_the_nearer_one_gives_the_points(tmp_path: Path) -> None:
    marked = _portraits(tmp_path, [[0, 0, 100, 100]])
    found = taught(marked, _finder([[20, 0, 120, 100], [5, 0, 105, 100]], [0.9, 0.8]), sure=0.8)
    assert found.points[:, 0, 0].tolist() == [1]


def test_where_people_have_marked_nothing_there_is_no_face_whatever_it_sees(tmp_path: Path) -> None:
    ground = saved(tmp_path / "wall.png", np.zeros((9, 9, 3), np.uint8), [])
    assert taught(ground, _finder([[0, 0, 5, 5]], [1.0]), sure=0.8) is ground


def test_a_teacher_that_sees_nothing_adds_nothing(tmp_path: Path) -> None:
    marked = _portraits(tmp_path, [[0, 0, 100, 100]])
    found = taught(marked, _finder([], []), sure=0.8)
    assert found.boxes.tolist() == marked.boxes.tolist()
    assert np.isnan(found.points).all()


def test_a_teacher_without_landmarks_is_refused(tmp_path: Path) -> None:
    def find(pixels: Pixels) -> Faces:
        return Faces(np.zeros((1, 4), np.float32), np.ones(1, np.float32), None)

    with pytest.raises(UsageError, match="gives no landmarks"):
        taught(_portraits(tmp_path, [[0, 0, 100, 100]]), find, sure=0.8)


def test_what_was_taught_is_remembered_to_the_last_bit(tmp_path: Path) -> None:
    marked = _portraits(tmp_path, [[0, 0, 100, 100.1], [200, 0, 300, 100]])
    known = [taught(marked, _finder([[0, 0, 99.7, 100]], [0.9]), 0.8), saved(tmp_path / "wall.png", marked.read(), [])]
    remember(known, tmp_path / "labels.jsonl")
    found = remembered(tmp_path / "labels.jsonl", [marked, known[1]])
    for one, other in zip(known, found, strict=True):
        assert one.file == other.file
        assert one.boxes.tobytes() == other.boxes.tobytes()
        assert np.array_equal(one.points, other.points, equal_nan=True)
        assert other.points.shape == (len(one.boxes), 5, 2)
        assert one.ignored.tolist() == other.ignored.tolist()


def test_what_was_taught_of_other_photographs_is_refused(tmp_path: Path) -> None:
    one, other = (saved(tmp_path / name, np.zeros((2, 2, 3), np.uint8), []) for name in ("one.png", "other.png"))
    remember([one, other], tmp_path / "labels.jsonl")
    for wrong in ([other, one], [one], [one, other, one]):
        with pytest.raises(
            UsageError, match="made for other photographs or boxes: remove it, and they are looked at again"
        ):
            remembered(tmp_path / "labels.jsonl", wrong)


def test_what_was_taught_where_other_boxes_are_marked_now_is_refused(tmp_path: Path) -> None:
    marked = _portraits(tmp_path, [[0, 0, 100, 100]])
    file = tmp_path / "labels.jsonl"
    remember([taught(marked, _finder([[200, 0, 300, 100]], [0.9]), 0.8)], file)
    assert len(remembered(file, [marked])[0].boxes) == 2
    for boxes in ([[0.0, 0.0, 100.0, 101.0]], [[0.0, 0.0, 100.0, 100.0], [5.0, 5.0, 9.0, 9.0]]):
        with pytest.raises(UsageError, match="other photographs or boxes"):
            remembered(file, [_portraits(tmp_path, boxes)])


def _portraits(folder: Path, boxes: list[list[float]]) -> Photo:
    return saved(folder / "photo.png", np.zeros((30, 30, 3), np.uint8), boxes)


def _finder(boxes: list[list[float]], scores: list[float]) -> Finder:
    """Finds these; the points of the k-th are all (k, k)."""
    points = np.broadcast_to(np.arange(len(boxes), dtype=np.float32)[:, None, None], (len(boxes), 5, 2))
    faces = Faces(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), points.copy())
    return lambda pixels: faces


def _nothing() -> tuple[Floats, Floats, np.ndarray]:
    return np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.bool_)
