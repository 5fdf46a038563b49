"""Training pictures by step, made beside the training by processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

Sample = dict[str, Any]


class _Samples(Dataset[Sample]):
    def __init__(self, make: Callable[[int, np.random.Generator], Sample], seed: int) -> None:
        self._make, self._seed = make, seed

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        epoch, index = place
        return self._make(index, np.random.default_rng([self._seed, epoch, index]))


def batches(
    make: Callable[[int, np.random.Generator], Sample], count: int, size: int, seed: int, first: int, workers: int
) -> Iterator[Sample]:
    """Batches for the steps `first`, `first` + 1, ... without end. make: sample `index` of `count`, from a generator.

    In each epoch every sample comes once, in another order; the few that fill no batch are left out. A step's batch
    hangs on nothing but the seed and the step.
    """
    per_epoch = max(1, count // size)

    def places() -> Iterator[list[tuple[int, int]]]:
        step = first
        while True:
            epoch, at = divmod(step, per_epoch)
            order = np.random.default_rng([seed, epoch]).permutation(count)
            yield [(epoch, int(i)) for i in order[at * size : (at + 1) * size]]
            step += 1

    loader = DataLoader(
        _Samples(make, seed),
        batch_sampler=_Endless(places),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,  # photographs and networks are shared, not copied
        worker_init_fn=_one_thread,
    )
    yield from loader


class _Endless:
    def __init__(self, places: Callable[[], Iterator[list[tuple[int, int]]]]) -> None:
        self._places = places

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self._places()


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
