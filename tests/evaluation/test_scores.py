"""Figures of verification: by hand, by slow definitions, and by what must not change them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from facebatch.errors import UsageError
from facebatch.evaluation.scores import Verification, advice, rejecting, rejections, ten_folds, verification

NAN, INF = math.nan, math.inf


def _of(same: list[float], different: list[float]) -> Verification:
    return verification(np.array([*same, *different]), np.array([True] * len(same) + [False] * len(different)))


def _some(n: int = 400, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping similarities, rounded so that many tie, across the kinds too."""
    random = np.random.default_rng(5)
    same = random.random(n) < 0.4
    return np.round(random.normal(np.where(same, 0.5, 0.2), 0.2), digits), same


def test_a_small_case_by_hand() -> None:
    found = _of([0.9, 0.8, 0.4], [0.5, 0.3, 0.2, 0.1])
    assert (found.n_same, found.n_different) == (3, 4)
    assert found.auc == pytest.approx(11 / 12)  # only 0.4 against 0.5 is lost
    assert found.accuracy == pytest.approx(6 / 7)
    assert found.accuracy_threshold == pytest.approx(0.65)  # 0.35 is as good, and lower
    assert found.thresholds.tolist() == [INF, 0.9, 0.8, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert found.tars.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1, 1, 1, 1])
    assert found.fars.tolist() == [0, 0, 0, 1 / 4, 1 / 4, 1 / 2, 3 / 4, 1]
    # At 0.5 one impostor in four is accepted and one same pair in three is missed, at 0.4 none is: on the line between
    # them a FAR of 1/4 meets a miss rate of 1/4, three quarters of the way from 0 and a quarter from 1/3.
    assert found.eer == pytest.approx(1 / 4)
    assert found.eer_threshold == pytest.approx(0.5 - 0.1 / 4)


def test_the_eer_lies_on_the_line_between_two_points_of_the_curve() -> None:
    found = _of([0.9, 0.5], [0.5, 0.1, 0.0])
    # From (FAR 0, misses 1/2) at 0.9 to (1/3, 0) at 0.5: x / (1/3) = 1 - x / (1/2), so x = 1/5.
    assert found.eer == pytest.approx(1 / 5)
    assert found.eer_threshold == pytest.approx(0.9 - 0.4 * 3 / 5)


def test_kinds_that_do_not_overlap_are_told_apart_without_error() -> None:
    found = _of([0.7, 0.6], [0.2, 0.1])
    assert (found.auc, found.accuracy, found.eer) == (1, 1, 0)
    assert found.accuracy_threshold == pytest.approx(0.4)
    assert found.eer_threshold == 0.6
    turned = _of([0.2, 0.1], [0.7, 0.6])
    assert (turned.auc, turned.eer, turned.accuracy) == (0, 1, 0.5)


def test_ties_count_half() -> None:
    assert _of([0.5], [0.5]).auc == 0.5
    assert _of([0.5, 0.5, 0.9], [0.5, 0.1]).auc == pytest.approx((0.5 + 0.5 + 1 + 3) / 6)
    tied = _of([0.5] * 4, [0.5] * 4)
    assert (tied.auc, tied.eer, tied.accuracy, tied.accuracy_threshold) == (0.5, 0.5, 0.5, INF)


def test_where_no_threshold_is_better_than_one_answer_it_is_infinite() -> None:
    assert _of([0.1], [0.2, 0.3]).accuracy_threshold == INF
    assert _of([0.1, 0.2], [0.3]).accuracy_threshold == -INF


def test_figures_agree_with_their_definitions() -> None:
    similarities, same = _some()
    found = verification(similarities, same)
    wins = [(s > d) + (s == d) / 2 for s in similarities[same] for d in similarities[~same]]
    assert found.auc == pytest.approx(sum(wins) / len(wins), abs=1e-12)
    candidates = [-INF, INF, *similarities, *(similarities + 1e-6)]
    assert found.accuracy == max(np.mean((similarities >= t) == same) for t in candidates)
    assert np.mean((similarities >= found.accuracy_threshold) == same) == found.accuracy
    for threshold, far, tar in zip(found.thresholds, found.fars, found.tars, strict=True):
        assert far == np.mean(similarities[~same] >= threshold)
        assert tar == np.mean(similarities[same] >= threshold)
    x = np.linspace(0, 1, 200_001)  # misses against false accepts: how far on is as much of one as of the other
    way = np.linspace(0, len(found.fars) - 1, len(x))
    steps = np.arange(len(found.fars))
    gap = np.abs(np.interp(way, steps, found.fars) - (1 - np.interp(way, steps, found.tars)))
    assert found.eer == pytest.approx(float(np.interp(way, steps, found.fars)[gap.argmin()]), abs=1e-4)


@pytest.mark.parametrize("change", [np.exp, np.cbrt, np.arctan, lambda s: 7 * s - 3])
def test_only_the_order_of_similarities_counts(change: np.ufunc) -> None:
    similarities, same = _some()
    before, after = verification(similarities, same), verification(change(similarities), same)
    assert (before.auc, before.eer, before.accuracy) == (after.auc, after.eer, after.accuracy)
    for far in (0.01, 0.05, 0.3, 1):
        assert before.tar(far).tar == after.tar(far).tar
        assert before.tar(far).far == after.tar(far).far


def test_the_order_of_the_pairs_does_not_count() -> None:
    similarities, same = _some()
    order = np.random.default_rng(0).permutation(len(same))
    before, after = verification(similarities, same), verification(similarities[order], same[order])
    assert repr(before) == repr(after)
    assert before.tar(0.01) == after.tar(0.01)


def test_the_other_kind_wins_what_this_one_loses() -> None:
    similarities, same = _some()
    assert verification(similarities, same).auc + verification(similarities, ~same).auc == pytest.approx(1)
    assert verification(-similarities, ~same).eer == pytest.approx(verification(similarities, same).eer)


def test_tar_is_taken_at_the_smallest_threshold_that_accepts_few_enough() -> None:
    found = _of([0.9, 0.7, 0.5, 0.3], [0.8, 0.6, 0.4, 0.2])
    for far, threshold, tar in ((0.25, 0.6, 0.5), (0.3, 0.6, 0.5), (0.5, 0.4, 0.75), (0.75, 0.2, 1)):
        point = found.tar(far)
        assert point.threshold == np.nextafter(threshold, 1)
        assert (point.tar, point.reason) == (tar, None)
        assert point.far == math.floor(far * 4) / 4
    assert (found.tar(1).threshold, found.tar(1).tar) == (-INF, 1)


def test_tar_agrees_with_its_definition() -> None:
    similarities, same = _some()
    found = verification(similarities, same)
    others = np.sort(similarities[~same])
    for far in np.linspace(0.006, 1, 97):
        point = found.tar(float(far))
        allowed = math.floor(far * len(others) + 1e-9)
        assert np.sum(others >= point.threshold) <= allowed
        assert point.far == np.mean(others >= point.threshold)
        assert point.tar == np.mean(similarities[same] >= point.threshold)
        assert np.sum(others >= np.nextafter(point.threshold, -1)) > allowed or point.threshold == -INF


def test_impostors_that_tie_are_accepted_all_or_none() -> None:
    found = _of([0.9, 0.5, 0.4], [0.5] * 5 + [0.1] * 5)
    assert found.tar(0.4).far == 0
    assert found.tar(0.4).tar == pytest.approx(1 / 3)
    assert found.tar(0.5).tar == 1


def test_a_share_that_floats_make_a_little_too_small_is_what_was_meant() -> None:
    found = _of([0.5], [k / 100 for k in range(100)])
    assert 0.29 * 100 < 29
    assert found.tar(0.29).far == 0.29


def test_few_impostors_cannot_show_a_small_far() -> None:
    found = _of([0.9], [k / 1000 for k in range(99)])
    point = found.tar(0.01)
    assert all(math.isnan(value) for value in (point.tar, point.far, point.threshold))
    assert point.reason == "99 different pairs cannot show a FAR of 0.01: 100 can"
    assert _of([0.9], [k / 1000 for k in range(100)]).tar(0.01).tar == 1
    assert found.tar(1e-320).reason is not None


def test_pairs_of_one_kind_tell_what_they_can() -> None:
    same, different, none = _of([0.9, 0.8], []), _of([], [k / 100 for k in range(100)]), _of([], [])
    for found in (same, different, none):
        assert all(map(math.isnan, (found.auc, found.eer, found.eer_threshold, found.accuracy)))
        assert math.isnan(found.accuracy_threshold)
    assert same.tars.tolist() == [0, 0.5, 1]
    assert np.isnan(same.fars).all()
    assert same.tar(0.1).reason == "0 different pairs cannot show a FAR of 0.1: 10 can"
    point = different.tar(0.05)
    assert (point.threshold, point.far, point.reason) == (np.nextafter(0.94, 1), 0.05, "no same pairs")
    assert math.isnan(point.tar)
    assert (none.n_same, none.n_different, none.thresholds.tolist()) == (0, 0, [INF])


def test_neighbouring_numbers_have_no_middle_and_are_told_apart() -> None:
    for low in (0.5, 0.3, 0.1, np.nextafter(0.5, 0)):
        high = np.nextafter(low, 1)
        found = _of([high], [low])
        assert found.accuracy == 1
        assert low < found.accuracy_threshold <= high


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(UsageError, match="1 of 3 similarities are no numbers: leave out the pairs not compared"):
        verification(np.array([0.1, bad, 0.3]), np.array([True, False, True]))


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(UsageError, match="expected one number and one bool for each pair"):
        verification(np.array([0.1, 0.2]), np.array([True]))
    with pytest.raises(UsageError, match="expected one number and one bool for each pair"):
        verification(np.array([0.1, 0.2]), np.array([1, 0]))
    for far in (0, -0.1, 1.1, NAN):
        with pytest.raises(UsageError, match="a FAR of"):
            _of([0.1], [0.2]).tar(far)


def test_each_fold_is_judged_with_the_threshold_of_the_others() -> None:
    #                        fold 1      fold 2      fold 3
    similarities = np.array([0.9, 0.35, 0.8, 0.1, 0.3, 0.2])
    same = np.array([True, False, True, False, True, False])
    found = ten_folds(similarities, same, folds=3)
    # The others of fold 1 are told apart between 0.2 and 0.3, so that it takes its own 0.35 for the same; those of
    # fold 2 are best above 0.35 (0.9 | 0.35, 0.3, 0.2) as well as between 0.2 and 0.3, and the higher counts; likewise
    # those of fold 3, between 0.35 and 0.8.
    assert found.thresholds.tolist() == pytest.approx([0.25, 0.625, 0.575])
    assert found.accuracies.tolist() == [0.5, 1, 0.5]
    assert found.mean == pytest.approx(2 / 3)
    assert found.deviation == pytest.approx(math.sqrt((2 * (1 / 6) ** 2 + (1 / 3) ** 2) / 3))


def test_folds_agree_with_a_search_over_all_midpoints() -> None:
    similarities, same = _some(203)
    found = ten_folds(similarities, same)
    sizes = [21, 21, 21, *[20] * 7]
    for k, size in enumerate(sizes):
        fold = np.arange(sum(sizes[:k]), sum(sizes[:k]) + size)
        others, answers = np.delete(similarities, fold), np.delete(same, fold)
        distinct = sorted(set(others.tolist()), reverse=True)
        middles = [INF, *((a + b) / 2 for a, b in pairwise(distinct)), -INF]
        best = max(middles, key=lambda t: (np.sum((others >= t) == answers), t))
        assert found.thresholds[k] == best
        assert found.accuracies[k] == np.mean((similarities[fold] >= best) == same[fold])


def test_folds_agree_with_the_grid_of_squared_distances_where_no_similarity_falls_between_its_steps() -> None:
    random = np.random.default_rng(2)
    same = np.arange(600) % 2 == 0
    distance = np.clip(np.round(random.normal(np.where(same, 1.2, 1.9), 0.3), 2), 0.01, 3.98) + 0.005
    found = ten_folds(1 - distance / 2, same)
    grid = np.arange(0, 4, 0.01)
    for k in range(10):
        test = np.arange(600) // 60 == k
        right = [np.sum((distance[~test] < t) == same[~test]) for t in grid]
        assert found.accuracies[k] == np.mean((distance[test] < grid[int(np.argmax(right))]) == same[test])


def test_folds_of_one_kind_or_of_too_few_pairs() -> None:
    found = ten_folds(np.linspace(0, 1, 20), np.ones(20, bool))
    assert math.isnan(found.mean)
    assert np.isnan(found.accuracies).all()
    sorted_by_kind = ten_folds(np.array([0.1, 0.2]), np.array([True, False]), folds=2)
    assert sorted_by_kind.thresholds.tolist() == [INF, -INF]
    for folds in (1, 0, 10):
        with pytest.raises(UsageError, match=f"5 pairs in {folds} folds"):
            ten_folds(np.zeros(5), np.zeros(5, bool), folds)


def test_advice_is_a_row_for_each_far_and_one_for_the_best_accuracy() -> None:
    random = np.random.default_rng(0)
    found = _of((0.6 + 0.1 * random.standard_normal(500)).tolist(), (0.1 * random.standard_normal(5_000)).tolist())
    rows = advice(found)
    assert [row.goal for row in rows] == ["FAR 0.01", "FAR 0.001", "FAR 0.0001", "best accuracy"]
    assert [row.supported for row in rows] == [True, False, False, True]
    assert rows[0].remark == rows[3].remark == ""
    assert rows[1].remark == "set by 5 of 5000 different pairs, 30 are wanted"
    assert rows[2].remark == "5000 different pairs cannot show a FAR of 0.0001: 10000 can"
    assert rows[0].threshold < rows[1].threshold
    assert math.isnan(rows[2].threshold)
    for row in (rows[0], rows[1]):
        assert (row.threshold, row.tar) == (found.tar(row.far).threshold, found.tar(row.far).tar)
        assert row.accuracy == pytest.approx((row.tar * 500 + (1 - row.far) * 5_000) / 5_500)
    assert rows[3].threshold == found.accuracy_threshold
    assert rows[3].accuracy == pytest.approx(found.accuracy)


def test_advice_on_few_pairs_says_so() -> None:
    rows = advice(_of([0.9] * 40, [0.1] * 29), fars=(0.5,))
    assert [(row.supported, row.remark) for row in rows] == [
        (False, "set by 14 of 29 different pairs, 30 are wanted"),
        (False, "of 40 same and 29 different pairs"),
    ]
    assert [row.supported for row in advice(_of([0.9] * 30, [0.1] * 60), fars=(0.5,))] == [True, True]
    alone = advice(_of([0.9], []))
    assert all(math.isnan(row.threshold) and not row.supported and row.remark for row in alone)
    assert advice(_of([], [0.1] * 100), fars=(0.5,))[0].remark == "no same pairs"


def test_a_pair_goes_when_either_image_is_among_the_worst() -> None:
    similarities = np.array([0.9, 0.1, 0.2, 0.8])
    same = np.array([True, True, False, False])
    a, b = np.array([0.9, 0.1, 0.8, 0.7]), np.array([0.9, 0.9, 0.6, 0.2])
    assert rejecting(similarities, same, a, b, 0).eer == 0.5
    left = rejecting(similarities, same, a, b, 0.25)  # two of eight images: 0.1 and 0.2
    assert (left.n_same, left.n_different, left.eer) == (1, 1, 0)
    assert left.tar(1).tar == 1
    one = rejecting(similarities, same, a, b, 0.24)
    assert (one.n_same, one.n_different) == (1, 2)


def test_images_that_tie_across_the_border_stay() -> None:
    similarities, same = np.array([0.9, 0.8, 0.1, 0.2]), np.array([True, True, False, False])
    a, b = np.array([0.1, 0.5, 0.5, 0.5]), np.array([0.5, 0.9, 0.9, 0.9])
    for share, left in ((0.12, 4), (0.125, 3), (0.5, 3), (0.625, 0)):
        found = rejecting(similarities, same, a, b, share)
        assert found.n_same + found.n_different == left
    equal = np.full(4, 0.5)
    assert rejecting(similarities, same, equal, equal, 0.99).n_same == 2


def test_the_curve_falls_where_quality_tells_errors_and_stays_where_it_tells_nothing() -> None:
    random = np.random.default_rng(1)
    same = np.arange(20_000) % 2 == 0
    quality = random.random((2, 20_000))
    similarities = random.normal(np.where(same, 0.6, 0.0), 0.15 + 0.5 * (1 - quality.min(axis=0)) ** 2)
    found = rejections(similarities, same, *quality)
    assert found.shares.tolist() == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5])
    assert (np.diff(found.eers) < 0).all()
    assert found.eers[0] == verification(similarities, same).eer
    assert found.pairs[0] == 20_000
    assert found.pairs[-1] == pytest.approx(5_000, rel=0.05)
    noise = rejections(similarities, same, *random.random((2, 20_000)))
    assert np.abs(noise.eers - noise.eers[0]).max() < 0.02


def test_rejection_of_all_of_a_kind_is_nan() -> None:
    good, bad = np.ones(2), np.zeros(2)
    found = rejections(np.array([0.9, 0.1]), np.array([True, False]), np.array([0.0, 1.0]), good, (0, 0.3))
    assert found.eers[0] == 0
    assert math.isnan(found.eers[1])
    assert found.pairs.tolist() == [2, 1]
    assert rejecting(np.empty(0), np.empty(0, bool), np.empty(0), np.empty(0), 0.5).n_same == 0
    with pytest.raises(UsageError, match="expected a number for each image"):
        rejecting(np.array([0.9, 0.1]), np.array([True, False]), good, np.ones(3), 0.1)
    with pytest.raises(UsageError, match="expected a number for each image"):
        rejecting(np.array([0.9, 0.1]), np.array([True, False]), good, bad * NAN, 0.1)
    for share in (1, -0.1, NAN):
        with pytest.raises(UsageError, match="a share of"):
            rejecting(np.array([0.9, 0.1]), np.array([True, False]), good, bad, share)
    assert rejecting(np.array([0.9, 0.1]), np.array([True, False]), good, bad, 1 - 1e-16).n_same == 0


def test_a_hundred_thousand_pairs_are_no_other_than_few() -> None:
    random = np.random.default_rng(3)
    same = np.arange(100_000) % 100 == 0
    similarities = random.normal(np.where(same, 0.6, 0.0), 0.1)
    found = verification(similarities, same)
    # Two normal distributions at six deviations: the EER is that of three, and AUC that of six over the root of two.
    assert found.eer == pytest.approx(math.erfc(3 / math.sqrt(2)) / 2, abs=0.002)
    assert found.auc == pytest.approx(1 - math.erfc(3) / 2, abs=1e-4)
    assert found.tar(1e-3).far == pytest.approx(1e-3, abs=1e-5)
    assert ten_folds(similarities, same).mean > 0.99
