"""Figures of verification: how well cosine similarities tell pairs of one person from pairs of two.

Everywhere a pair is accepted when its similarity is at or above the threshold. Same pairs that are accepted make up the
TAR (true accept rate), different pairs the FAR (false accept rate). Thresholds are exact, not those of a grid: where a
figure leaves a gap between two similarities to choose from, each function says which point of it it takes.

Similarities: float64, n. same: bool, n. What only one kind of pairs cannot tell is nan. A similarity that is no number
belongs to a pair that was not compared, and is refused: leave such pairs out, and tell how many they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facebatch.errors import UsageError

Scores = NDArray[np.float64]
Answers = NDArray[np.bool_]

SHARES = tuple(k / 20 for k in range(11))
_FARS = (1e-2, 1e-3, 1e-4)
_TRUSTED = 30
"""Errors from which a rate is within 30 % of the truth in nine of ten cases: the rule of 30 of Doddington et al., "The
NIST speaker recognition evaluation", Speech Communication 31, 2000."""
_SLACK = 1e-9
"""0.29 * 100 is a little less than 29."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold gives. `reason`: why `tar` or `threshold` is nan, or None."""

    threshold: float
    tar: float
    far: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """The figures of a list of pairs, and the curve from which they are taken.

    `accuracy`: the largest share of right answers that one threshold gives, chosen on the pairs it is applied to, and
    so a little too good; `accuracy_threshold`: the middle of the gap, -inf where it accepts all, inf where none. Of
    equally good gaps the highest. Nan for pairs of one kind, about which any threshold could be right.
    `auc`: the share of (same, different) couples of pairs in which the same pair is more similar, ties counting half:
    Mann and Whitney's U, exact.
    `eer`: where FAR and 1 - TAR are equal, on the straight lines between the points of the curve, and its threshold
    likewise.
    `thresholds`, `fars`, `tars`: float64, one for each distinct similarity, falling, after inf, which accepts nothing.
    """

    n_same: int
    n_different: int
    accuracy: float
    accuracy_threshold: float
    auc: float
    eer: float
    eer_threshold: float
    thresholds: Scores
    fars: Scores
    tars: Scores

    def tar(self, far: float) -> Point:
        """The TAR at a FAR above 0: at the smallest float64 threshold that accepts at most far * n_different impostors.

        That is the number next above the similarity of the first impostor too many; -inf where none is. The FAR that
        comes back is the one it has. Nan where far * n_different < 1: so few impostors cannot show it.
        """
        if not 0 < far <= 1:
            raise UsageError(f"a FAR of {far}: expected a share above 0, at most 1")
        allowed = far * self.n_different + _SLACK
        if allowed < 1:
            few = f"{self.n_different} different pairs cannot show a FAR of {far:g}: {1 / far:.0f} can"
            return Point(math.nan, math.nan, math.nan, few)
        accepted = np.rint(self.fars * self.n_different)
        last = int(np.searchsorted(accepted, math.floor(allowed), side="right")) - 1
        after = self.thresholds[last + 1 :]
        threshold = float(np.nextafter(after[0], math.inf)) if len(after) else -math.inf
        reason = None if self.n_same else "no same pairs"
        return Point(threshold, float(self.tars[last]), float(self.fars[last]), reason)


def verification(similarities: Scores, same: Answers) -> Verification:
    """The figures of n pairs; n may be 0. Raises UsageError where a similarity is no number."""
    similarities, same = _checked(similarities, same)
    thresholds, tp, fp = _curve(similarities, same)
    n_same, n_different = int(tp[-1]), int(fp[-1])
    accuracy, accuracy_threshold = _best(thresholds, tp, fp)
    tars = tp / n_same if n_same else np.full(len(tp), math.nan)
    fars = fp / n_different if n_different else np.full(len(fp), math.nan)
    auc = eer = eer_threshold = math.nan
    if n_same and n_different:
        # From one point to the next, new impostors lose to the same pairs accepted before and tie with the new ones.
        auc = float(np.sum(np.diff(fp) * (tp[1:] + tp[:-1]))) / 2 / n_same / n_different
        eer, eer_threshold = _eer(thresholds, tars, fars)
    return Verification(
        n_same, n_different, accuracy, accuracy_threshold, auc, eer, eer_threshold, thresholds, fars, tars
    )


@dataclass(frozen=True, slots=True)
class Folds:
    """`accuracies`, `thresholds`: float64, one for each fold; `mean`, `deviation` (of the folds, divided by their
    number, as insightface reports it) of the accuracies."""

    accuracies: Scores
    thresholds: Scores
    mean: float
    deviation: float


def ten_folds(similarities: Scores, same: Answers, folds: int = 10) -> Folds:
    """LFW's protocol: the pairs are cut into contiguous folds, the first ones longer by one where they cannot be equal;
    each is judged with the threshold that is most often right on all others.

    Tried are all midpoints between neighbouring similarities of the others, and -inf and inf; of equally good ones the
    highest is taken. insightface tries 400 squared distances d² = 2 - 2 cos, 0 to 4 in steps of 0.01, which are steps
    of 0.005 in the cosine, accepts what is below, and takes the smallest of equally good ones: the highest cosine too.

    Nan for pairs of one kind. Raises UsageError for fewer pairs than folds.

    Source: Huang et al., "Labeled Faces in the Wild", 2007; insightface recognition/arcface_torch/eval/verification.py.
    """
    similarities, same = _checked(similarities, same)
    if not 2 <= folds <= len(same):
        raise UsageError(f"{len(same)} pairs in {folds} folds: expected at least 2 folds, and a pair for each")
    accuracies, thresholds = np.full(folds, math.nan), np.full(folds, math.nan)
    if same.any() and not same.all():
        for k, fold in enumerate(np.array_split(np.arange(len(same)), folds)):
            others = np.ones(len(same), bool)
            others[fold] = False
            thresholds[k] = _best_of(similarities[others], same[others])
            accuracies[k] = np.mean((similarities[fold] >= thresholds[k]) == same[fold])
    return Folds(accuracies, thresholds, float(accuracies.mean()), float(accuracies.std()))


@dataclass(frozen=True, slots=True)
class Advice:
    """A row of a table: a goal in words, the threshold for it, TAR, FAR and accuracy there, whether the number of
    different pairs supports it, and a remark that says why not."""

    goal: str
    threshold: float
    tar: float
    far: float
    accuracy: float
    supported: bool
    remark: str


def advice(found: Verification, fars: Sequence[float] = _FARS) -> tuple[Advice, ...]:
    """Thresholds to choose from: one for each FAR, and the one of the best accuracy.

    A FAR is supported from 30 false accepts on (rule of 30), at less than one its row is nan.
    """
    rows = []
    for far in fars:
        point, expected = found.tar(far), far * found.n_different + _SLACK
        remark = point.reason or ""
        if not remark and expected < _TRUSTED:
            remark = f"set by {int(expected)} of {found.n_different} different pairs, {_TRUSTED} are wanted"
        supported = point.reason is None and expected >= _TRUSTED
        rows.append(_row(f"FAR {far:g}", found, point, supported, remark))
    at = found.accuracy_threshold
    k = int(np.sum(found.thresholds >= at)) - 1
    tar, far = (math.nan if math.isnan(at) else float(rates[k]) for rates in (found.tars, found.fars))
    both = min(found.n_same, found.n_different)
    remark = "" if both >= _TRUSTED else f"of {found.n_same} same and {found.n_different} different pairs"
    return (*rows, _row("best accuracy", found, Point(at, tar, far), both >= _TRUSTED, remark))


def rejecting(similarities: Scores, same: Answers, quality_a: Scores, quality_b: Scores, share: float) -> Verification:
    """The figures of the pairs that are left when the images of the worst quality are rejected: a pair goes when either
    of its images does.

    quality_a, quality_b: float64, n, of the first and the second image of each pair, larger is better. share: of
    images, 0 to below 1, where an image counts as often as it is in a pair. Of images of equal quality all go or all
    stay, and at most this share goes: those that tie across the border stay.
    """
    similarities, same = _checked(similarities, same)
    quality = np.concatenate([np.asarray(quality_a, np.float64), np.asarray(quality_b, np.float64)])
    if quality.shape != (2 * len(same),) or len(quality_a) != len(same) or not np.isfinite(quality).all():
        raise UsageError(
            f"qualities of {len(quality_a)} and {len(quality_b)} images for {len(same)} pairs: "
            "expected a number for each image of each pair"
        )
    if not 0 <= share < 1:
        raise UsageError(f"a share of {share} rejected: expected 0 to below 1")
    if len(same):
        worst = np.sort(quality)[min(math.floor(share * len(quality) + _SLACK), len(quality) - 1)]
        kept = (quality >= worst).reshape(2, -1).all(axis=0)
        similarities, same = similarities[kept], same[kept]
    return verification(similarities, same)


@dataclass(frozen=True, slots=True)
class Rejections:
    """The error-versus-reject curve. `shares` of images rejected, `eers` of the pairs that are left, `pairs`: how many
    these are, of the most at share 0. float64, float64, int64."""

    shares: Scores
    eers: Scores
    pairs: NDArray[np.int64]


def rejections(
    similarities: Scores, same: Answers, quality_a: Scores, quality_b: Scores, shares: Sequence[float] = SHARES
) -> Rejections:
    """The EER as ever more of the worst images are rejected (`rejecting`). A quality that tells anything makes it fall.

    Source: Grother and Tabassi, "Performance of biometric quality measures", PAMI 29, 2007, who reject pairs by the
    worse of their two images and draw the misses at a fixed threshold; here the threshold is each time the EER's own.
    """
    found = [rejecting(similarities, same, quality_a, quality_b, share) for share in shares]
    return Rejections(
        np.array(shares, np.float64),
        np.array([one.eer for one in found], np.float64),
        np.array([one.n_same + one.n_different for one in found], np.int64),
    )


def _checked(similarities: Scores, same: Answers) -> tuple[Scores, Answers]:
    similarities, same = np.asarray(similarities, np.float64), np.asarray(same)
    if similarities.ndim != 1 or similarities.shape != same.shape or (len(same) and same.dtype != bool):
        raise UsageError(
            f"similarities of shape {similarities.shape}, answers of shape {same.shape} and type {same.dtype}: "
            "expected one number and one bool for each pair"
        )
    missing = int(np.sum(~np.isfinite(similarities)))
    if missing:
        raise UsageError(f"{missing} of {len(same)} similarities are no numbers: leave out the pairs not compared")
    return similarities, same.astype(bool)


def _curve(similarities: Scores, same: Answers) -> tuple[Scores, NDArray[np.int64], NDArray[np.int64]]:
    """Distinct similarities, falling, after inf; and how many same and different pairs each accepts as a threshold."""
    distinct, at = np.unique(-similarities, return_inverse=True)
    tp, fp = (np.cumsum(np.bincount(at[kind], minlength=len(distinct))) for kind in (same, ~same))
    before = np.zeros(1, np.int64)
    return np.append(math.inf, -distinct), np.append(before, tp), np.append(before, fp)


def _best(thresholds: Scores, tp: NDArray[np.int64], fp: NDArray[np.int64]) -> tuple[float, float]:
    """The best accuracy and its threshold, the middle of its gap."""
    if not tp[-1] or not fp[-1]:
        return math.nan, math.nan
    right = tp + fp[-1] - fp
    k = int(np.argmax(right))
    return float(right[k]) / float(tp[-1] + fp[-1]), _gap(thresholds, k)


def _gap(thresholds: Scores, k: int) -> float:
    """The threshold in the middle between the lowest similarity that is accepted, number k, and the next."""
    if k in (0, len(thresholds) - 1):
        return -math.inf if k else math.inf
    middle = float(thresholds[k] + thresholds[k + 1]) / 2
    # Between neighbouring floats there is no middle, and what rounds down would accept the pair below.
    return middle if middle > thresholds[k + 1] else float(thresholds[k])


def _best_of(similarities: Scores, same: Answers) -> float:
    """As `_best`, also for pairs of one kind: accept all of the same, none of different ones."""
    if same.all() or not same.any():
        return -math.inf if same.all() else math.inf
    return _best(*_curve(similarities, same))[1]


def _eer(thresholds: Scores, tars: Scores, fars: Scores) -> tuple[float, float]:
    excess = fars - (1 - tars)  # rises strictly from -1 to 1
    k = int(np.argmax(excess >= 0))
    part = float(excess[k - 1] / (excess[k - 1] - excess[k]))
    above = float(thresholds[max(k - 1, 1)])  # the first threshold is inf
    eer = fars[k - 1] + part * (fars[k] - fars[k - 1])
    return float(eer), above * (1 - part) + float(thresholds[k]) * part


def _row(goal: str, found: Verification, point: Point, supported: bool, remark: str) -> Advice:
    n = found.n_same + found.n_different
    right = point.tar * found.n_same + (1 - point.far) * found.n_different
    accuracy = right / n if found.n_same and found.n_different else math.nan
    return Advice(goal, point.threshold, point.tar, point.far, accuracy, supported, remark)
