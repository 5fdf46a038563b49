"""The figures of an embedder: which pairs count, and what a row says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from facebatch.evaluation.embedding import Embedded
from facebatch.evaluation.figures import Judged, Row, figures
from facebatch.evaluation.pairs import Pairs
from facebatch.geometry import Floats
from facebatch.quality import Quality
from facebatch.work import Face


def _unit(*numbers: float) -> Floats:
    vector = np.zeros(512, np.float32)
    vector[: len(numbers)] = numbers
    return vector / np.float32(np.linalg.norm(vector))


def _embedded(plain: Floats, quality: float = 1.0, flipped: Floats | None = None) -> Embedded:
    face = Face(np.array([0, 0, 112, 112], np.float32), 1.0, None, quality=Quality(500.0, 0.5, None, quality, ()))
    return Embedded(face, plain, plain if flipped is None else flipped)


def _pairs(ends: Sequence[tuple[int, int, bool]], folds: int = 0) -> Pairs:
    a, b, same = (np.array(column) for column in zip(*ends, strict=True))
    return Pairs(tuple(f"{k}.png" for k in range(1 + max(a.max(), b.max()))), a, b, same, folds, "list.tsv")


def _row(found: Sequence[Embedded | None], ends: Sequence[tuple[int, int, bool]], flip: bool = False) -> Row:
    return figures(_pairs(ends), "photos", "test", flip, found)


ANN, BOB = _unit(1, 0.1), _unit(0.1, 1)
ENDS = [(0, 1, True), (2, 3, True), (0, 2, False), (1, 3, False)]


def test_similarities_are_cosines() -> None:
    found = [_embedded(v) for v in (ANN, _unit(1, 0.3), BOB, _unit(-1))]
    judged = Judged.of(_pairs(ENDS), found, flip=False)
    expected = [found[a].plain @ found[b].plain for a, b, _ in ENDS]
    assert judged.similarities == pytest.approx(expected, abs=1e-6)
    assert judged.known.all()


def test_more_pairs_than_are_compared_at_once_are_all_compared() -> None:
    found = [_embedded(ANN), _embedded(BOB)]
    judged = Judged.of(_pairs([(0, int(k % 3 == 0), k % 3 > 0) for k in range(40_000)]), found, flip=False)
    assert np.abs(judged.similarities[judged.same] - 1).max() < 1e-6
    assert np.abs(judged.similarities[~judged.same] - float(ANN @ BOB)).max() < 1e-6


def test_mirror_images_count_where_they_are_asked_for() -> None:
    found = [_embedded(ANN, flipped=ANN), _embedded(BOB, flipped=ANN), _embedded(BOB), _embedded(BOB)]
    plain, flipped = (_row(found, ENDS, flip) for flip in (False, True))
    assert not plain.separated
    assert flipped.separated
    assert (plain.cells()["embedder"], flipped.cells()["embedder"]) == ("test", "test +flip")


def test_a_pair_without_a_vector_is_rejected_so_that_a_same_one_is_a_miss() -> None:
    found = [_embedded(ANN), None, _embedded(BOB), _embedded(BOB)]
    row = _row(found, ENDS)
    assert (row.found, row.images, row.unjudged, row.same, row.different) == (3, 4, 2, 2, 2)
    assert row.accuracy == pytest.approx(0.75)
    assert not row.separated
    assert row.cells()["images"] == "3 of 4"


def test_pairs_without_a_vector_can_be_left_out() -> None:
    found = [_embedded(ANN), None, _embedded(BOB), _embedded(BOB)]
    row = figures(_pairs(ENDS), "photos", "test", False, found, "leave out")
    assert (row.unjudged, row.same, row.different) == (2, 1, 1)
    assert row.accuracy == 1
    assert row.separated


def test_one_same_pair_less_alike_than_a_different_one_is_enough_not_to_be_separated() -> None:
    found = [_embedded(v) for v in (ANN, ANN, BOB, BOB, _unit(0.6, 1))]
    assert not _row(found, [*ENDS, (0, 1, True), (2, 3, True), (0, 4, True), (2, 4, False)]).separated


def test_only_pairs_of_both_kinds_can_separate() -> None:
    found = [_embedded(ANN), _embedded(ANN)]
    assert not _row(found, [(0, 1, True)]).separated
    assert not _row(found, [(0, 1, False)]).separated


def test_rejecting_the_worst_images_lowers_the_eer_where_quality_tells() -> None:
    good = [_embedded(ANN), _embedded(ANN), _embedded(BOB), _embedded(BOB)]
    ends = [(a, b, (a < 2) == (b < 2)) for a in range(4) for b in range(a)] * 5
    bad = [(4, 0, True)]
    row = _row([*good, _embedded(BOB, 0.2)], ends + bad)
    assert row.eer_judged > 0 == row.eer_kept
    assert row.cells()["EER, worst 10 % rejected"].endswith("-> 0.00 %")


def test_images_without_a_face_have_no_quality_and_play_no_part_in_rejection() -> None:
    good = [_embedded(ANN), _embedded(ANN), _embedded(BOB), _embedded(BOB)]
    ends = [(a, b, (a < 2) == (b < 2)) for a in range(4) for b in range(a)]
    row = _row([*good, None], [*ends, (4, 0, True)])
    assert row.eer > 0 == row.eer_judged


def test_folds_of_the_list_are_kept_and_other_lists_are_dealt_out() -> None:
    found = [_embedded(ANN), _embedded(ANN), _embedded(BOB)]
    ends = [(0, 1, True)] * 100 + [(0, 2, False)] * 100
    assert _row(found, ends).folds_mean == 1
    assert math.isnan(_row(found, ends[1:]).folds_mean)
    own = figures(_pairs(ends, folds=2), "photos", "test", False, found)
    assert own.folds_mean == 0  # each fold is judged by the other, which holds the other kind alone: all or none


def test_lists_without_folds_are_dealt_out_so_that_their_order_does_not_matter() -> None:
    found = [_embedded(ANN), _embedded(ANN), _embedded(BOB)]
    ends = [(0, 1, True)] * 100 + [(0, 2, False)] * 80 + [(0, 1, False)] * 20
    assert _row(found, ends).folds_mean == pytest.approx(0.9)
    assert _row(found, ends).folds_deviation < 0.15, "in the order of the list the last fold is all wrong: 0.3"


def test_what_cannot_be_told_is_a_dash() -> None:
    found = [_embedded(v) for v in (ANN, ANN, BOB, BOB)]
    cells = _row(found, ENDS).cells()
    assert (cells["TAR@1e-3"], cells["at FAR 1e-3"], cells["folds"]) == ("-", "-", "-")
    assert (cells["accuracy"], cells["AUC"], cells["EER"], cells["separated"]) == (
        "100.00 %",
        "1.0000",
        "0.00 %",
        "yes",
    )
    assert cells["pairs"] == "2 + 2"
