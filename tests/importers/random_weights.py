"""Random weights for any architecture that asks for them: a `checkpoint.Source` that makes what is taken."""

from __future__ import annotations

import numpy as np

from facebatch.geometry import Floats


class RandomWeights:
    """Gives an array for each name, the same each time, and counts what is trainable as papers do.

    gain: what a layer does to the size of its input. tensorflow: kernels come as height, width, in, out.
    """

    def __init__(self, gain: float = 0.7, tensorflow: bool = False) -> None:
        self._random, self._gain, self._tensorflow = np.random.default_rng(0), gain, tensorflow
        self.arrays: dict[str, Floats] = {}

    def take(self, name: str, *shape: int) -> Floats:
        if name not in self.arrays:
            made = self._random.standard_normal(shape, np.float32)
            if name.endswith(("var", "variance")):
                made = np.abs(made) * np.float32(0.2) + np.float32(0.9)
            elif len(shape) > 1:
                made *= np.float32(self._gain * self._fan_in(name, shape) ** -0.5)
            else:
                made = made * np.float32(0.1) + np.float32(name.endswith(("weight", "gamma")))
            self.arrays[name] = made
        return self.arrays[name]

    def _fan_in(self, name: str, shape: tuple[int, ...]) -> int:
        if not self._tensorflow:
            return int(np.prod(shape[1:]))
        return int(np.prod(shape[:2] if "depthwise" in name else shape[:-1]))

    @property
    def trainable(self) -> int:
        statistics = ("running_mean", "running_var", "moving_mean", "moving_variance")
        return sum(array.size for name, array in self.arrays.items() if not name.endswith(statistics))
