"""The figures of an embedder on a list of pairs: from vectors to a row of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facebatch.embed import DIMENSIONS
from facebatch.evaluation.embedding import Embedded, How
from facebatch.evaluation.pairs import Pairs
from facebatch.evaluation.scores import (
    Advice,
    Answers,
    Folds,
    Rejections,
    Scores,
    Verification,
    advice,
    rejecting,
    rejections,
    ten_folds,
    verification,
)

Missing = Literal["reject", "leave out"]
"""What becomes of a pair of which an image has no vector. "reject": it counts as not accepted, so that a same pair is a
miss, as it is for a user. "leave out": the other pairs are judged alone."""
REJECTED = -1.0
"""The similarity of a pair that could not be judged: no two vectors are less alike."""
REJECT_SHARE = 0.1
_ENOUGH = 100
"""Pairs of each kind from which lists without folds of their own are cut into ten."""
_AT_ONCE = 1 << 15
"""Pairs compared at once: 130 MB."""


@dataclass(frozen=True, slots=True)
class Row:
    """One embedder on one data set, with or without the mirror images.

    `images`, `found`: how many there are, and have a vector. `same`, `different`: pairs of each kind; `unjudged`: those
    of both of which an image has no vector, which count as rejected or do not count (`Missing`).
    `accuracy` to `tar_1e4`: as in `facebatch.evaluation.scores`; nan where the pairs cannot show it.
    `folds_mean`, `folds_deviation`: accuracy over ten folds, or those of the list; nan where there are too few pairs.
    `separated`: whether every same pair is more alike than every different one.
    `eer_judged`, `eer_kept`: the EER of the pairs that were judged, and of those of them that are left when the worst
    10 % of images by `quality` are rejected. `advice`: thresholds to choose from.
    """

    data: str
    how: How
    embedder: str
    flip: bool
    images: int
    found: int
    same: int
    different: int
    unjudged: int
    accuracy: float
    auc: float
    eer: float
    tar_1e3: float
    tar_1e4: float
    folds_mean: float
    folds_deviation: float
    separated: bool
    eer_judged: float
    eer_kept: float
    advice: tuple[Advice, ...]

    def cells(self) -> dict[str, str]:
        """As a row of a table; "-" for what cannot be told."""
        at = {one.goal: one.threshold for one in self.advice}
        told = math.isfinite(self.folds_mean)
        return {
            "data": self.data,
            "embedder": self.embedder + (" +flip" if self.flip else ""),
            "images": f"{self.images}" if self.found == self.images else f"{self.found} of {self.images}",
            "pairs": f"{self.same} + {self.different}",
            "not judged": str(self.unjudged),
            "accuracy": _share(self.accuracy),
            "folds": f"{_share(self.folds_mean)} +- {_share(self.folds_deviation)}" if told else "-",
            "AUC": _number(self.auc),
            "EER": _share(self.eer),
            "TAR@1e-3": _share(self.tar_1e3),
            "TAR@1e-4": _share(self.tar_1e4),
            "at FAR 1e-3": _number(at["FAR 0.001"]),
            "at best": _number(at["best accuracy"]),
            "separated": "yes" if self.separated else "no",
            "EER, worst 10 % rejected": f"{_share(self.eer_judged)} -> {_share(self.eer_kept)}",
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """The pairs of a list with what their vectors say. `similarities`: float64, n, cosines, -1 where an image of a pair
    has no vector; `known`: bool, n, where both have one; `same`: bool, n; `quality`: float64, 2 x n, of both images of
    each pair, nan where there is none."""

    similarities: Scores
    known: NDArray[np.bool_]
    same: Answers
    quality: Scores

    @classmethod
    def of(cls, pairs: Pairs, found: Sequence[Embedded | None], flip: bool) -> Judged:
        """found: one for each image of the pairs, in order."""
        there = np.array([one is not None for one in found])
        vectors = np.zeros((len(found), DIMENSIONS), np.float32)
        quality = np.full(len(found), math.nan)
        for k, one in enumerate(found):
            if one and one.face.quality:
                vectors[k] = one.flipped if flip else one.plain
                quality[k] = one.face.quality.quality
        known = there[pairs.first] & there[pairs.second]
        cosines = np.empty(len(pairs))
        for start in range(0, len(pairs), _AT_ONCE):
            a, b = (side[start : start + _AT_ONCE] for side in (pairs.first, pairs.second))
            cosines[start : start + _AT_ONCE] = np.einsum("ij,ij->i", vectors[a], vectors[b], dtype=np.float64)
        quality_of = np.stack([quality[pairs.first], quality[pairs.second]])
        return cls(np.where(known, cosines, REJECTED), known, pairs.same, quality_of)

    def counted(self, missing: Missing) -> tuple[Scores, Answers]:
        """Similarities and answers of the pairs that count."""
        kept = self.known if missing == "leave out" else np.ones(len(self.known), bool)
        return self.similarities[kept], self.same[kept]

    def rejecting(self, share: float) -> Verification:
        """The figures of judged pairs without the worst share of images."""
        return rejecting(*self._with_quality(), share)

    def rejections(self) -> Rejections:
        """The EER of judged pairs as ever more images are rejected."""
        return rejections(*self._with_quality())

    def _with_quality(self) -> tuple[Scores, Answers, Scores, Scores]:
        first, second = self.quality[:, self.known]
        return self.similarities[self.known], self.same[self.known], first, second


def figures(
    pairs: Pairs, how: How, embedder: str, flip: bool, found: Sequence[Embedded | None], missing: Missing = "reject"
) -> Row:
    """The row of an embedder. found: what it gave for each image of the pairs, in order."""
    judged = Judged.of(pairs, found, flip)
    counted, same = judged.counted(missing)
    all_in_all = verification(counted, same)
    folds = _folds(counted, same, pairs.folds if len(same) == len(pairs) else 0)
    return Row(
        data=pairs.name,
        how=how,
        embedder=embedder,
        flip=flip,
        images=len(found),
        found=sum(one is not None for one in found),
        same=all_in_all.n_same,
        different=all_in_all.n_different,
        unjudged=int(np.sum(~judged.known)),
        accuracy=all_in_all.accuracy,
        auc=all_in_all.auc,
        eer=all_in_all.eer,
        tar_1e3=all_in_all.tar(1e-3).tar,
        tar_1e4=all_in_all.tar(1e-4).tar,
        folds_mean=folds.mean if folds else math.nan,
        folds_deviation=folds.deviation if folds else math.nan,
        separated=bool(same.any() and not same.all() and counted[same].min() > counted[~same].max()),
        eer_judged=judged.rejecting(0).eer,
        eer_kept=judged.rejecting(REJECT_SHARE).eer,
        advice=advice(all_in_all),
    )


def _folds(similarities: Scores, same: Answers, folds: int) -> Folds | None:
    """Over the folds of the list. One without any is dealt out at random, always alike: its order may put all pairs of
    a kind together."""
    if folds:
        return ten_folds(similarities, same, folds)
    if min(same.sum(), (~same).sum()) < _ENOUGH:
        return None
    order = np.random.default_rng(0).permutation(len(same))
    return ten_folds(similarities[order], same[order])


def _share(value: float) -> str:
    return f"{100 * value:.2f} %" if math.isfinite(value) else "-"


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"
