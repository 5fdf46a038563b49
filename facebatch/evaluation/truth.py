"""Annotated photographs: where the faces are, as people have marked them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facebatch.errors import UsageError
from facebatch.geometry import Floats

JSONL = "ground_truth.jsonl"
"""The file that `read_jsonl` looks for in a folder."""
_WIDER_FIELDS = "x y w h blur expression illumination invalid occlusion pose"
_INVALID = 7
_LARGEST = 1 << 24
"""From here on float32 does not hold every whole number."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The faces of one image.

    `path`: of the image, below the folder that was given.
    `boxes`: n x 4 float32 (x_min, y_min, x_max, y_max), edge coordinates in pixels of the upright full-size picture.
    `ignored`: n; such a face is neither found nor missed.
    `name`: the path in its folder without the ending, as predictions are known by.
    """

    path: str
    boxes: Floats
    ignored: NDArray[np.bool_]
    name: str

    def read(self) -> bytes:
        """The image as it lies there. Raises UsageError."""
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise UsageError(f"{self.path}, which the annotations name, cannot be read: {error.strerror}") from error


def read_jsonl(source: str | Path) -> list[Truth]:
    """A line of JSON for each image, in a file or in the `ground_truth.jsonl` of a folder.

    {"file": "a/b.jpg", "boxes": [[x_min, y_min, x_max, y_max], ...], "ignored": [false, ...]}; `file` is relative to
    the file's folder, `ignored` may be absent, other keys are left alone. Raises UsageError that names file and line.
    """
    file = Path(source)
    file = file / JSONL if file.is_dir() else file
    truths: list[Truth] = []
    lines_of: dict[str, int] = {}
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        entry = _entry(line, where)
        boxes = _boxes(entry.get("boxes"), where)
        truth = _truth(file.parent, entry["file"], boxes, _ignored(entry.get("ignored"), len(boxes), where))
        _only_once(lines_of, truth.name, number, file)
        truths.append(truth)
    return _some(truths, file)


def read_wider(source: str | Path, images: str | Path) -> list[Truth]:
    """WIDER FACE's own list of boxes, as `wider_face_val_bbx_gt.txt`; `images` is the folder of its event folders.

    For each image its name, a line with the number of faces, and for each of them a line "x y w h blur expression
    illumination invalid occlusion pose" in whole numbers; x + w is taken as x_max. A number of 0 is followed by a line
    of zeros. `ignored` are the invalid ones. Boxes are as in the file, where a few are empty or even run backward: such
    never count (`facebatch.evaluation.precision`). Raises UsageError that names file and line.
    """
    file = Path(source)
    lines = _lines(file)
    truths: list[Truth] = []
    lines_of: dict[str, int] = {}
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        name, number = lines[at].strip(), at + 1
        count = _count(lines, at + 1, name, file)
        rows = [_row(lines, at + 2 + k, name, file) for k in range(count)]
        at += 2 + count
        if not count and at < len(lines) and lines[at].split() == ["0"] * len(_WIDER_FIELDS.split()):
            at += 1
        table = np.array(rows, np.float32).reshape(-1, len(_WIDER_FIELDS.split()))
        boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
        truth = _truth(Path(images), name, boxes, table[:, _INVALID] != 0)
        _only_once(lines_of, truth.name, number, file)
        truths.append(truth)
    return _some(truths, file)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}). Give the file of the annotations") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: is not text in UTF-8. Give the file of the annotations") from error


def _truth(folder: Path, name: str, boxes: Floats, ignored: NDArray[np.bool_]) -> Truth:
    return Truth(str(folder / name), boxes, ignored, os.path.splitext(name)[0])


def _only_once(lines_of: dict[str, int], name: str, number: int, file: Path) -> None:
    if name in lines_of:
        raise UsageError(f"{file}, line {number}: {name} was in line {lines_of[name]} already. Keep one of them")
    lines_of[name] = number


def _some(truths: list[Truth], file: Path) -> list[Truth]:
    if not truths:
        raise UsageError(f"{file}: has no image in it, so there is nothing to measure. Give a file of annotations")
    return truths


def _entry(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: is not JSON ({error}). Expected an object with `file` and `boxes`") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str) or not entry["file"].strip():
        raise UsageError(f"{where}: names no image. Expected an object with `file` and `boxes`")
    return entry


def _boxes(value: Any, where: str) -> Floats:
    wanted = "Expected a list of [x_min, y_min, x_max, y_max] in pixels"
    if not isinstance(value, list) or not all(_is_box(box) for box in value):
        raise UsageError(f"{where}: `boxes` is not a list of boxes. {wanted}")
    boxes = np.array(value, np.float32).reshape(-1, 4)
    if wrong := next(_backward(boxes), None):
        raise UsageError(f"{where}: box {wrong} ends before it begins, or is not finite. {wanted}")
    return boxes


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list) and len(box) == 4 and all(type(x) in (int, float) and not abs(x) >= _LARGEST for x in box)
    )


def _backward(boxes: Floats) -> Iterator[list[float]]:
    for box in boxes:
        if not (np.isfinite(box).all() and box[2] >= box[0] and box[3] >= box[1]):
            yield box.tolist()


def _ignored(value: Any, count: int, where: str) -> NDArray[np.bool_]:
    if value is None:
        return np.zeros(count, np.bool_)
    if not isinstance(value, list) or len(value) != count or not all(isinstance(flag, bool) for flag in value):
        raise UsageError(f"{where}: `ignored` does not go with `boxes`. Expected {count} times true or false")
    return np.array(value, np.bool_)


def _count(lines: list[str], at: int, name: str, file: Path) -> int:
    text = lines[at].strip() if at < len(lines) else "the end of the file"
    if not text.isdecimal() or len(text) > 9:
        raise UsageError(f"{file}, line {at + 1}: expected the number of faces of {name}, found {text!r}")
    return int(text)


def _row(lines: list[str], at: int, name: str, file: Path) -> list[int]:
    text = lines[at].strip() if at < len(lines) else "the end of the file"
    try:
        row = [int(word) for word in text.split()]
    except ValueError:
        row = []
    if len(row) != len(_WIDER_FIELDS.split()) or any(abs(number) >= _LARGEST for number in row):
        raise UsageError(f"{file}, line {at + 1}: expected a face of {name} as {_WIDER_FIELDS!r}, found {text!r}")
    return row
