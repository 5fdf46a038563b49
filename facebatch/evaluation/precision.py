"""Average precision: how many faces a detector finds, and at what price in false alarms.

A prediction is right when it is the first, by falling score, to overlap a face enough. Faces that do not count are
neither found nor missed, and what is found on them is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from facebatch.errors import UsageError
from facebatch.evaluation.matching import Doubles, Indices, Mask, areas, best, covered, firsts, iou
from facebatch.evaluation.truth import Truth
from facebatch.geometry import Floats

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, float("inf"))}
"""COCO's limits of area in pixels (https://cocodataset.org/#detection-eval), the upper one excluded: a face has one
size, where pycocotools counts one of exactly 32 x 32 as small and as medium."""
_ANY_SIZE = (0.0, float("inf"))


@dataclass(frozen=True, slots=True)
class Found:
    """What a detector has found in one image. boxes: n x 4 (x_min, y_min, x_max, y_max), edge coordinates in pixels of
    the upright full-size picture; scores: n, the higher the surer. Raises UsageError on anything else."""

    boxes: Floats
    scores: Floats

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4 or self.scores.shape != self.boxes.shape[:1]:
            raise UsageError(
                f"boxes of shape {self.boxes.shape} with scores of shape {self.scores.shape} were given as found. "
                "Expected n x 4 and n"
            )
        forward = (self.boxes[:, 2:] >= self.boxes[:, :2]).all()
        if not (forward and np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise UsageError(
                "boxes were given as found that end before they begin or are not finite, or scores that are not. Leave "
                "such predictions out"
            )


@dataclass(frozen=True, slots=True)
class Rule:
    """How predictions are held against truths.

    `iou`: the overlap from which on a face is found.
    `min_height`, `max_height`: in pixels; a truth counts where min <= height < max. One without an area never does.
    `boundaries`: what is added to widths and heights for overlaps, 0 or 1.
    `ignored_by`: what leaves out a prediction that finds no truth that counts. "area": at least `iou` of its own area
    lies in a truth that does not count, which may take any number of predictions (the accuracy checker's
    `allow_multiple_matches_per_ignored`; COCO's crowds). "iou": its IoU with one is at least `iou`, and each such truth
    takes one prediction, a second is a false alarm (the accuracy checker's default).
    `whole_numbers`: boxes are first rounded to whole pixels, halves to even ones.
    `clip`: truths are cut to this width and height in pixels, before their heights are looked at.
    """

    iou: float = 0.5
    min_height: float = 0.0
    max_height: float = float("inf")
    boundaries: int = 0
    ignored_by: Literal["area", "iou"] = "area"
    whole_numbers: bool = False
    clip: float = float("inf")

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise UsageError(f"an overlap of {self.iou} was asked for. Expected more than 0, at most 1")
        if self.boundaries not in (0, 1):
            raise UsageError(f"boundaries of {self.boundaries} were asked for. Expected 0 or 1")
        if self.ignored_by not in ("area", "iou"):
            raise UsageError(f"ignored_by={self.ignored_by!r} was asked for. Expected 'area' or 'iou'")


SLIM_CARD = Rule(min_height=100, ignored_by="iou")
"""The rule behind the mAP of 83.32% on WIDER FACE's validation set that Open Model Zoo states for
ultra-lightweight-face-detection-slim-320: models/public/ultra-lightweight-face-detection-slim-320/accuracy-check.yml
(height_range 100, is_empty, ignore_difficult, include_boundaries False). It leaves `allow_multiple_matches_per_ignored`
at the accuracy checker's default, which is False. WIDER's own flag `invalid` plays no part there, and none here: all
585 faces that have it are less than 20 pixels high."""

SSH_CARD = Rule(min_height=64, max_height=1024, boundaries=1, ignored_by="iou", whole_numbers=True, clip=1024)
"""The rule behind the mAP of 84.80% that Open Model Zoo stated for ssh-mxnet, before it was removed with revision
43ea48fca: models/public/ssh-mxnet/accuracy-check.yml (cast_to_int, which rounds to the nearest; clip_boxes 1024 of
annotations; height_range 64, 1024; is_empty; ignore_difficult; include_boundaries True). The clip is meant for WIDER's
width of 1024 and cuts the faces at the foot of its higher pictures."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall of all predictions whose score is at least `scores[k]`, by falling score; k float64 each.

    With equal scores among the predictions there is a point after each of them, in the order in which they were given.
    `truths`: how many count.
    """

    scores: Doubles
    precision: Doubles
    recall: Doubles
    truths: int

    @property
    def ap(self) -> float:
        """Area under the curve, each precision being the best at that recall or a higher one; NaN without truths.

        As in VOC since 2010 (Everingham et al., "The PASCAL visual object classes challenge 2012 development kit",
        3.4.1), which is the accuracy checker's `integral: max`.
        """
        if not self.truths:
            return float("nan")
        hull = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float(np.sum(np.diff(self.recall, prepend=0.0) * hull))

    @property
    def best_f1(self) -> tuple[float, float]:
        """The largest harmonic mean of precision and recall, and the score threshold that gives it, the highest of
        equals; (0, infinity) where nothing is found. A threshold takes all of equal scores or none."""
        reachable = np.flatnonzero(np.append(self.scores[1:] != self.scores[:-1], True)[: len(self.scores)])
        total = self.precision[reachable] + self.recall[reachable]
        double = 2 * self.precision[reachable] * self.recall[reachable]
        f1 = np.divide(double, total, out=np.zeros_like(total), where=total > 0)
        if not f1.any():
            return 0.0, float("inf")
        at = int(f1.argmax())
        return float(f1[at]), float(self.scores[reachable[at]])

    @property
    def final_recall(self) -> float:
        """The share of the truths that is found by all predictions together; NaN without truths."""
        if not self.truths:
            return float("nan")
        return float(self.recall[-1]) if len(self.recall) else 0.0


@dataclass(frozen=True, slots=True)
class Spot:
    """A face that was missed (then `score` is None) or a false alarm. `image`: the index of its image among the truths;
    `box`: x_min, y_min, x_max, y_max as given, in pixels of the upright full-size picture."""

    image: int
    box: Floats
    score: float | None = None


def curve(truths: Sequence[Truth], found: Sequence[Found], rule: Rule | None = None) -> Curve:
    """The detector's precision and recall over a set of images; found[i] belongs to truths[i].

    The rule is that of Open Model Zoo's accuracy checker (metrics/detection.py, `map`): all predictions of all images
    by falling score, equal ones in the order given; each takes the truth it overlaps most of those that count. If that
    is enough it is right, or a false alarm where another has found the face before; if not, a truth that does not count
    may leave it out (`Rule.ignored_by`), else it is a false alarm. 3,226 images with 500 predictions and 39,708 faces
    take 0.9 s on one core. Raises UsageError where the lengths differ.
    """
    return _curve(truths, found, rule or Rule(), _ANY_SIZE)


def by_size(truths: Sequence[Truth], found: Sequence[Found], rule: Rule | None = None) -> dict[str, Curve]:
    """A curve for each of `SIZES`, by the area of the face.

    As COCO does it (pycocotools' cocoeval.py, `areaRng`): faces of another size are ignored, by IoU and each by one
    prediction; what finds no face of the size counts as a false alarm only where its own area is of the size.
    """
    return {name: _curve(truths, found, rule or Rule(), span) for name, span in SIZES.items()}


def worst(
    truths: Sequence[Truth], found: Sequence[Found], score: float, rule: Rule | None = None
) -> tuple[list[Spot], list[Spot]]:
    """What a detector does wrong that is used at a score threshold: its misses, the largest face first, and its false
    alarms, the surest first. Raises UsageError where the lengths differ."""
    misses, alarms = [], []
    for number, (truth, all_found) in enumerate(_pairs(truths, found)):
        sure = all_found.scores >= score
        seen = Found(all_found.boxes[sure], all_found.scores[sure])
        judged = _judge(truth, seen, rule or Rule(), _ANY_SIZE)
        missed = judged.wanted.copy()
        missed[judged.truth[judged.right]] = False
        misses += [Spot(number, truth.boxes[k]) for k in np.flatnonzero(missed)]
        wrong = judged.order[judged.counted & ~judged.right]
        alarms += [Spot(number, seen.boxes[k], float(seen.scores[k])) for k in wrong]
    misses.sort(key=lambda spot: -float(areas(spot.box[None].astype(np.float64))[0]))
    alarms.sort(key=lambda spot: -(spot.score or 0.0))
    return misses, alarms


@dataclass(frozen=True, slots=True)
class _Judged:
    """The predictions of one image. `order`: by falling score, in which the others are given. `right`, `counted`: which
    are true positives, and which are true or false ones. `truth`: the one that a right prediction finds. `wanted`:
    which truths count."""

    order: Indices
    right: Mask
    counted: Mask
    truth: Indices
    wanted: Mask


def _pairs(truths: Sequence[Truth], found: Sequence[Found]) -> list[tuple[Truth, Found]]:
    if len(truths) != len(found):
        raise UsageError(f"predictions for {len(found)} images were given. Expected one for each of {len(truths)}")
    return list(zip(truths, found, strict=True))


def _curve(truths: Sequence[Truth], found: Sequence[Found], rule: Rule, span: tuple[float, float]) -> Curve:
    scores, right, count = [np.empty(0)], [np.empty(0, np.bool_)], 0
    for truth, seen in _pairs(truths, found):
        judged = _judge(truth, seen, rule, span)
        scores.append(seen.scores[judged.order][judged.counted].astype(np.float64))
        right.append(judged.right[judged.counted])
        count += int(judged.wanted.sum())
    falling = np.concatenate(scores)
    order = np.argsort(-falling, kind="stable")
    hits = np.cumsum(np.concatenate(right)[order], dtype=np.float64)
    return Curve(falling[order], hits / np.arange(1, len(hits) + 1), hits / max(count, 1), count)


def _judge(truth: Truth, found: Found, rule: Rule, span: tuple[float, float]) -> _Judged:
    order = np.argsort(-found.scores, kind="stable")
    boxes, faces = found.boxes[order].astype(np.float64), truth.boxes.astype(np.float64)
    if rule.whole_numbers:
        boxes, faces = np.rint(boxes), np.rint(faces)
    if np.isfinite(rule.clip):
        faces = np.clip(faces, 0, rule.clip)
    height = faces[:, 3] - faces[:, 1]
    in_rule = ~truth.ignored & (faces[:, 2] > faces[:, 0]) & (height > 0)
    in_rule &= (height >= rule.min_height) & (height < rule.max_height)
    wanted = in_rule & _within(areas(faces), span)

    overlaps = iou(boxes, faces, rule.boundaries)
    index, enough = best(overlaps, wanted, rule.iou)
    right = enough & firsts(index, enough)
    left_out = np.zeros(len(boxes), np.bool_)
    once = ~wanted
    if rule.ignored_by == "area":
        once = in_rule & ~wanted
        left_out = ~enough & (covered(boxes, faces[~in_rule], rule.boundaries) >= rule.iou).any(axis=1)
    other, on_other = best(overlaps, once, rule.iou)
    on_other &= ~enough & ~left_out
    left_out |= firsts(other, on_other)
    counted = right | (~left_out & _within(areas(boxes), span))
    return _Judged(order, right, counted, index, wanted)


def _within(values: Doubles, span: tuple[float, float]) -> Mask:
    return (values >= span[0]) & (values < span[1])
