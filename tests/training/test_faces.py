"""Face chips to learn from, and their views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from facebatch.align import chip_by_landmarks
from facebatch.errors import UsageError
from facebatch.geometry import Picture, Pixels, halvings
from facebatch.training import faces
from facebatch.training.faces import Face, Looks, chip, cut, listed, shares, split, view
from facebatch.training.photos import Photo
from tests.conftest import rgb
from tests.training.photographs import saved

pytestmark = pytest.mark.reference

POINTS = np.array([[[202, 108], [246, 106], [228, 134], [206, 154], [245, 152]]], np.float32)
"""Of the astronaut's face, roughly."""
BOX = [180.0, 70.0, 270.0, 180.0]
PLAIN = Looks(turn=0, scale=0, stretch=0, shift=0, bent=0, mixed=0, grey=0, blurred=0, covered=0)
ONE, TWO = np.ones(1), np.array([0.5, 1.0])


@pytest.fixture
def portrait(tmp_path: Path, astronaut: bytes) -> Photo:
    return saved(tmp_path / "astronaut.png", rgb(astronaut), [BOX], POINTS)


def _noise(count: int, side: int = 112) -> list[Pixels]:
    random = np.random.default_rng(0)
    return list(random.integers(0, 256, (count, side, side, 3), np.uint8))


def _table(folder: Path, text: str, chips: list[Pixels]) -> Path:
    for k, pixels in enumerate(chips):
        assert cv2.imwrite(str(folder / f"{k}.png"), pixels[:, :, ::-1])
    (folder / faces.TSV).write_text(text, encoding="utf-8")
    return folder


def test_listed_chips_are_read_with_the_names_of_people_where_there_are_any(tmp_path: Path) -> None:
    chips = _noise(3)
    folder = _table(tmp_path, "identity\tfile\tset\nAnn\t0.png\tx\n\t1.png\tx\nBob\t2.png\tx\n", chips)
    found = listed(folder)
    assert [face.person for face in found] == ["Ann", "", "Bob"]
    for face, pixels in zip(found, chips, strict=True):
        assert face.pixels.shape == (160, 160, 3)
        assert np.array_equal(chip(face), pixels)
        assert (face.pixels[:24, :24] == pixels[0, 0]).all()
    _table(tmp_path, "file\n0.png\n", [])
    assert [face.person for face in listed(folder)] == [""]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file\tidentity\n0.png\tAnn\nabsent.png\tAnn\n", "faces.tsv, line 3: absent.png is no picture of 112x112"),
        ("file\tidentity\n1.png\tAnn\n", "faces.tsv, line 2: 1.png is no picture of 112x112 pixels"),
        ("path\tidentity\n0.png\tAnn\n", "faces.tsv has no column file"),
        ("", "faces.tsv has no column file"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path: Path, text: str, words: str) -> None:
    _table(tmp_path, text, [*_noise(1), *_noise(1, 96)])
    with pytest.raises(UsageError, match=words):
        listed(tmp_path)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"faces.tsv cannot be read: No such file or directory. It lists aligned"):
        listed(tmp_path)


@pytest.mark.parametrize("enlarged", [1, 4])
def test_a_face_of_a_photograph_holds_the_very_chip_that_the_job_would_cut(
    tmp_path: Path, portrait: Photo, enlarged: int
) -> None:
    """Also where much has to be shrunk."""
    pixels = np.repeat(np.repeat(portrait.read(), enlarged, axis=0), enlarged, axis=1)
    points = POINTS * enlarged
    (face,) = cut([saved(tmp_path / "large.png", pixels, [[v * enlarged for v in BOX]], points)], smallest=32)
    expected = chip_by_landmarks(Picture(halvings(pixels), pixels.shape[1], pixels.shape[0]), points[0])
    assert face.person == ""
    assert np.abs(chip(face).astype(int) - expected).max() <= 1


def test_only_faces_that_are_known_and_large_enough_are_cut(portrait: Photo) -> None:
    """The shorter side of the box counts: 90 pixels."""
    assert [len(cut([portrait], smallest)) for smallest in (90, 91)] == [1, 0]
    assert cut([replace(portrait, ignored=np.array([True]))], 32) == []
    assert cut([replace(portrait, points=np.full((1, 5, 2), np.nan, np.float32))], 32) == []


def test_photographs_without_a_face_to_cut_are_not_even_read(tmp_path: Path) -> None:
    nothing = Photo(
        tmp_path / "absent.jpg", np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.bool_)
    )
    assert cut([nothing], 32) == []


def test_which_side_a_face_is_on_hangs_on_its_pixels() -> None:
    many = [Face(pixels, "") for pixels in _noise(60, 4)]
    learn, judge = split(many, 0.3)
    assert 8 <= len(judge) <= 28
    assert len(learn) + len(judge) == 60
    again = [Face(face.pixels.copy(), "") for face in reversed(many)]
    assert {face.pixels.tobytes() for face in split(again, 0.3)[1]} == {face.pixels.tobytes() for face in judge}


def test_people_with_names_are_on_one_side_with_all_their_faces() -> None:
    many = [Face(pixels, f"person {k % 10}") for k, pixels in enumerate(_noise(60, 4))]
    learn, judge = split(many, 0.3)
    assert len({face.person for face in judge}) == 3
    assert not {face.person for face in judge} & {face.person for face in learn}
    assert len(split(many, 0.01)[1]) == 12, "two at least, or nobody could be told apart"


def test_a_person_of_whom_there_are_many_faces_is_drawn_as_often_as_so_many_others() -> None:
    pool = [Face(pixels, "Ann" if k < 80 else "Bob" if k < 90 else "") for k, pixels in enumerate(_noise(100, 4))]
    drawn = np.diff(shares(pool, 20), prepend=0)
    assert drawn.sum() == pytest.approx(1)
    assert drawn[:80].sum() == pytest.approx(20 / (20 + 10 + 10))
    assert drawn[80:] == pytest.approx(1 / 40)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_both_sides_need_faces(share: float) -> None:
    with pytest.raises(UsageError, match=f"3 faces are too few to judge by a share of {share} of them"):
        split([Face(pixels, "") for pixels in _noise(3, 4)], share)


def test_equal_generators_give_equal_views(portrait: Photo) -> None:
    pool = [*cut([portrait], 32), *[Face(pixels, "") for pixels in _noise(3, 160)]]
    seen = [view(pool, shares(pool, 40), np.random.default_rng(seed), Looks()) for seed in (*range(20), *range(20))]
    assert all(one.shape == (112, 112, 3) and one.dtype == np.uint8 for one in seen)
    assert [one.tobytes() for one in seen[:20]] == [one.tobytes() for one in seen[20:]]
    assert len({one.tobytes() for one in seen}) == 20


def test_a_view_without_changes_is_the_chip_or_its_mirror_image_in_other_light(portrait: Photo) -> None:
    """Light and contrast change all pixels alike, so that what is left of the pattern correlates."""
    (face,) = cut([portrait], 32)
    seen = [view([face], ONE, np.random.default_rng(seed), PLAIN) for seed in range(12)]
    likeness = [[_likeness(one, other) for other in (chip(face), chip(face)[:, ::-1])] for one in seen]
    assert min(max(pair) for pair in likeness) > 0.95
    assert 0 < sum(straight > mirror for straight, mirror in likeness) < 12


def test_a_mixed_view_shows_both_faces(portrait: Photo) -> None:
    (face,) = cut([portrait], 32)
    other = Face(np.ascontiguousarray(face.pixels[::-1]), "")
    looks = replace(PLAIN, mixed=1.0)
    found = []
    for seed in range(20):
        seen = view([face, other], TWO, np.random.default_rng(seed), looks)
        one, two = (max(_likeness(seen, c), _likeness(seen, c[:, ::-1])) for c in (chip(face), chip(other)))
        found.append(min(one, two))
    assert max(found) > 0.5


def test_a_mixed_face_may_be_the_upper_part_of_one_and_the_lower_part_of_another() -> None:
    black, white = (Face(np.full((160, 160, 3), value, np.uint8), "") for value in (0, 255))
    pool, looks = [black, white], replace(PLAIN, mixed=1.0)
    seen = [view(pool, TWO, np.random.default_rng(seed), looks)[[0, -1], 56, 0].astype(int) for seed in range(40)]
    assert sum(abs(top - bottom) > 100 for top, bottom in seen) >= 4


def test_a_bent_face_has_its_features_elsewhere_by_few_pixels() -> None:
    dots = np.zeros((160, 160, 3), np.uint8)
    dots[54:106:16, 54:106:16] = 255
    plain, bent = (
        view([Face(dots, "")], ONE, np.random.default_rng(0), replace(PLAIN, bent=amount)) for amount in (0.0, 2.5)
    )
    assert (plain != bent).any()
    near = cv2.dilate(plain, np.ones((17, 17), np.uint8))
    assert bent[near < plain.max() / 2].max() < 30


def test_a_covered_view_has_a_patch_of_one_colour(portrait: Photo) -> None:
    (face,) = cut([portrait], 32)
    for seed in range(5):
        plain, covered = (
            view([face], ONE, np.random.default_rng(seed), replace(PLAIN, covered=share)) for share in (0.0, 1.0)
        )
        y, x = np.nonzero((plain != covered).any(axis=2))
        patch = covered[y, x]
        assert (patch == patch[0]).all()
        assert 15 * 15 * 0.8 <= len(patch) <= 50 * 50


def _likeness(one: Pixels, other: Pixels) -> float:
    return float(np.corrcoef(one.ravel().astype(float), other.ravel().astype(float))[0, 1])
