"""Annotated photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facebatch.errors import UsageError
from facebatch.evaluation.truth import read_jsonl, read_wider
from tests.conftest import SHARED


def jsonl(folder: Path, *entries: object) -> Path:
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    (folder / "ground_truth.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def wider(folder: Path, *lines: str) -> Path:
    (folder / "boxes.txt").write_text("\n".join(lines) + "\n")
    return folder / "boxes.txt"


def test_a_line_of_json_is_an_image(tmp_path: Path) -> None:
    boxes = [[1, 2, 30.5, 40], [5, 6, 7, 8]]
    folder = jsonl(
        tmp_path,
        {"file": "party/a.b.jpg", "width": 100, "boxes": boxes, "labels": ["x", "y"], "ignored": [False, True]},
        "",
        {"file": "empty.png", "boxes": []},
    )
    first, second = read_jsonl(folder)
    assert first.boxes.tolist() == boxes
    assert first.boxes.dtype == np.float32
    assert first.ignored.tolist() == [False, True]
    assert (first.path, first.name) == (str(tmp_path / "party/a.b.jpg"), "party/a.b")
    assert second.boxes.shape == (0, 4)
    assert second.ignored.shape == (0,)


def test_the_file_may_be_named_itself(tmp_path: Path) -> None:
    folder = jsonl(tmp_path, {"file": "a.jpg", "boxes": [[0, 0, 1, 1]]})
    (truth,) = read_jsonl(folder / "ground_truth.jsonl")
    assert truth.path == str(tmp_path / "a.jpg")
    assert not truth.ignored.any()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "names no image"),
        ({"boxes": []}, "names no image"),
        ({"file": " ", "boxes": []}, "names no image"),
        ({"file": "b.jpg"}, "not a list of boxes"),
        ({"file": "b.jpg", "boxes": [[1, 2, 3]]}, "not a list of boxes"),
        ({"file": "b.jpg", "boxes": [[1, 2, 3, "4"]]}, "not a list of boxes"),
        ({"file": "b.jpg", "boxes": [[1, 2, 3, True]]}, "not a list of boxes"),
        ({"file": "b.jpg", "boxes": [[1, 2, 3, 10**400]]}, "not a list of boxes"),
        ({"file": "b.jpg", "boxes": [[1, 2, 3, 1e39]]}, "not a list of boxes"),
        ("[" * 100_000, "is not JSON"),
        ({"file": "b.jpg", "boxes": [[1, 2, 0, 4]]}, r"box \[1.0, 2.0, 0.0, 4.0\] ends before"),
        ('{"file": "b.jpg", "boxes": [[1, 2, NaN, 4]]}', "not finite"),
        ({"file": "b.jpg", "boxes": [[1, 2, 3, 4]], "ignored": []}, "`ignored` does not go with `boxes`. Expected 1"),
        ({"file": "b.jpg", "boxes": [[1, 2, 3, 4]], "ignored": [0]}, "`ignored` does not go with `boxes`"),
        ({"file": "a.jpg", "boxes": []}, "a was in line 1 already"),
    ],
)
def test_a_mistake_in_json_names_file_and_line(tmp_path: Path, line: object, complaint: str) -> None:
    folder = jsonl(tmp_path, {"file": "a.jpg", "boxes": []}, line)
    with pytest.raises(UsageError, match=rf"ground_truth\.jsonl, line 2: .*{complaint}"):
        read_jsonl(folder)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent.jsonl: cannot be read"):
        read_jsonl(tmp_path / "absent.jsonl")
    with pytest.raises(UsageError, match="ground_truth.jsonl: cannot be read"):
        read_jsonl(tmp_path)
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UsageError, match="picture.jpg: is not text"):
        read_wider(tmp_path / "picture.jpg", tmp_path)
    (tmp_path / "nothing.txt").write_text("\n")
    with pytest.raises(UsageError, match="has no image in it"):
        read_wider(tmp_path / "nothing.txt", tmp_path)


def test_widers_boxes_are_corner_and_size(tmp_path: Path) -> None:
    file = wider(
        tmp_path,
        "0--Parade/one.jpg",
        "2",
        "10 20 30 40 0 0 0 0 0 0 ",
        "5 6 7 8 2 0 0 1 2 0",
        "0--Parade/none.jpg",
        "0",
        "0 0 0 0 0 0 0 0 0 0",
        "1--Handshaking/two.jpg",
        "1",
        "1 1 1 1 0 1 1 0 1 1",
    )
    one, none, two = read_wider(file, "images")
    assert one.boxes.tolist() == [[10, 20, 40, 60], [5, 6, 12, 14]]
    assert one.boxes.dtype == np.float32
    assert one.ignored.tolist() == [False, True]
    assert (one.name, one.path) == ("0--Parade/one", str(Path("images/0--Parade/one.jpg")))
    assert none.boxes.shape == (0, 4)
    assert (two.name, two.boxes.tolist(), two.ignored.tolist()) == ("1--Handshaking/two", [[1, 1, 2, 2]], [False])


def test_no_faces_without_a_line_of_zeros_is_read_as_well(tmp_path: Path) -> None:
    file = wider(tmp_path, "a.jpg", "0", "b.jpg", "1", "1 1 1 1 0 0 0 0 0 0")
    assert [len(truth.boxes) for truth in read_wider(file, "")] == [0, 1]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["a.jpg"], "line 2: expected the number of faces of a.jpg, found 'the end of the file'"),
        (["a.jpg", "many"], "line 2: expected the number of faces of a.jpg, found 'many'"),
        (["a.jpg", "-1"], "line 2: expected the number of faces"),
        (["a.jpg", "2", "1 1 1 1 0 0 0 0 0 0"], "line 4: expected a face of a.jpg .* found 'the end of the file'"),
        (["a.jpg", "1", "1 1 1 1"], "line 3: expected a face of a.jpg"),
        (["a.jpg", "1", "1 1 1 1 0 0 0 0 0 x"], "line 3: expected a face of a.jpg"),
        (["a.jpg", "1", f"1 1 1 {10**39} 0 0 0 0 0 0"], "line 3: expected a face of a.jpg"),
        (["a.jpg", "9" * 5000], "line 2: expected the number of faces"),
        (["a.jpg", "0", "a.png", "0"], "line 3: a was in line 1 already"),
    ],
)
def test_a_mistake_in_widers_list_names_file_and_line(tmp_path: Path, lines: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=rf"boxes\.txt, {complaint}"):
        read_wider(wider(tmp_path, *lines), "")


def test_the_photographs_at_hand_are_read() -> None:
    folder = SHARED / "data" / "eval" / "detection"
    if not folder.is_dir():
        pytest.skip("needs the annotated photographs, which are not part of the repository")
    truths = read_jsonl(folder)
    assert (len(truths), sum(len(truth.boxes) for truth in truths)) == (282, 1731)
    assert all(Path(truth.path).is_file() for truth in truths)


def test_widers_validation_set_is_read() -> None:
    file = SHARED / "data" / "eval" / "wider_ground_truth" / "wider_face_split" / "wider_face_val_bbx_gt.txt"
    if not file.is_file():
        pytest.skip("needs WIDER FACE's list of boxes, which is not part of the repository")
    truths = read_wider(file, "images")
    assert (len(truths), sum(len(truth.boxes) for truth in truths)) == (3226, 39708)
    assert sum(int(truth.ignored.sum()) for truth in truths) == 585
