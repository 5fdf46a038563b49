"""Training pictures by step: which ones hangs on the seed and the step, and on nothing else."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from facebatch.training.loader import batches

pytestmark = pytest.mark.reference


def _sample(index: int, random: np.random.Generator) -> dict[str, Any]:
    return {"index": index, "drawn": random.random()}


def _batches(steps: int, first: int = 0, count: int = 10, size: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    return list(islice(batches(_sample, count, size, seed, first, 0), steps))


def test_in_each_epoch_every_sample_comes_once_in_another_order_drawn_anew() -> None:
    made = _batches(4, count=6)
    epochs = [torch.cat([batch["index"] for batch in made[k : k + 2]]).tolist() for k in (0, 2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(6))] * 2
    assert epochs[0] != epochs[1]
    assert len({value for batch in made for value in batch["drawn"].tolist()}) == 12


def test_the_few_that_fill_no_batch_are_left_out() -> None:
    """Three batches of three of ten, and the fourth is the next epoch's first."""
    made = [batch["index"].tolist() for batch in _batches(6)]
    assert all(len(batch) == 3 for batch in made)
    for epoch in (made[:3], made[3:]):
        assert len({index for batch in epoch for index in batch}) == 9


def test_a_later_start_gives_the_same_batches() -> None:
    whole = _batches(9)
    for first in (1, 3, 5):
        for one, other in zip(whole[first:], _batches(9 - first, first), strict=True):
            assert torch.equal(one["index"], other["index"])
            assert torch.equal(one["drawn"], other["drawn"])


def test_another_seed_gives_others() -> None:
    one, other = _batches(1)[0], _batches(1, seed=1)[0]
    assert one["drawn"].tolist() != other["drawn"].tolist()


def test_fewer_samples_than_a_batch_are_a_smaller_one() -> None:
    assert sorted(_batches(1, count=2)[0]["index"].tolist()) == [0, 1]
