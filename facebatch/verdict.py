"""What a run over the demo's archive has shown: was every face found, was none invented, are the people told apart?

Read from the two tables, as any reader would. All faces are copies of two: that all is well says that nothing is lost
between a file and its vectors, and little about how good the networks are (`facebatch eval` measures that).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facebatch.align import chip_by_box, chip_by_landmarks
from facebatch.config import Decode
from facebatch.decode import decode, probe
from facebatch.demo import Entry, Face
from facebatch.evaluation.sheet import Tile, sheet_of_rows
from facebatch.geometry import Floats, Pixels, iou
from facebatch.summary import Row

_SAME = 0.5
"""IoU from which a box is taken for that of a known face."""
_BOX = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True, slots=True)
class Found:
    """A row of `faces`. person: whose face is known to be in this place, and was not found before; None: nobody's.

    box: 4 numbers, and landmarks: 5 x 2 or None, in pixels of the upright picture. embedding: 512 numbers.
    """

    entry: Entry
    person: str | None
    box: Floats
    landmarks: Floats | None
    embedding: Floats


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike the faces of a person are that were found. own: the lowest cosine of two of them; other: the highest of
    one with a face of somebody else; nan where there are no two. nearest: of how many the nearest face is their own."""

    person: str
    known: int
    found: int
    own: float
    other: float
    nearest: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found and what was not. wrong: sentences about images whose rows are not what they must be."""

    people: tuple[Likeness, ...]
    found: tuple[Found, ...]
    missing: tuple[tuple[Entry, Face], ...]
    wrong: tuple[str, ...]

    @property
    def invented(self) -> list[Found]:
        return [face for face in self.found if face.person is None]

    @property
    def problems(self) -> list[str]:
        """In sentences, what is not as it must be."""
        said = [f"the face of {face.person} was not found in {entry.name}" for entry, face in self.missing]
        for face in self.invented:
            place = ", ".join(f"{side:.0f}" for side in face.box)
            said.append(f"a face was invented in {face.entry.name}, at {place}")
        said += self.wrong
        for one in self.people:
            if one.nearest < one.found:
                far = one.found - one.nearest
                said.append(f"{far} of {one.found} faces of {one.person} are not nearest to another of the same person")
        own = min((one.own for one in self.people if one.own == one.own), default=np.inf)
        other = max((one.other for one in self.people if one.other == one.other), default=-np.inf)
        if own <= other:
            said.append(f"two faces of one person have a cosine of {own:.2f}, and two of different people {other:.2f}")
        return said


def judge(entries: Sequence[Entry], images: pa.Table, faces: pa.Table) -> Verdict:
    """Hold the tables of a dataset (schemas IMAGES and FACES) against what is known of the archive."""
    found: list[Found] = []
    missing: list[tuple[Entry, Face]] = []
    wrong: list[str] = []
    outcomes = {_key(row): row for row in images.select(["uri", "member", "status", "reason", "detail"]).to_pylist()}
    rows = faces.select(["uri", "member", "face_index", *_BOX, "landmarks", "embedding"]).to_pylist()
    for entry in entries:
        key = PurePath(entry.file).name, entry.member
        outcome = outcomes.pop(key, None)
        if outcome is None:
            wrong.append(f"{entry.name} has no row")
        elif outcome["status"] != entry.status:
            why = ": ".join(filter(None, (outcome["reason"], outcome["detail"])))
            wrong.append(f"{entry.name} must be {entry.status} and is {outcome['status']}{f' ({why})' if why else ''}")
        known = list(entry.faces)
        seen = sorted((row for row in rows if _key(row) == key), key=lambda row: row["face_index"])
        found += [_matched(entry, row, known) for row in seen]
        missing += [(entry, face) for face in known]
    if outcomes:
        other = " ".join(min(outcomes)).strip()
        wrong.append(f"{len(outcomes)} images are none of the demo's, e.g. {other}: name a new folder with --output")
    people = Counter(face.person for entry in entries for face in entry.faces)
    return Verdict(tuple(_likenesses(people, found)), tuple(found), tuple(missing), tuple(wrong))


def read(output: Path) -> tuple[pa.Table, pa.Table]:
    """The two tables of a dataset in a local folder, without any help of facebatch's own."""
    return pq.read_table(output / "images"), pq.read_table(output / "faces")


def table(verdict: Verdict) -> tuple[list[str], list[list[str]]]:
    """Titles and rows: for each person, what was found and how alike it is."""
    titles = ["person", "faces", "found", "lowest cosine, own", "highest, others'", "nearest is own"]
    rows = [
        [one.person, str(one.known), str(one.found), _said(one.own), _said(one.other), f"{one.nearest} of {one.found}"]
        for one in verdict.people
    ]
    return titles, rows


def rows(verdict: Verdict, sheet: Path) -> Iterator[Row]:
    """The end of what the demo tells."""
    yield "invented", str(len(verdict.invented)), "faces where nobody's is"
    yield "picture", "", str(sheet)
    if verdict.problems:
        for problem in verdict.problems:
            yield "PROBLEM", "", problem
        yield "verdict", "", f"not as it must be: {len(verdict.problems)} problems"
    else:
        yield "verdict", "", "every face is found, none is invented, and each is nearest to one of the same person"


def draw(file: Path, verdict: Verdict, limits: Decode) -> None:
    """Write a PNG of all faces as the embedder saw them: a row for each person, and one of invented faces if there are
    any. A face that was not found is shown in its picture. limits: with which the run decoded. Raises UsageError where
    the file cannot be written."""
    tiles: list[list[Tile]] = []
    for person in [*(one.person for one in verdict.people), None]:
        chips = [Tile(_chip(face, limits), None, face.entry.name) for face in verdict.found if face.person == person]
        lost = [Tile(e.data, face.box, f"not found: {e.name}") for e, face in verdict.missing if face.person == person]
        tiles.append(chips + lost)
    sheet_of_rows(file, [row for row in tiles if row])


def _key(row: dict[str, Any]) -> tuple[str, str]:
    """No two files of the archive share a name, and URIs may be relative to any base."""
    return PurePath(row["uri"]).name, row["member"]


def _matched(entry: Entry, row: dict[str, Any], left: list[Face]) -> Found:
    """The face of a row; whose it is leaves the list of those that are still to be found."""
    box = np.array([row[side] for side in _BOX], np.float32)
    points = None if row["landmarks"] is None else np.array(row["landmarks"], np.float32).reshape(5, 2)
    overlaps = iou(box, np.array([face.box for face in left], np.float32).reshape(-1, 4))
    sure = bool(len(left)) and float(overlaps.max()) >= _SAME
    person = left.pop(int(overlaps.argmax())).person if sure else None
    return Found(entry, person, box, points, np.array(row["embedding"], np.float32))


def _likenesses(known: Mapping[str, int], found: Sequence[Found]) -> Iterator[Likeness]:
    faces = [face for face in found if face.person]
    names = np.array([face.person for face in faces], object)
    vectors = np.array([face.embedding for face in faces], np.float64).reshape(-1, 512)
    cosines = vectors @ vectors.T
    same = names[:, None] == names[None]
    own, other = same & ~np.eye(len(names), dtype=bool), ~same
    nearest = np.where(own, cosines, -2).max(axis=1, initial=-2) > np.where(other, cosines, -2).max(axis=1, initial=-2)
    for person, count in known.items():
        mine = names == person
        lowest, highest = cosines[mine[:, None] & own], cosines[mine[:, None] & other]
        yield Likeness(
            person,
            count,
            int(mine.sum()),
            float(lowest.min()) if lowest.size else float("nan"),
            float(highest.max()) if highest.size else float("nan"),
            int(nearest[mine].sum()),
        )


def _chip(face: Found, limits: Decode) -> Pixels:
    picture = decode(face.entry.data, probe(face.entry.data, limits), limits)
    return chip_by_box(picture, face.box) if face.landmarks is None else chip_by_landmarks(picture, face.landmarks)


def _said(cosine: float) -> str:
    return "-" if np.isnan(cosine) else f"{cosine:.2f}"
