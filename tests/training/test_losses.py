"""What a detector is punished for, worked out by hand."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor

from facebatch.training.losses import hardest, losses
from facebatch.training.networks import Outputs

pytestmark = pytest.mark.reference


def _conf(likeness: list[list[float]]) -> Tensor:
    """Logits whose difference, face less background, is given."""
    return torch.stack([torch.full_like(torch.tensor(likeness), 0.5), torch.tensor(likeness) + 0.5], dim=2)


def _outputs(likeness: list[list[float]], landms: bool = True) -> Outputs:
    conf = _conf(likeness)
    n, count, _ = conf.shape
    points = {"landms": torch.zeros(n, count, 10)} if landms else {}
    return {"conf": conf, "loc": torch.zeros(n, count, 4)} | points


def _nothing(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, count = labels.shape
    return torch.zeros(n, count, 4), torch.zeros(n, count, 10), torch.zeros(n, count, dtype=torch.bool)


def test_three_negatives_count_for_each_face_those_that_look_most_like_one() -> None:
    labels = torch.tensor([[1, 0, 0, 0, 0, 0]])
    chosen = hardest(_conf([[9.0, 0.1, 5.0, -3.0, 2.0, 0.2]]), labels)
    assert chosen.tolist() == [[False, False, True, False, True, True]]


def test_what_is_neither_never_counts_and_there_may_be_fewer_negatives_than_that() -> None:
    labels = torch.tensor([[1, 1, 0, -1, -1, 0]])
    chosen = hardest(_conf([[1.0, 1.0, -9.0, 8.0, 9.0, -8.0]]), labels)
    assert chosen.tolist() == [[False, False, True, False, False, True]]


def test_a_picture_without_faces_shows_as_many_negatives_as_its_batch_does_on_average() -> None:
    """Three faces in two pictures, one and a half each, hence two, of which each has three negatives."""
    labels = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0, 0, 0], [0] * 10])
    likeness = [[float(k) for k in range(10)]] * 2
    assert hardest(_conf(likeness), labels).sum(1).tolist() == [7, 6]
    assert hardest(_conf(likeness), torch.zeros_like(labels)).sum(1).tolist() == [3, 3]


def test_scores_are_punished_by_cross_entropy_for_each_face() -> None:
    """In the first picture the face and the negatives 1, 3 and 0.5; in the second, without a face, 2, 0.1 and -1."""
    labels = torch.tensor([[1, 0, 0, 0, 0], [0, 0, 0, 0, -1]])
    found = losses(_outputs([[2.0, 1.0, -1.0, 3.0, 0.5], [0.1, -1.0, 2.0, -4.0, 9.0]]), labels, *_nothing(labels))
    expected = log(1 + exp(-2.0)) + sum(log(1 + exp(k)) for k in (1.0, 3.0, 0.5, 2.0, 0.1, -1.0))
    assert found.scores.item() == pytest.approx(expected, rel=1e-5)


def test_the_sum_is_shared_by_all_faces_of_the_batch() -> None:
    labels = torch.tensor([[1, 1, -1], [1, -1, -1]])
    found = losses(_outputs([[0.0, 1.0, 9.0], [-2.0, 9.0, 9.0]]), labels, *_nothing(labels))
    expected = sum(log(1 + exp(-k)) for k in (0.0, 1.0, -2.0)) / 3
    assert found.scores.item() == pytest.approx(expected, rel=1e-5)


def test_boxes_are_punished_by_smooth_l1_where_there_is_a_face_and_weigh_four_times() -> None:
    """Half of the square below 1, and the distance less a half above: 0.125 and 1.5 of the first face, 2.5 of the
    second; four numbers each."""
    labels = torch.tensor([[1, 0, 1], [0, 0, -1]])
    loc, landms, marked = _nothing(labels)
    loc[0, 0] = torch.tensor([0.5, -2.0, 0.0, 0.0])
    loc[0, 2] = torch.tensor([0.0, 0.0, 0.0, 3.0])
    loc[0, 1] = loc[1, 2] = 100.0
    found = losses(_outputs([[0.0] * 3] * 2), labels, loc, landms, marked)
    assert found.boxes.item() == pytest.approx((0.125 + 1.5 + 2.5) / 4 / 2)
    assert found.points.item() == 0
    assert found.total().item() == pytest.approx(found.scores.item() + 4 * found.boxes.item())


def test_points_are_punished_where_they_are_marked_by_their_distance_and_weigh_ten_times() -> None:
    """Ten numbers of the one face of three that is marked: the distance less a tenth, and below 0.2 2.5 of its
    square."""
    labels = torch.tensor([[1, 1, 0], [1, 0, 0]])
    loc, landms, marked = _nothing(labels)
    landms[0, 1] = torch.tensor([2.0] * 5 + [0.1] * 5)
    landms[0, 0] = landms[1, 0] = 100.0
    marked[0, 1] = True
    found = losses(_outputs([[0.0] * 3] * 2), labels, loc, landms, marked)
    assert found.points.item() == pytest.approx((5 * 1.9 + 5 * 0.025) / 10)
    assert found.total().item() == pytest.approx(found.scores.item() + 10 * found.points.item())
    assert found.total(points=1.0).item() == pytest.approx(found.scores.item() + found.points.item())


def test_a_network_without_points_is_not_punished_for_them() -> None:
    labels = torch.tensor([[1, 0]])
    loc, landms, marked = _nothing(labels)
    found = losses(_outputs([[0.0, 0.0]], landms=False), labels, loc, landms + 5, marked | True)
    assert found.points.item() == 0


def test_a_batch_without_faces_teaches_what_is_background_and_nothing_else() -> None:
    labels = torch.zeros(2, 4, dtype=torch.int64)
    outputs = {name: value.requires_grad_() for name, value in _outputs([[0.0, 1.0, 2.0, 3.0]] * 2).items()}
    found = losses(outputs, labels, *_nothing(labels))
    found.total().backward()
    assert found.total().item() == pytest.approx(2 * sum(log(1 + exp(k)) for k in (1.0, 2.0, 3.0)), rel=1e-5)
    slopes = outputs["conf"].grad
    assert slopes is not None
    assert (slopes[:, 0] == 0).all()
    assert (slopes[:, 1:, 1] > 0).all()
    assert outputs["loc"].grad is None or not outputs["loc"].grad.any()
