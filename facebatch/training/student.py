"""The embedder as a PyTorch module, to be trained; `facebatch.importers.edgenext` is the same network as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from facebatch.importers.edgenext import EPS, HEADS, STAGES, STEM, VECTOR, widths


class Student(nn.Module):
    """n x 3 x 112 x 112 pixels to n x 512 numbers, not normalised: a chain of parts, each of which can be held against
    a teacher's."""

    def __init__(self) -> None:
        super().__init__()
        inner = STAGES[0][0]
        parts: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, inner, STEM, STEM), _MapNorm(inner))]
        for channels, side, blocks, kernel, pieces, positions in STAGES:
            if channels != inner:
                parts.append(_Down(inner, channels))
                inner = channels
            parts += [_Convolutional(channels, kernel) for _ in range(blocks)]
            if pieces:
                parts.append(_Attentive(channels, pieces, side * side if positions else 0))
        self.parts = nn.ModuleList([*parts, _Head(inner)])

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    def chained(self, x: Tensor) -> list[Tensor]:
        """What each part makes of what the one before made; the last are the vectors."""
        made = []
        for part in self.parts:
            x = part(x)
            made.append(x)
        return made

    def apart(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """What each part makes of an input of its own."""
        return [part(x) for part, x in zip(self.parts, inputs, strict=True)]

    def begin(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Small weights; and each part scaled and shifted such that what it makes has the mean and the spread of what
        it is to make, in each channel. Channels differ by orders of magnitude: steps that are right for one would be
        noise in another.

        Source: Kraehenbuehl et al., "Data-dependent Initializations of Convolutional Neural Networks", 2016.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02 if isinstance(module, nn.Linear) else 0.1)
                nn.init.zeros_(cast(Tensor, module.bias))
        with torch.no_grad():
            for part, x, goal in zip(self.parts, inputs, outputs, strict=True):
                stays = x if x.shape == goal.shape else torch.zeros(())
                made, goal = part(x) - stays, goal - stays
                over = [axis for axis in range(goal.ndim) if axis != 1]
                gain = goal.std(over) / made.std(over).clamp(min=1e-9)
                scaled = [module for module in part.modules() if isinstance(module, _Scale)]
                last = [m for m in part.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.LayerNorm)][-1]
                if scaled:
                    scaled[0].scale.copy_(gain)
                    last.bias.copy_(goal.mean(over) / gain - made.mean(over))
                else:
                    last.weight.mul_(gain.reshape(-1, *[1] * (last.weight.ndim - 1)))
                    last.bias.copy_((last.bias - made.mean(over)) * gain + goal.mean(over))


def shapes() -> list[tuple[int, int, int]]:
    """Of the maps between the student's parts, each channels x height x width."""
    found = []
    for channels, side, blocks, _, pieces, _ in STAGES:
        found += [(channels, side, side)] * (1 + blocks + bool(pieces))
    return found


class _MapNorm(nn.LayerNorm):
    """Over the channels of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Scale(nn.Module):
    """Of each channel of a map, and not learned."""

    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None]


class _Down(nn.Module):
    """To half the side."""

    def __init__(self, inner: int, channels: int) -> None:
        super().__init__()
        self.norm, self.conv, self.scale = _MapNorm(inner), nn.Conv2d(inner, channels, 2, 2), _Scale(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.scale(self.conv(self.norm(x)))
        return y


class _Mix(nn.Module):
    """A map's channels, by a perceptron of one layer at each place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = _Scale(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(functional.gelu(self.up(self.norm(x.permute(0, 2, 3, 1)))))
        scaled: Tensor = self.scale(y.permute(0, 3, 1, 2))
        return scaled


class _Convolutional(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.across = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.mix = _Mix(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(self.across(x))
        return x + y


class _Attentive(nn.Module):
    """Depthwise convolutions that build on each other, and attention among channels. places: 0 without positions."""

    def __init__(self, channels: int, pieces: int, places: int) -> None:
        super().__init__()
        self._widths = widths(channels, pieces)
        self.convs = nn.ModuleList(nn.Conv2d(n, n, 3, padding=1, groups=n) for n in self._widths[:-1])
        self.places = nn.Parameter(torch.zeros(1, places, channels)) if places else None
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.asked, self.told = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.warmth = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.mix = _Mix(channels)

    def forward(self, x: Tensor) -> Tensor:
        *pieces, rest = x.split(self._widths, 1)
        seen: list[Tensor] = []
        for conv, piece in zip(self.convs, pieces, strict=True):
            seen.append(conv(seen[-1] + piece if seen else piece))
        count, channels, height, width = x.shape
        y = torch.cat([*seen, rest], 1).flatten(2).transpose(1, 2)
        if self.places is not None:
            y = y + self.places
        asked = self.asked(self.norm(y)).reshape(count, height * width, 3, HEADS, channels // HEADS)
        query, key, value = asked.permute(2, 0, 3, 4, 1)
        likeness = functional.normalize(query, dim=-1) @ functional.normalize(key, dim=-1).transpose(-1, -2)
        found = (likeness * self.warmth).softmax(-1) @ value
        y = y + self.told(found.permute(0, 3, 1, 2).reshape(count, height * width, channels))
        mixed: Tensor = self.mix(y.transpose(1, 2).reshape(x.shape))
        return x + mixed


class _Head(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.vector = nn.LayerNorm(channels, eps=EPS), nn.Linear(channels, VECTOR)

    def forward(self, x: Tensor) -> Tensor:
        vectors: Tensor = self.vector(self.norm(x.mean((2, 3))))
        return vectors
