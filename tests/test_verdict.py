"""The demo's verdict: on made-up tables, in which every mistake that a run could make is made once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from facebatch import demo
from facebatch.config import Decode
from facebatch.demo import COLLINS, HOPPER, Entry
from facebatch.evaluation.sheet import SIDE
from facebatch.reasons import Reason, Status
from facebatch.sink import faces_table, images_table
from facebatch.verdict import Verdict, draw, judge, read, rows, table
from facebatch.work import Face, Work
from tests.test_sink import FACTS, face

Run = dict[str, Work]


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return demo.archive()


@pytest.fixture
def run(entries: list[Entry]) -> Run:
    return faultless(entries)


def faultless(entries: list[Entry]) -> Run:
    """What a faultless run makes of the archive: boxes a little off, vectors of a person alike, by the files' names."""
    return {entry.name: _work(number, entry) for number, entry in enumerate(entries)}


def write_tables(output: Path, run: Run) -> None:
    """The two tables of a dataset, in two files each."""
    works = list(run.values())
    for folder, make in (("images", images_table), ("faces", lambda some: faces_table(some, FACTS))):
        (output / folder).mkdir(parents=True)
        for number, some in enumerate((works[:5], works[5:])):
            pq.write_table(make(some), output / folder / f"{number}.parquet")


def _work(number: int, entry: Entry) -> Work:
    work = Work("s", number, f"/somewhere/else/{entry.file}", entry.member, len(entry.data))
    if not entry.faces:
        work.status = entry.status
        return work
    work.status = Status.OK
    work.faces = [_face(known.person, known.box, number) for known in entry.faces]
    return work


def _face(person: str, box: tuple[float, float, float, float], seed: int = 0) -> Face:
    """A cosine of about 0.8 between two of a person, and of 0 between people."""
    common, own = face(seed=(COLLINS, HOPPER).index(person)), face(seed=100 + seed)
    assert common.embedding is not None
    assert own.embedding is not None
    vector = common.embedding + own.embedding / 2
    x_min, y_min, x_max, y_max = box
    shift = (x_max - x_min) / 10
    moved = np.array([x_min + shift, y_min, x_max + shift, y_max], np.float32)
    return dataclasses.replace(common, box=moved, landmarks=None, embedding=vector / np.linalg.norm(vector))


def _judged(entries: list[Entry], run: Run) -> Verdict:
    works = list(run.values())
    return judge(entries, images_table(works), faces_table(works, FACTS))


def test_a_faultless_run_has_no_problems(entries: list[Entry], run: Run) -> None:
    verdict = _judged(entries, run)
    assert verdict.problems == []
    assert (len(verdict.found), len(verdict.missing), len(verdict.invented)) == (19, 0, 0)
    for one, known in zip(verdict.people, (10, 9), strict=True):
        assert (one.known, one.found, one.nearest) == (known, known, known)
        assert 0.6 < one.own < 0.9
        assert -0.2 < one.other < 0.3
    assert {one.person for one in verdict.people} == {COLLINS, HOPPER}


def test_in_a_group_the_place_tells_who_it_is(entries: list[Entry], run: Run) -> None:
    run["photos/group.jpg"].faces.reverse()
    verdict = _judged(entries, run)
    assert verdict.problems == []
    group = [found.person for found in verdict.found if found.entry.name == "photos/group.jpg"]
    assert group == [HOPPER, COLLINS, HOPPER, COLLINS]


def _lose_a_face(run: Run) -> None:
    run["photos/group.jpg"].faces.pop(1)


def _lose_an_image(run: Run) -> None:
    del run["shards/00000.tar 1999/collins.jpg"]


def _invent(run: Run) -> None:
    run["photos/nobody.jpg"].faces = [_face(HOPPER, (10, 20, 60, 70))]
    run["photos/nobody.jpg"].status = Status.OK


def _find_twice(run: Run) -> None:
    work = run["photos/astronaut.png"]
    work.faces.append(work.faces[0])


def _look_elsewhere(run: Run) -> None:
    found = run["photos/astronaut.png"].faces[0]
    found.box = found.box + np.float32(60)


def _swap(run: Run) -> None:
    one, other = run["photos/astronaut.png"].faces[0], run["photos/grace_hopper.jpg"].faces[0]
    one.embedding, other.embedding = other.embedding, one.embedding


def _fail(run: Run) -> None:
    run["photos/notes.txt"].end(Reason.CORRUPT, "the decoder refused it")
    run["photos/broken.jpg"].status, run["photos/broken.jpg"].reason = Status.NO_FACE, None


def _stray(run: Run) -> None:
    run["x"] = Work("s", 99, "/somewhere/else/lying.jpg", "", 1, status=Status.NO_FACE)


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (_lose_a_face, ["the face of Grace Hopper was not found in photos/group.jpg"]),
        (
            _lose_an_image,
            [
                "the face of Eileen Collins was not found in shards/00000.tar 1999/collins.jpg",
                "shards/00000.tar 1999/collins.jpg has no row",
            ],
        ),
        (
            _invent,
            [
                "a face was invented in photos/nobody.jpg, at 15, 20, 65, 70",
                "photos/nobody.jpg must be no_face and is ok",
            ],
        ),
        (_find_twice, ["a face was invented in photos/astronaut.png, at 188, 58, 280, 176"]),
        (
            _look_elsewhere,
            [
                "the face of Eileen Collins was not found in photos/astronaut.png",
                "a face was invented in photos/astronaut.png, at 248, 118, 340, 236",
            ],
        ),
        (
            _fail,
            [
                "photos/broken.jpg must be failed and is no_face",
                "photos/notes.txt must be skipped and is failed (CORRUPT: the decoder refused it)",
            ],
        ),
        (_stray, ["1 images are none of the demo's, e.g. lying.jpg: name a new folder with --output"]),
    ],
)
def test_a_mistake_is_said_and_nothing_else(
    entries: list[Entry], run: Run, mistake: Callable[[Run], None], said: list[str]
) -> None:
    mistake(run)
    assert _judged(entries, run).problems == said


def test_people_who_are_mixed_up_are_said(entries: list[Entry], run: Run) -> None:
    _swap(run)
    verdict = _judged(entries, run)
    one, other, apart = verdict.problems
    assert re.fullmatch(r"[12] of 10 faces of Eileen Collins are not nearest to another of the same person", one)
    assert re.fullmatch(r"[12] of 9 faces of Grace Hopper are not nearest to another of the same person", other)
    least, most = min(one.own for one in verdict.people), max(one.other for one in verdict.people)
    assert least < 0.3 < 0.6 < most
    assert apart == f"two faces of one person have a cosine of {least:.2f}, and two of different people {most:.2f}"


def test_people_may_be_mixed_up_only_at_a_threshold(entries: list[Entry], run: Run) -> None:
    """Each face is nearest to its own, and yet two of a person are less alike than two of different people."""
    one, two, three = np.eye(512, dtype=np.float32)[:3]
    for work in run.values():
        for found, known in zip(work.faces, entries[work.index].faces, strict=True):
            found.embedding = one if known.person == COLLINS else 0.6 * one + 0.8 * two
    for name in ("photos/hopper-half.png", "photos/hopper-large.tif"):
        run[name].faces[0].embedding = three
    assert _judged(entries, run).problems == [
        "two faces of one person have a cosine of 0.00, and two of different people 0.60"
    ]


def test_where_nothing_was_found_there_are_no_cosines(entries: list[Entry], run: Run) -> None:
    for work in run.values():
        work.faces = []
    verdict = _judged(entries, run)
    assert len(verdict.missing) == 19
    assert [one[2:] for one in table(verdict)[1]] == [["0", "-", "-", "0 of 0"]] * 2
    assert len(verdict.problems) == 19
    assert all("was not found in" in problem for problem in verdict.problems)


def test_one_face_alone_is_nearest_to_none(entries: list[Entry], run: Run) -> None:
    for name, work in run.items():
        if name != "photos/astronaut.png":
            work.faces = []
    verdict = _judged(entries, run)
    assert "1 of 1 faces of Eileen Collins are not nearest to another of the same person" in verdict.problems


def test_vectors_that_are_no_numbers_are_nearest_to_none(entries: list[Entry], run: Run) -> None:
    run["photos/astronaut.png"].faces[0].embedding = np.full(512, np.nan, np.float32)
    assert any("faces of Eileen Collins are not nearest" in problem for problem in _judged(entries, run).problems)


def test_the_end_says_what_came_out_and_where_the_picture_is(entries: list[Entry], run: Run) -> None:
    said = list(rows(_judged(entries, run), Path("out/faces.png")))
    assert said[0][:2] == ("invented", "0")
    assert said[1] == ("picture", "", "out/faces.png")
    assert said[2][2] == "every face is found, none is invented, and each is nearest to one of the same person"
    _invent(run)
    said = list(rows(_judged(entries, run), Path("out/faces.png")))
    assert said[0][:2] == ("invented", "1")
    assert [title for title, _, _ in said[2:]] == ["PROBLEM", "PROBLEM", "verdict"]
    assert said[-1][2] == "not as it must be: 2 problems"


def test_the_table_has_a_row_for_each_person(entries: list[Entry], run: Run) -> None:
    _lose_a_face(run)
    titles, lines = table(_judged(entries, run))
    assert all(len(line) == len(titles) for line in lines)
    assert [line[:3] for line in lines] == [[COLLINS, "10", "10"], [HOPPER, "9", "8"]]
    assert [line[-1] for line in lines] == ["10 of 10", "8 of 8"]


def test_tables_are_read_from_all_files_of_a_folder(entries: list[Entry], run: Run, tmp_path: Path) -> None:
    write_tables(tmp_path, run)
    assert judge(entries, *read(tmp_path)).problems == []


def _tiles(file: Path) -> tuple[int, list[int]]:
    """How many tiles a sheet is wide, and how many stand in each row: those that are not white."""
    pixels = np.asarray(Image.open(file)).astype(int)
    width, height = SIDE + 6, SIDE + 2 * 13 + 6
    across, down = (pixels.shape[1] - 6) // width, (pixels.shape[0] - 6) // height
    corners = [[(6 + k * height, 6 + i * width) for i in range(across)] for k in range(down)]
    return across, [sum(bool((pixels[y : y + SIDE, x : x + SIDE] < 250).any()) for y, x in row) for row in corners]


def test_the_picture_has_a_row_for_each_person(entries: list[Entry], run: Run, tmp_path: Path) -> None:
    draw(tmp_path / "faces.png", _judged(entries, run), Decode())
    assert _tiles(tmp_path / "faces.png") == (10, [10, 9])


def test_what_was_invented_has_a_row_of_its_own_and_what_is_missing_is_shown_in_its_place(
    entries: list[Entry], run: Run, tmp_path: Path
) -> None:
    _invent(run)
    _lose_a_face(run)
    draw(tmp_path / "faces.png", _judged(entries, run), Decode())
    assert _tiles(tmp_path / "faces.png") == (10, [10, 9, 1])
    lost = np.asarray(Image.open(tmp_path / "faces.png"))[198 : 198 + SIDE, 6 + 8 * 166 : 6 + 8 * 166 + SIDE]
    assert (lost == (255, 32, 96)).all(axis=2).any(), "a box is drawn where the face is"


def test_a_face_is_shown_as_its_landmarks_turn_it(entries: list[Entry], run: Run, tmp_path: Path) -> None:
    points: Any = [[205, 97], [248, 103], [222, 127], [201, 141], [239, 146]]
    by_box, by_landmarks = tmp_path / "a.png", tmp_path / "b.png"
    draw(by_box, _judged(entries, run), Decode())
    run["photos/astronaut.png"].faces[0].landmarks = np.array(points, np.float32)
    draw(by_landmarks, _judged(entries, run), Decode())
    one, other = (np.asarray(Image.open(file)).astype(int) for file in (by_box, by_landmarks))
    changed = np.abs(one - other).max(axis=2) > 20
    assert changed[:192, :166].any()
    assert not changed[:, 172:].any()
