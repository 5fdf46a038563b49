"""Labelled pairs, from lists, from packed files, and from folders."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from facebatch.errors import FacebatchError, UsageError
from facebatch.evaluation.pairs import Pairs, all_of, all_pairs, cross_pairs, read_bin, read_lfw, read_tsv
from tests.conftest import SHARED

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def published() -> Path:
    folder = SHARED / "data" / "eval" / "verification"
    if not folder.is_dir():
        pytest.skip("needs the verification sets, which are not part of the repository")
    return folder


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """ann/1.png, ann/2.png, bob/1.png, eve/deeper/ivy/1.png, and a text."""
    for name in ("ann/1.png", "ann/2.png", "bob/1.png", "eve/deeper/ivy/1.png"):
        (tmp_path / "people" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "people" / name).write_bytes(PNG)
    (tmp_path / "people" / "README.png").write_text("no image, whatever its name says")
    return tmp_path / "people"


def _named(pairs: Pairs) -> list[tuple[str, str, bool]]:
    names = ["/".join(Path(str(image)).parts[-2:]) for image in pairs.images]
    ends = zip(pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist(), strict=True)
    return [(names[a], names[b], same) for a, b, same in ends]


def _lfw(folder: Path, lines: Sequence[str]) -> tuple[Path, Path]:
    """A pairs.txt with the images that it names."""
    for line in lines:
        words = line.split()
        if len(words) < 3:
            continue
        for name, number in (words[:2], (words[-2] if len(words) == 4 else words[0], words[-1])):
            file = folder / "lfw" / name / f"{name}_{int(number):04d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder / "pairs.txt", folder / "lfw"


def test_a_table_names_pairs_relative_to_itself(people: Path) -> None:
    file = people / "pairs.tsv"
    file.write_text("a\tb\tsame\nann/1.png\tann/2.png\t1\nann/1.png\tbob/1.png\t0\n")
    pairs = read_tsv(file)
    assert pairs.images == tuple(str(people / name) for name in ("ann/1.png", "ann/2.png", "bob/1.png"))
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 0], [1, 2])
    assert [part.dtype.name for part in (pairs.first, pairs.second, pairs.same)] == ["int64", "int64", "bool"]
    assert pairs.same.tolist() == [True, False]
    assert (pairs.folds, pairs.name, len(pairs)) == (0, str(file), 2)


def test_a_csv_has_commas_columns_in_any_order_and_words_for_answers(people: Path) -> None:
    file = people / "pairs.CSV"
    file.write_text(f'\ufeffsame,"b",note,a\nTrue,ann/2.png,"x, y",{people}/ann/1.png\nfalse,bob/1.png,,ann/1.png\n')
    assert _named(read_tsv(file)) == [("ann/1.png", "ann/2.png", True), ("ann/1.png", "bob/1.png", False)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a header with a, b and same"),
        ("ann/1.png\tann/2.png\t1\n", "expected a header with a, b and same"),
        ("a\tb\tsame\n", "lists no pairs"),
        ("a\tb\tsame\nann/1.png\tann/2.png\t1\nann/1.png\tann/2.png\tmaybe\n", "pairs.tsv:3: expected two paths"),
        ("a\tb\tsame\nann/1.png\tann/2.png\n", "pairs.tsv:2: expected two paths"),
        ("a\tb\tsame\n\tann/2.png\t1\n", "pairs.tsv:2: expected two paths"),
        ("a\tb\tsame\nann/1.png\tann/3.png\t1\n", "pairs.tsv:2: the image .*ann/3.png is not there"),
        ("a\tb\tsame\nann/1.png\tann\t1\n", "pairs.tsv:2: the image .*ann is not there"),
        ("a\tb\tsame\nann/1.png\t" + "x" * 5000 + "\t1\n", "pairs.tsv:2: the image .* is not there"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(people: Path, text: str, words: str) -> None:
    (people / "pairs.tsv").write_text(text)
    with pytest.raises(UsageError, match=words):
        read_tsv(people / "pairs.tsv")


def test_a_file_that_is_not_there_or_no_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"\xff\xfe\0")
    for read in (read_tsv, lambda file: read_lfw(file, tmp_path)):
        with pytest.raises(UsageError, match="absent.tsv cannot be read: No such file"):
            read(tmp_path / "absent.tsv")
        with pytest.raises(UsageError, match="a.tsv is no text in UTF-8"):
            read(tmp_path / "a.tsv")
    with pytest.raises(UsageError, match="absent.bin cannot be read: No such file"):
        read_bin(tmp_path / "absent.bin")


def test_pairs_txt_with_its_header_has_the_folds_that_it_announces(tmp_path: Path) -> None:
    lines = ["2\t1", "Ann_Lee\t1\t12", "Ann_Lee\t1\tBob\t3", "Bob\t3\t4", "Bob\t4\tAnn_Lee\t12"]
    pairs = read_lfw(*_lfw(tmp_path, lines))
    assert pairs.folds == 2
    assert _named(pairs) == [
        ("Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0012.jpg", True),
        ("Ann_Lee/Ann_Lee_0001.jpg", "Bob/Bob_0003.jpg", False),
        ("Bob/Bob_0003.jpg", "Bob/Bob_0004.jpg", True),
        ("Bob/Bob_0004.jpg", "Ann_Lee/Ann_Lee_0012.jpg", False),
    ]


def test_images_may_be_png(tmp_path: Path) -> None:
    file, images = _lfw(tmp_path, ["Bob 1 2"])
    (images / "Bob" / "Bob_0002.jpg").rename(images / "Bob" / "Bob_0002.png")
    assert [Path(str(image)).name for image in read_lfw(file, images).images] == ["Bob_0001.jpg", "Bob_0002.png"]


def test_without_a_header_the_order_of_the_lines_shows_the_folds(tmp_path: Path) -> None:
    lines = [f"Ann {k} {k + 1}" if k % 4 < 2 else f"Ann {k} Bob {k}" for k in range(12)]
    pairs = read_lfw(*_lfw(tmp_path, lines))
    assert (pairs.folds, len(pairs)) == (3, 12)
    assert pairs.same.tolist() == [True, True, False, False] * 3


def test_all_same_then_all_different_is_put_in_the_order_of_folds(tmp_path: Path) -> None:
    lines = [f"Ann {k} {k + 1}" for k in range(1, 21)] + [f"Ann {k} Bob {k}" for k in range(1, 21)]
    pairs = read_lfw(*_lfw(tmp_path, lines))
    assert pairs.folds == 10
    assert pairs.same.tolist() == [True, True, False, False] * 10
    assert [b for _, b, _ in _named(pairs)[4:8]] == [
        *("Ann/Ann_0004.jpg", "Ann/Ann_0005.jpg"),
        *("Bob/Bob_0003.jpg", "Bob/Bob_0004.jpg"),
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ["Ann 1 2", "Ann 1 Bob 1", "Ann 1 Bob 2"],
        ["Ann 1 Bob 1", "Ann 1 2", "Ann 1 Bob 2", "Ann 2 3"],
        ["Ann 1 2", "Ann 1 3"],
        ["3", "Ann 1 2", "Ann 1 3", "Ann 2 3", "Ann 1 Bob 1", "Ann 2 Bob 1", "Ann 3 Bob 1"],
        [f"Ann {k} {k + 1}" for k in range(11)] + [f"Ann {k} Bob 1" for k in range(11)],
    ],
)
def test_any_other_order_stays_without_folds(tmp_path: Path, lines: list[str]) -> None:
    pairs = read_lfw(*_lfw(tmp_path, lines))
    assert pairs.folds == 0
    assert pairs.same.tolist() == [len(line.split()) == 3 for line in lines if len(line.split()) > 1]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["Ann 1 2", "Ann 1"], "pairs.txt:2: expected `name i j` or `name1 i name2 j`, found 'Ann 1'"),
        (["Ann one 2"], "pairs.txt:1: expected"),
        (["Ann 1 " + "9" * 5000], "pairs.txt:1: expected"),
        (["2 1", "Ann 1 2", "Ann 1 Bob 1"], r"announces 2 x 1 same and as many different pairs, found 1 of 2 the same"),
        (["1 2", "Ann 1 2", "Ann 1 Bob 1", "Ann 1 3", "Ann 2 Bob 1"], "in 4 turns"),
        (["999999999 0", "Ann 1 2"], "announces 999999999 x 0"),
        (["10 300"], "lists no pairs"),
        ([""], "lists no pairs"),
    ],
)
def test_a_pairs_txt_that_cannot_be_read_is_one_sentence(tmp_path: Path, lines: list[str], words: str) -> None:
    _lfw(tmp_path, ["Ann 1 2", "Ann 3 Bob 1"])
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    with pytest.raises(UsageError, match=words):
        read_lfw(tmp_path / "pairs.txt", tmp_path / "lfw")


def test_an_image_of_pairs_txt_that_is_not_there_is_named_with_its_line(tmp_path: Path) -> None:
    file, images = _lfw(tmp_path, ["Ann 1 2", "Ann 1 Bob 7"])
    (images / "Bob" / "Bob_0007.jpg").unlink()
    with pytest.raises(UsageError, match=r"pairs.txt:2: the image .*lfw/Bob/Bob_0007.jpg \(or .png\) is not there"):
        read_lfw(file, images)


def test_images_of_equal_bytes_in_a_bin_are_one(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(pickle.dumps(([b"p", b"q", b"q", b"r"], [True, False])))
    pairs = read_bin(tmp_path / "a.bin")
    assert pairs.images == (b"p", b"q", b"r")
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist()) == ([0, 1], [1, 2], [True, False])
    (tmp_path / "a.bin").write_bytes(b"none")
    with pytest.raises(FacebatchError, match="a.bin is no .bin of pairs"):
        read_bin(tmp_path / "a.bin")


def test_a_bin_has_ten_folds_where_it_can(tmp_path: Path) -> None:
    for same, folds in (([True, False] * 10, 10), ([True, False] * 9, 0), ([True] * 20, 0)):
        (tmp_path / "a.bin").write_bytes(pickle.dumps(([b"p", b"q"] * len(same), same)))
        assert read_bin(tmp_path / "a.bin").folds == folds


def test_in_a_folder_of_people_a_person_is_the_name_of_the_folder_that_holds_the_file(people: Path) -> None:
    (people / "more" / "ann").mkdir(parents=True)
    (people / "more" / "ann" / "9.png").write_bytes(PNG)
    pairs = all_pairs(people)
    assert len(pairs) == 10
    assert {pair[:2] for pair in _named(pairs) if pair[2]} == {
        ("ann/1.png", "ann/2.png"),
        ("ann/1.png", "ann/9.png"),
        ("ann/2.png", "ann/9.png"),
    }
    assert (pairs.first < pairs.second).all()


def test_a_folder_that_is_not_of_people_is_refused(people: Path) -> None:
    (people / "nobody").mkdir()
    with pytest.raises(UsageError, match="nobody holds 0 images: two make a pair"):
        all_pairs(people / "nobody")
    (people / "0.png").write_bytes(PNG)
    with pytest.raises(UsageError, match=r"people/0.png lies in no person's folder: expected .*people/NAME/0.png"):
        all_pairs(people)
    with pytest.raises(UsageError, match="is no folder"):
        all_pairs(people / "absent")


def test_all_pairs_of_the_images_of_a_list_are_known_by_their_folders(people: Path) -> None:
    (people / "pairs.tsv").write_text("a\tb\tsame\nann/1.png\tann/2.png\t1\nann/1.png\tbob/1.png\t0\n")
    assert _named(all_of(read_tsv(people / "pairs.tsv"))) == [
        ("ann/1.png", "ann/2.png", True),
        ("ann/1.png", "bob/1.png", False),
        ("ann/2.png", "bob/1.png", False),
    ]


def test_folders_that_contradict_the_list_are_refused(people: Path) -> None:
    (people / "pairs.tsv").write_text("a\tb\tsame\nann/1.png\tbob/1.png\t1\n")
    with pytest.raises(UsageError, match="ann/1.png and .*bob/1.png as one person: folders do not tell"):
        all_of(read_tsv(people / "pairs.tsv"))
    (people / "pairs.tsv").write_text("a\tb\tsame\nann/1.png\tann/2.png\t0\n")
    with pytest.raises(UsageError, match="as two people"):
        all_of(read_tsv(people / "pairs.tsv"))
    with pytest.raises(UsageError, match="images without paths"):
        all_of(_pairs([(b"p", b"q", True)]))


def _pairs(pairs: list[tuple[bytes, bytes, bool]]) -> Pairs:
    images = sorted({image for a, b, _ in pairs for image in (a, b)})
    first = np.array([images.index(a) for a, _, _ in pairs])
    second = np.array([images.index(b) for _, b, _ in pairs])
    return Pairs(tuple(images), first, second, np.array([same for _, _, same in pairs]), 0, "test")


def _same_and_different(pairs: Pairs) -> tuple[set[bytes], set[bytes]]:
    answers: tuple[set[bytes], set[bytes]] = set(), set()
    for a, b, same in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist(), strict=True):
        one, other = pairs.images[a], pairs.images[b]
        assert isinstance(one, bytes)
        assert isinstance(other, bytes)
        answers[0 if same else 1].add(one + other)
    return answers


def test_images_of_different_same_pairs_are_taken_for_two_people() -> None:
    same, different = _same_and_different(cross_pairs(_pairs([(b"a", b"b", True), (b"c", b"d", True)])))
    assert same == {b"ab", b"cd"}
    assert different == {b"ac", b"ad", b"bc", b"bd"}


def test_same_pairs_that_share_an_image_are_of_one_person() -> None:
    chain = _pairs([(b"a", b"b", True), (b"c", b"d", True), (b"b", b"c", True), (b"e", b"f", True)])
    same, different = _same_and_different(cross_pairs(chain))
    assert same == {b"ab", b"ac", b"ad", b"bc", b"bd", b"cd", b"ef"}
    assert len(different) == 8


def test_known_people_come_back_under_other_pairs() -> None:
    pairs = _pairs([(b"a", b"b", True), (b"c", b"d", True), (b"e", b"f", True)])
    same, different = _same_and_different(cross_pairs(pairs, ["ann", "bob", "ann"]))
    assert same == {b"ab", b"ae", b"af", b"be", b"bf", b"cd", b"ef"}
    assert len(same | different) == 15


def test_images_of_different_pairs_only_are_of_nobody_known_and_left_out() -> None:
    pairs = cross_pairs(_pairs([(b"a", b"b", True), (b"c", b"d", False), (b"e", b"f", True)]))
    assert pairs.images == (b"a", b"b", b"e", b"f")
    with pytest.raises(UsageError, match="test has no same pairs"):
        cross_pairs(_pairs([(b"c", b"d", False)]))
    with pytest.raises(UsageError, match="test has 1 same pairs and 2 names: expected one for each"):
        cross_pairs(_pairs([(b"a", b"b", True)]), ["ann", "bob"])


def test_the_published_sets_have_the_numbers_that_are_told_of_them(published: Path) -> None:
    def counts(pairs: Pairs) -> tuple[int, int, int]:
        return len(pairs.images), int(pairs.same.sum()), int((~pairs.same).sum())

    celebrities = read_tsv(published / "pairs_glint24.tsv")
    assert counts(celebrities) == (160, 600, 600)
    assert counts(read_tsv(published / "pairs_att.tsv")) == (393, 400, 400)
    assert counts(all_pairs(published / "celeb_glint24")) == counts(all_of(celebrities)) == (160, 1_520, 11_200)
    lfw = read_bin(published / "small_lfw.bin")
    assert (*counts(lfw), lfw.folds) == (17, 10, 0, 0)
    assert counts(cross_pairs(lfw)) == (17, 13, 123)
    people = ["abel", "akhmed", "akhmed", "amber", "anders", "anders", "angela", "angela", "angela", "ann"]
    assert counts(cross_pairs(lfw, people)) == (17, 19, 117)


def test_a_field_that_is_too_long_is_refused_by_the_line(tmp_path: Path) -> None:
    """How long is too long is a setting of the process, which reading manifests raises."""
    before = csv.field_size_limit(1000)
    try:
        (tmp_path / "pairs.tsv").write_text("a\tb\tsame\nx\t" + "x" * 5000 + "\t1\n")
        with pytest.raises(UsageError, match="pairs.tsv:2: field larger"):
            read_tsv(tmp_path / "pairs.tsv")
    finally:
        csv.field_size_limit(before)
