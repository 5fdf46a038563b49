"""The state of a training run on disk, so that a killed one goes on where it was."""

from __future__ import annotations

import copy
import io
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facebatch.errors import FacebatchError

State = dict[str, Any]


def write(file: Path, data: bytes) -> None:
    """Write it whole or not at all: a kill at any moment leaves the old file or the new one."""
    part = file.with_name(f"{file.name}.part")
    with open(part, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)


def save(file: Path, state: State) -> None:
    """Write a state, to be read by `load`."""
    held = io.BytesIO()
    torch.save(state, held)
    write(file, held.getvalue())


def load(file: Path) -> State | None:
    """None if there is none. Nothing is unpickled but tensors and plain values. Raises FacebatchError."""
    if not file.exists():
        return None
    try:
        state: State = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of a damaged file; its words go over many lines
        raise FacebatchError(f"{file} is no checkpoint that can be read. Remove it to begin anew") from error
    return state


class Average:
    """The exponential moving average of a network's weights, which is better than the last ones and judged instead.

    The first steps count more: step k has a decay of at most (1 + k) / (10 + k).
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self._decay = decay

    def update(self, net: nn.Module, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mine, its in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
                if mine.dtype.is_floating_point:
                    mine.lerp_(its.to(mine.dtype), 1 - decay)
                else:
                    mine.copy_(its)
