"""Average precision, by thought and against a program that takes the accuracy checker's rule word for word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from facebatch.errors import UsageError
from facebatch.evaluation.precision import SIZES, SLIM_CARD, SSH_CARD, Curve, Found, Rule, by_size, curve, worst
from facebatch.evaluation.truth import Truth

FACE = [100, 100, 200, 200]
ELSEWHERE = [500, 500, 600, 600]


def truth(*boxes: Sequence[float], ignored: tuple[int, ...] = ()) -> Truth:
    flags = np.isin(np.arange(len(boxes)), ignored)
    return Truth("a.jpg", np.array(boxes, np.float32).reshape(-1, 4), flags, "a")


def found(*boxes: Sequence[float], scores: list[float] | None = None) -> Found:
    falling = [1 - 0.1 * k for k in range(len(boxes))]
    return Found(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores or falling, np.float32))


def shifted(dx: float, box: Sequence[float] = FACE) -> list[float]:
    return [box[0] + dx, box[1], box[2] + dx, box[3]]


def ap(truths: Truth, predictions: Found, rule: Rule | None = None) -> float:
    return curve([truths], [predictions], rule).ap


def test_all_faces_and_nothing_else_is_one() -> None:
    result = curve([truth(FACE, ELSEWHERE), truth()], [found(FACE, ELSEWHERE), found()])
    assert (result.ap, result.final_recall, result.truths) == (1.0, 1.0, 2)
    assert result.precision.tolist() == [1.0, 1.0]


def test_half_of_the_faces_is_a_half() -> None:
    assert ap(truth(FACE, ELSEWHERE), found(ELSEWHERE)) == 0.5


def test_nothing_found_is_nought() -> None:
    result = curve([truth(FACE)], [found()])
    assert (result.ap, result.final_recall, result.best_f1) == (0.0, 0.0, (0.0, math.inf))


def test_without_faces_there_is_no_precision_to_speak_of() -> None:
    result = curve([truth()], [found(FACE)])
    assert math.isnan(result.ap)
    assert math.isnan(result.final_recall)


def test_a_false_alarm_costs_only_what_comes_behind_it() -> None:
    assert ap(truth(FACE), found(FACE, ELSEWHERE)) == 1.0
    assert ap(truth(FACE), found(ELSEWHERE, FACE)) == 0.5
    assert curve([truth(FACE), truth()], [found(FACE, scores=[0.5]), found(FACE, scores=[0.6])]).ap == 0.5


def test_the_second_on_a_face_is_a_false_alarm() -> None:
    result = curve([truth(FACE, ELSEWHERE)], [found(FACE, shifted(1), ELSEWHERE)])
    assert result.precision.tolist() == [1.0, 0.5, pytest.approx(2 / 3)]
    assert result.recall.tolist() == [0.5, 0.5, 1.0]
    assert result.ap == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_prediction_whose_best_face_is_taken_does_not_get_the_next_best() -> None:
    near = shifted(20)
    assert ap(truth(FACE, near), found(FACE, shifted(2))) == 0.5


def test_an_overlap_of_exactly_the_threshold_is_enough() -> None:
    third = shifted(50)
    assert ap(truth(FACE), found(third), Rule(iou=50 / 150)) == 1.0
    assert ap(truth(FACE), found(third), Rule(iou=50 / 150 + 1e-9)) == 0.0


def test_predictions_count_by_score_whatever_their_order() -> None:
    assert ap(truth(FACE), found(ELSEWHERE, FACE, scores=[0.1, 0.9])) == 1.0


def test_equal_scores_keep_their_order() -> None:
    assert ap(truth(FACE), found(ELSEWHERE, FACE, scores=[0.5, 0.5])) == 0.5
    assert ap(truth(FACE), found(FACE, ELSEWHERE, scores=[0.5, 0.5])) == 1.0


def test_what_does_not_count_is_neither_found_nor_missed() -> None:
    for rule in (Rule(), Rule(ignored_by="iou")):
        result = curve([truth(FACE, ELSEWHERE, ignored=(0,))], [found(FACE, ELSEWHERE)], rule)
        assert (result.ap, result.truths, result.precision.tolist()) == (1.0, 1, [1.0])


def test_a_face_that_counts_goes_before_one_that_does_not() -> None:
    half = [100, 100, 200, 160]
    result = curve([truth(FACE, half, ignored=(1,))], [found(half)])
    assert (result.ap, result.truths) == (1.0, 1)


def test_a_crowd_takes_many_by_area_but_one_by_iou() -> None:
    crowd, inside = [0, 0, 400, 400], [10, 10, 60, 60]
    truths = truth(crowd, ELSEWHERE, ignored=(0,))
    predictions = found(inside, shifted(0), crowd, shifted(0, crowd), ELSEWHERE)
    assert curve([truths], [predictions], Rule(ignored_by="area")).precision.tolist() == [1.0]
    by_iou = curve([truths], [predictions], Rule(ignored_by="iou"))
    assert by_iou.precision.tolist() == [0, 0, 0, 0.25]  # both inside and the second on the crowd count against it


def test_heights_decide_what_counts_the_upper_limit_excluded() -> None:
    faces = [[0.0, 200.0 * k, 50.0, 200.0 * k + h] for k, h in enumerate((99, 100, 149, 150))]
    result = curve([truth(*faces)], [found(*faces)], Rule(min_height=100, max_height=150))
    assert (result.truths, result.ap, len(result.precision)) == (2, 1.0, 2)


def test_a_face_without_an_area_never_counts() -> None:
    assert curve([truth([5, 5, 5, 50], [5, 5, 50, 5], [9, 9, 7, 20])], [found()]).truths == 0


def test_boundaries_add_a_pixel_to_widths_and_heights() -> None:
    small, half = [10, 10, 14, 14], [12, 10, 16, 14]  # 8 of 24 by edges, 15 of 35 by pixels
    assert ap(truth(small), found(half), Rule(iou=0.42)) == 0.0
    assert ap(truth(small), found(half), Rule(iou=0.42, boundaries=1)) == 1.0


def test_whole_numbers_are_the_nearest() -> None:
    rule = Rule(iou=0.999, whole_numbers=True)
    assert ap(truth([10, 10, 20, 20]), found([9.6, 10.4, 20.4, 19.6]), rule) == 1.0
    assert ap(truth([10, 10, 20, 20]), found([9.4, 10, 20, 20]), rule) == 0.0


def test_truths_are_clipped_before_their_height_is_looked_at() -> None:
    low = [0, 1000, 100, 1100]
    assert curve([truth(low)], [found()], Rule(min_height=24, clip=1024)).truths == 1
    assert curve([truth(low)], [found()], Rule(min_height=25, clip=1024)).truths == 0
    assert ap(truth(low), found([0, 1000, 100, 1024]), Rule(clip=1024)) == 1.0


def test_the_cards_rules_are_those_of_their_files() -> None:
    faces = [[0.0, 0.0, 80.0, h] for h in (63, 64, 99, 100, 1023, 1024)]
    assert [curve([truth(face)], [found()], SLIM_CARD).truths for face in faces] == [0, 0, 0, 1, 1, 1]
    assert [curve([truth(face)], [found()], SSH_CARD).truths for face in faces] == [0, 1, 1, 1, 1, 0]
    for card in (SLIM_CARD, SSH_CARD):
        twice = curve([truth(FACE, [0, 0, 50, 50])], [found([0, 0, 50, 50], [0, 0, 50, 50], FACE)], card)
        assert twice.precision.tolist() == [0.0, 0.5]
    third = Found(np.array([[100, 100, 200, 150]], np.float32), np.ones(1, np.float32))
    assert [ap(truth(FACE), third, replace(card, min_height=0)) for card in (SLIM_CARD, SSH_CARD)] == [1.0, 1.0]
    assert ap(truth([100, 100, 200, 201]), third, SLIM_CARD) == 0.0  # 50 of 101
    assert ap(truth([100, 100, 200, 201]), third, SSH_CARD) == 1.0  # 51 of 102
    assert ap(truth([100, 100, 200, 201]), found([100, 100, 200, 149.6]), SSH_CARD) == 1.0  # rounded to 150
    assert ap(truth([100, 100, 200, 201]), found([100, 100, 200, 149.4]), SSH_CARD) == 0.0
    assert [curve([truth([0, 950, 100, 1100])], [found()], card).truths for card in (SLIM_CARD, SSH_CARD)] == [1, 1]
    assert [curve([truth([0, 970, 100, 1100])], [found()], card).truths for card in (SLIM_CARD, SSH_CARD)] == [1, 0]


def test_the_area_is_that_under_the_running_maximum() -> None:
    jagged = Curve(np.arange(4.0)[::-1], np.array([0.5, 0.4, 0.6, 0.2]), np.array([0.1, 0.2, 0.5, 0.5]), 10)
    assert jagged.ap == pytest.approx(0.6 * 0.5)
    falling = Curve(np.arange(2.0)[::-1], np.array([1.0, 0.5]), np.array([0.25, 1.0]), 4)
    assert falling.ap == pytest.approx(0.25 + 0.75 * 0.5)


def test_the_best_threshold_takes_all_of_equal_scores() -> None:
    predictions = found(FACE, [0, 0, 9, 9], ELSEWHERE, [0, 20, 9, 29], scores=[0.9, 0.9, 0.75, 0.5])
    f1, threshold = curve([truth(FACE, ELSEWHERE)], [predictions]).best_f1
    assert f1 == pytest.approx(2 * (2 / 3) / (5 / 3))
    assert threshold == 0.75
    assert curve([truth(FACE)], [found(FACE, [0, 0, 9, 9], scores=[0.9, 0.9])]).best_f1[0] == pytest.approx(2 / 3)


def test_sizes_are_told_apart_by_area() -> None:
    small, medium, large = [0, 0, 20, 20], [100, 0, 150, 50], [300, 0, 500, 200]
    curves = by_size([truth(small, medium, large)], [found(small, large)])
    assert {name: (c.truths, c.ap) for name, c in curves.items()} == {
        "small": (1, 1.0),
        "medium": (1, 0.0),
        "large": (1, 1.0),
    }
    assert {name: len(c.scores) for name, c in curves.items()} == {"small": 1, "medium": 0, "large": 1}


def test_a_false_alarm_counts_for_its_own_size_only() -> None:
    truths = truth([0, 0, 20, 20], [300, 0, 500, 200])
    curves = by_size([truths], [found([700, 700, 720, 720], [0, 0, 20, 20], [300, 0, 500, 200])])
    assert (curves["small"].ap, curves["large"].ap) == (0.5, 1.0)


def test_a_face_of_just_32_by_32_is_medium_and_one_of_96_by_96_large() -> None:
    curves = by_size([truth([0, 0, 32, 32], [100, 0, 196, 96])], [found()])
    assert [c.truths for c in curves.values()] == [0, 1, 1]


def test_a_small_false_alarm_within_a_large_face_is_one_for_small() -> None:
    curves = by_size([truth([300, 0, 500, 200], [0, 0, 20, 20])], [found([350, 50, 370, 70], [0, 0, 20, 20])])
    assert curves["small"].ap == 0.5


def test_what_lies_in_a_crowd_does_not_use_up_a_face_of_another_size() -> None:
    crowd, face, wide = [0, 0, 60, 95], [0, 0, 95, 95], [0, 0, 130, 95]
    curves = by_size([truth(crowd, face, ELSEWHERE, ignored=(0,))], [found(face, wide)])
    assert len(curves["large"].scores) == 0


def test_the_worst_are_the_largest_misses_and_the_surest_false_alarms() -> None:
    truths = [truth([0, 0, 20, 20], FACE, [300, 300, 350, 350], ignored=(2,)), truth([0, 0, 400, 400], ELSEWHERE)]
    predictions = [
        found([700, 0, 720, 20], FACE, [300, 300, 350, 350], scores=[0.6, 0.75, 0.9]),
        found(ELSEWHERE, shifted(1, ELSEWHERE), [0, 0, 400, 400], scores=[0.9, 0.8, 0.4]),
    ]
    misses, alarms = worst(truths, predictions, 0.6)
    assert [(spot.image, spot.box.tolist(), spot.score) for spot in misses] == [
        (1, [0, 0, 400, 400], None),
        (0, [0, 0, 20, 20], None),
    ]
    assert [(spot.image, spot.box.tolist()) for spot in alarms] == [
        (1, shifted(1, ELSEWHERE)),
        (0, [700, 0, 720, 20]),
    ]
    assert [spot.score for spot in alarms] == [pytest.approx(0.8), pytest.approx(0.6)]


def test_misses_and_hits_at_a_threshold_are_all_truths_that_count() -> None:
    truths, predictions = crowded(np.random.default_rng(5), 20)
    whole = curve(truths, predictions)
    misses, alarms = worst(truths, predictions, 0.5)
    at = int((whole.scores >= 0.5).sum()) - 1
    assert len(misses) == round(whole.truths * (1 - whole.recall[at]))
    assert len(alarms) == round((at + 1) * (1 - whole.precision[at]))


@pytest.mark.parametrize(
    ("boxes", "scores", "complaint"),
    [
        (np.zeros((2, 4)), np.zeros(1), r"\(2, 4\) with scores of shape \(1,\)"),
        (np.zeros((2, 5)), np.zeros(2), "Expected n x 4"),
        (np.zeros(4), np.zeros(4), "Expected n x 4"),
        (np.full((1, 4), np.nan), np.zeros(1), "not finite"),
        (np.zeros((1, 4)), np.full(1, np.nan), "not finite"),
        (np.array([[1.0, 0, 0, 0]]), np.zeros(1), "end before they begin"),
    ],
)
def test_what_is_no_prediction_is_refused(boxes: Any, scores: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Found(boxes, scores)


@pytest.mark.parametrize("wrong", [{"iou": 0.0}, {"iou": 1.1}, {"boundaries": 2}, {"ignored_by": "luck"}])
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Expected"):
        Rule(**wrong)


def test_predictions_for_another_number_of_images_are_refused() -> None:
    for judge in (curve, by_size, lambda t, f: worst(t, f, 0.5)):
        with pytest.raises(UsageError, match="predictions for 2 images were given. Expected one for each of 1"):
            judge([truth()], [found(), found()])


def crowded(random: np.random.Generator, images: int) -> tuple[list[Truth], list[Found]]:
    """Faces of all sizes that overlap, some ignored; predictions near them, twice, in part, beside; scores that tie."""
    truths, predictions = [], []
    for _ in range(images):
        count = int(random.integers(0, 12))
        corners, sides = random.integers(0, 300, (count, 2)), random.integers(0, 150, (count, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
        ignored = np.flatnonzero(random.random(count) < 0.3)
        truths.append(truth(*boxes.tolist(), ignored=tuple(ignored.tolist())))
        near = np.repeat(boxes, 3, axis=0) + random.normal(0, 6, (3 * count, 4))
        far = np.tile(random.uniform(0, 300, (6, 2)), 2) + np.repeat([0, 1], 2) * random.uniform(4, 120, (6, 1))
        both = np.concatenate([near, far])
        both = np.concatenate([np.minimum(both[:, :2], both[:, 2:]), np.maximum(both[:, :2], both[:, 2:])], axis=1)
        scores = np.round(random.random(len(both)), 2)
        predictions.append(Found(both.astype(np.float32), scores.astype(np.float32)))
    return truths, predictions


def literal(truths: list[Truth], found: list[Found], rule: Rule, low: float, high: float) -> tuple[float, int, int]:
    """AP, truths and counted predictions, one prediction after the other as the accuracy checker's `bbox_match`."""
    b = rule.boundaries

    def rounded(box: Any) -> list[float]:
        return [float(round(float(x))) if rule.whole_numbers else float(x) for x in box]

    def size(box: list[float]) -> float:
        return (box[2] - box[0] + b) * (box[3] - box[1] + b)

    def shared(one: list[float], other: list[float]) -> float:
        w = min(one[2], other[2]) - max(one[0], other[0]) + b
        h = min(one[3], other[3]) - max(one[1], other[1]) + b
        return w * h if w > 0 and h > 0 else 0.0

    faces: list[list[list[Any]]] = []
    total = 0
    for image in truths:
        rows: list[list[Any]] = []
        for box, ignored in zip(image.boxes, image.ignored, strict=True):
            f = [min(max(x, 0.0), rule.clip) if rule.clip < math.inf else x for x in rounded(box)]
            plain = (f[2] - f[0]) * (f[3] - f[1])
            tall = f[3] - f[1]
            kind = "wanted"
            if ignored or f[2] <= f[0] or f[3] <= f[1] or not rule.min_height <= tall < rule.max_height:
                kind = "ignored"
            elif not low <= plain < high:
                kind = "other"
            total += kind == "wanted"
            rows.append([f, kind, False])
        faces.append(rows)
    queue = [(float(s), i, rounded(box)) for i, f in enumerate(found) for s, box in zip(f.scores, f.boxes, strict=True)]
    verdicts = []
    for _, image_number, p in sorted(queue, key=lambda entry: -entry[0]):
        top: list[Any] = []
        top_overlap = 0.0
        for row in faces[image_number]:
            o = shared(p, row[0])
            if row[1] == "wanted" and o / (size(p) + size(row[0]) - o) > top_overlap:
                top, top_overlap = row, o / (size(p) + size(row[0]) - o)
        inside = low <= (p[2] - p[0]) * (p[3] - p[1]) < high
        if top_overlap >= rule.iou:
            if not top[2]:
                top[2] = True
                verdicts.append(1)
            elif inside:
                verdicts.append(0)
            continue
        crowd = [row for row in faces[image_number] if row[1] == "ignored"]
        if rule.ignored_by == "area" and any(size(p) > 0 and shared(p, r[0]) / size(p) >= rule.iou for r in crowd):
            continue
        top, top_overlap = [], 0.0
        for row in faces[image_number]:
            o, either = shared(p, row[0]), size(p) + size(row[0])
            asked = row[1] == "other" or (row[1] == "ignored" and rule.ignored_by == "iou")
            if asked and o > 0 and o / (either - o) > top_overlap:
                top, top_overlap = row, o / (either - o)
        if top_overlap >= rule.iou and not top[2]:
            top[2] = True
        elif inside:
            verdicts.append(0)
    precisions = [sum(verdicts[: k + 1]) / (k + 1) for k in range(len(verdicts))]
    area = sum(max(precisions[k:]) / total for k, right in enumerate(verdicts) if right)
    return area, total, len(verdicts)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(),
        Rule(ignored_by="iou"),
        Rule(iou=0.3, min_height=30, max_height=100),
        Rule(boundaries=1, min_height=20, ignored_by="iou", whole_numbers=True, clip=200),
    ],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_program_without_any_arrays_gives_the_same(rule: Rule, seed: int) -> None:
    truths, predictions = crowded(np.random.default_rng(seed), 25)
    result = curve(truths, predictions, rule)
    expected = literal(truths, predictions, rule, 0, math.inf)
    assert (result.truths, len(result.scores)) == expected[1:]
    assert 0.02 < expected[0] < 0.98  # there is something to agree on
    assert result.ap == pytest.approx(expected[0], abs=1e-12)
    for name, sized in by_size(truths, predictions, rule).items():
        area, total, counted = literal(truths, predictions, rule, *SIZES[name])
        assert (sized.truths, len(sized.scores)) == (total, counted), name
        assert math.isnan(sized.ap) if total == 0 else sized.ap == pytest.approx(area, abs=1e-12), name
