"""WIDER FACE's own evaluation: easy, medium and hard.

Yang et al., "WIDER FACE: A face detection benchmark", CVPR 2016. The rule is that of the authors' Matlab tool
(eval_tools.zip on the benchmark's page: wider_eval.m, norm_score.m, evaluation.m, boxoverlap.m, VOCap.m), the official
files are those that come with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facebatch.errors import UsageError
from facebatch.evaluation.matching import Doubles, Indices, Mask, best, firsts, iou
from facebatch.evaluation.precision import Curve, Found

SUBSETS = ("easy", "medium", "hard")
_THRESHOLDS = 1 - np.arange(1, 1001) / 1000
_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Official:
    """The official files, image by image.

    `names`: as "0--Parade/0_Parade_marchingband_1_465". `boxes`: for each image n x 4 float64 (x, y, w, h) in pixels.
    `kept`: for each subset and image n, which of the boxes belong to it.
    """

    names: tuple[str, ...]
    boxes: tuple[Doubles, ...]
    kept: Mapping[str, tuple[Mask, ...]]


def read_official(folder: str | Path) -> Official:
    """wider_face_val.mat (all faces) and wider_{easy,medium,hard}_val.mat (which of them are in a subset, from 1).

    Raises UsageError where a file is absent, cannot be read or does not go with the others, and without SciPy.
    """
    try:
        return _read(Path(folder))
    except (IndexError, TypeError, ValueError) as error:
        raise UsageError(
            f"{folder}: its files are not laid out as WIDER FACE's are ({error}). Take the four of its eval_tools"
        ) from error


def evaluate(official: Official, found: Mapping[str, Found], part: bool = False) -> dict[str, Curve]:
    """The curve of each subset, its `scores` being the 1,000 thresholds on normalised scores.

    found: by name, an empty `Found` where nothing was found. Boxes are given by edges, x_min .. x_max; they enter as
    x = x_min, w = x_max - x_min, as the files' boxes do, and overlaps are computed from corners x and x + w with one
    pixel added to each width and height, as the tool does. Scores are normalised over the whole submission, so that the
    lowest becomes 0 and the highest 1.

    Each prediction points at the face it overlaps most, whether or not that face is in the subset. With an IoU of at
    least 0.5 it recalls the face, or is left out where the face is not in the subset; a second one on a face and one on
    no face are proposals in vain. Where everything so far was left out the tool's precision is 0/0, which its maximum
    passes over; here it is 0.

    500 predictions for each of the 3,226 images take 0.7 s on one core.

    `part`: only the images in `found` count. Raises UsageError where images are missing otherwise, where names are
    unknown, and where all scores are equal, which the tool cannot normalise.
    """
    _check_names(official, found, part)
    judged = [
        _judge(box, found[name], [official.kept[subset][number] for subset in SUBSETS])
        for number, (name, box) in enumerate(zip(official.names, official.boxes, strict=True))
        if name in found
    ]
    scores = _normalised(np.concatenate([np.empty(0), *(one.scores for one in judged)]))
    order = np.argsort(-scores, kind="stable")
    reached = np.searchsorted(-scores[order], -_THRESHOLDS, side="right")
    proposals = np.concatenate([np.empty((3, 0), np.bool_), *(one.proposals for one in judged)], axis=1)[:, order]
    recalls = np.concatenate([np.empty((3, 0), np.bool_), *(one.recalls for one in judged)], axis=1)[:, order]
    counts = sum((one.faces for one in judged), np.zeros(3, np.int64))
    curves = {}
    for row, subset in enumerate(SUBSETS):
        proposed, recalled = _up_to(proposals[row], reached), _up_to(recalls[row], reached)
        precision = np.divide(recalled, proposed, out=np.zeros_like(recalled), where=proposed > 0)
        truths = int(counts[row])
        curves[subset] = Curve(_THRESHOLDS, precision, recalled / max(truths, 1), truths)
    return curves


@dataclass(frozen=True, slots=True)
class _Judged:
    """One image. scores: n; proposals, recalls: 3 x n, a row for each subset; faces: 3, how many are in it."""

    scores: Doubles
    proposals: Mask
    recalls: Mask
    faces: Indices


def _judge(truths: Doubles, found: Found, kept: list[Mask]) -> _Judged:
    order = np.argsort(-found.scores, kind="stable")
    corners = np.concatenate([truths[:, :2], truths[:, :2] + truths[:, 2:]], axis=1)
    overlaps = iou(found.boxes[order].astype(np.float64), corners, boundaries=1)
    index, enough = best(overlaps, np.ones(len(truths), np.bool_), _IOU)
    first = firsts(index, enough)
    in_subset = np.array(kept)[:, index] if len(truths) else np.zeros((3, len(order)), np.bool_)
    faces = np.array([mask.sum() for mask in kept], np.int64)
    in_vain_or_in_subset = (~enough | in_subset) & (len(truths) > 0)  # the tool passes over an image without faces
    return _Judged(found.scores[order].astype(np.float64), in_vain_or_in_subset, first & in_subset, faces)


def _check_names(official: Official, found: Mapping[str, Found], part: bool) -> None:
    known = set(official.names)
    if unknown := sorted(set(found) - known):
        raise UsageError(
            f"{len(unknown)} of {len(found)} images with predictions are not in the official files, such as "
            f"{unknown[0]!r}. Expected names like {official.names[0]!r}"
        )
    if not part and (missing := sorted(known - set(found))):
        raise UsageError(
            f"{len(missing)} of the {len(known)} official images have no predictions, such as {missing[0]!r}. Run the "
            "detector on all of them, and give an empty list where it finds nothing"
        )


def _normalised(scores: Doubles) -> Doubles:
    if not len(scores):
        return scores
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        raise UsageError(
            f"all {len(scores)} predictions have the score {low:g}, which cannot be stretched to 0 .. 1. Give the "
            "detector's scores, from a low threshold on"
        )
    return (scores - low) / (high - low)


def _up_to(flags: Mask, reached: Indices) -> Doubles:
    sums: Doubles = np.concatenate([np.zeros(1), np.cumsum(flags, dtype=np.float64)])
    return sums[reached]


def _read(folder: Path) -> Official:
    faces = _load(folder / "wider_face_val.mat", "file_list", "event_list", "face_bbx_list")
    names = _names(faces)
    boxes = tuple(np.asarray(cell, np.float64).reshape(-1, 4) for cell in _cells(faces, "face_bbx_list"))
    kept = {}
    for subset in SUBSETS:
        file = folder / f"wider_{subset}_val.mat"
        listed = _load(file, "file_list", "event_list", "gt_list")
        numbers = [np.ravel(cell).astype(np.int64) - 1 for cell in _cells(listed, "gt_list")]
        pairs = list(zip(numbers, boxes, strict=True))
        if _names(listed) != names or not all(np.isin(some, np.arange(len(box))).all() for some, box in pairs):
            raise UsageError(
                f"{file}: is not about the faces of wider_face_val.mat. Take all four files of one release"
            )
        kept[subset] = tuple(np.isin(np.arange(len(box)), some) for some, box in pairs)
    return Official(names, boxes, kept)


def _names(content: dict[str, Any]) -> tuple[str, ...]:
    """Event and file of each image."""
    events = [str(np.ravel(cell)[0]) for cell in np.ravel(content["event_list"])]
    files = [[str(np.ravel(cell)[0]) for cell in np.ravel(some)] for some in np.ravel(content["file_list"])]
    return tuple(f"{event}/{file}" for event, some in zip(events, files, strict=True) for file in some)


def _cells(content: dict[str, Any], name: str) -> list[Any]:
    """What a cell array of cell arrays (a cell for each event, in it one for each image) holds, image by image."""
    return [cell for some in np.ravel(content[name]) for cell in np.ravel(some)]


def _load(file: Path, *names: str) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise UsageError(f"{file} is read with SciPy, which is not here: pip install 'facebatch[eval]'") from error
    expected = "Expected the official file of WIDER FACE's eval_tools"
    try:
        content: dict[str, Any] = loadmat(str(file), appendmat=False, variable_names=names)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror or error}). {expected}") from error
    except (MatReadError, ValueError, TypeError, NotImplementedError, zlib.error) as error:
        raise UsageError(f"{file}: is not a Matlab file that can be read ({error}). {expected}") from error
    if absent := [name for name in names if name not in content]:
        raise UsageError(f"{file}: has no {', '.join(absent)}. {expected}")
    return content
