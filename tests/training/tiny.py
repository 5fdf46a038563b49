"""A training of a second or two, to be killed: python -m tests.training.tiny FOLDER STEPS"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facebatch.training.loader import Sample
from facebatch.training.loop import Plan, fit

COUNT = 30
EVERY = 7
"""Neither an epoch nor the steady part ends with a judgement."""


def network() -> nn.Module:
    """A matrix, other weights that decay, ones that do not, running statistics, and channels that come last."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Flatten(), nn.Linear(4 * 36, 1))


def plan(steps: int, workers: int = 0, every: int = EVERY) -> Plan:
    return Plan(
        steps=steps, batch=4, rate=0.02, matrices=0.02, rise=5, every=every, workers=workers, average=0.9, threads=1
    )


class Brightness:
    """How bright is a noisy picture? pause: seconds that each step takes longer."""

    count = COUNT

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause

    def sample(self, index: int, random: np.random.Generator) -> Sample:
        return {
            "pixels": random.normal(index / COUNT, 1, (3, 8, 8)).astype(np.float32),
            "goal": np.float32(index / COUNT),
        }

    def losses(self, net: nn.Module, batch: Sample) -> Mapping[str, Tensor]:
        time.sleep(self._pause)
        off = net(batch["pixels"])[:, 0].float() - batch["goal"]
        return {"total": off.square().mean(), "away": off.abs().mean()}

    def judge(self, net: nn.Module) -> Mapping[str, float]:
        drawn = [self.sample(k, np.random.default_rng(k)) for k in range(COUNT)]
        pixels, goals = (torch.from_numpy(np.stack([s[key] for s in drawn])) for key in ("pixels", "goal"))
        with torch.no_grad():
            return {"score": -float((net(pixels)[:, 0] - goals).square().mean())}

    def export(self, net: nn.Module) -> bytes:
        file = io.BytesIO()
        np.savez(file, **{name: value.numpy() for name, value in net.state_dict().items()})
        return file.getvalue()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    print(fit(network(), Brightness(0.02), plan(steps, 1), folder, lambda line: print(line, flush=True)))
