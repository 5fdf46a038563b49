"""The arrays of a published checkpoint, taken one by one by the architecture that they are to fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from facebatch.errors import FacebatchError
from facebatch.geometry import Floats

_STATISTICS = ("running_mean", "running_var", "moving_mean", "moving_var", "moving_variance", "num_batches_tracked")


class Source(Protocol):
    """Where an architecture gets its weights from: a checkpoint, or random numbers in a test."""

    def take(self, name: str, *shape: int) -> Floats: ...


class Checkpoint:
    """Arrays by name. Every array must be taken once and have the shape that the architecture asks for.

    what: names the file in messages.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], what: str) -> None:
        self._left = dict(arrays)
        self._what = what
        self.trainable = 0
        """Parameters taken so far, as papers count them: without the running statistics of batch norms."""

    def take(self, name: str, *shape: int) -> Floats:
        """The array of that name, float32. Raises FacebatchError when it is absent or of another shape."""
        if name not in self._left:
            raise FacebatchError(f"{self._what} is another model: it has no array {name!r}")
        array = self._left.pop(name)
        if array.shape != shape:
            raise FacebatchError(
                f"{self._what} is another model: array {name!r} has shape {array.shape}, expected {shape}"
            )
        if not np.isfinite(array).all():
            raise FacebatchError(f"{self._what} is damaged: array {name!r} holds numbers that are not finite")
        if not name.endswith(_STATISTICS):
            self.trainable += array.size
        return array.astype(np.float32)

    def finish(self) -> None:
        """Raises FacebatchError if the file holds arrays that nobody asked for."""
        rest = [name for name in self._left if not name.endswith("num_batches_tracked")]
        if rest:
            raise FacebatchError(
                f"{self._what} is another model: {len(rest)} of its arrays have no place here, {rest[0]!r} is one"
            )
