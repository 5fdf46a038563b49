"""EdgeNeXt, extra extra small, for faces of 112 pixels: 512 numbers from 1.25 million weights.

Source: Maaz et al., "EdgeNeXt: Efficiently Amalgamated CNN-Transformer Architecture for Mobile Vision Applications",
2022; George et al., "EdgeFace: Efficient Face Recognition Model for Edge Devices", 2023, for its use on faces. With
learned positions; the scales of what blocks add are folded into the layers before them. Trained by
`facebatch.training`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from facebatch.errors import UsageError
from facebatch.geometry import Floats
from facebatch.importers import Given, Imported
from facebatch.importers.checkpoint import Source
from facebatch.importers.network import Network
from facebatch.importers.torch_file import poured

SIDE = 112
VECTOR = 512
STEM = 4
HEADS = 4
EPS = 1e-6
STAGES = (  # (channels, side of the map, convolutional blocks, their kernel, parts of the attentive block, positions)
    (24, 28, 2, 3, 0, False),
    (48, 14, 1, 5, 2, True),
    (88, 7, 5, 7, 3, False),
    (168, 3, 1, 9, 4, False),
)


def convert(files: Sequence[Given], options: Mapping[str, Any]) -> Imported:
    """A state dict of `facebatch.training.student.Student`. Output: `embedding` N x 512, not normalised."""
    if options:
        raise UsageError(f"importer edgenext has no option {next(iter(options))!r}")
    return poured(files, build)


def build(source: Source) -> bytes:
    """The graph for N x 3 x 112 x 112."""
    layers = _Layers(source)
    first = STAGES[0][0]
    x = layers.norm(layers.conv("input", "parts.0.0", 3, first, STEM, stride=STEM), "parts.0.1", first, map=True)
    number, inner = 1, first
    for channels, side, blocks, kernel, parts, positions in STAGES:
        if channels != inner:
            x = layers.norm(x, f"parts.{number}.norm", inner, map=True)
            scale = source.take(f"parts.{number}.scale.scale", channels)
            x = layers.conv(x, f"parts.{number}.conv", inner, channels, 2, stride=2, scale=scale)
            number, inner = number + 1, channels
        for _ in range(blocks):
            y = layers.conv(x, f"parts.{number}.across", channels, channels, kernel, groups=channels)
            x = layers.net.add(x, layers.mixed(y, f"parts.{number}.mix", channels))
            number += 1
        if parts:
            y = layers.attentive(x, f"parts.{number}", channels, side, parts, positions)
            x = layers.net.add(x, layers.mixed(y, f"parts.{number}.mix", channels))
            number += 1
    x = layers.net.op("Flatten", layers.net.op("GlobalAveragePool", x), axis=1)
    x = layers.norm(x, f"parts.{number}.norm", inner)
    weight = source.take(f"parts.{number}.vector.weight", VECTOR, inner)
    x = layers.net.dense(x, weight, source.take(f"parts.{number}.vector.bias", VECTOR))
    return layers.net.model({"input": ["N", 3, SIDE, SIDE]}, {"embedding": x})


def widths(channels: int, parts: int) -> list[int]:
    """Of the parts that an attentive block splits its channels into: the last one takes what is left."""
    width = math.ceil(channels / parts)
    return [width] * (parts - 1) + [channels - width * (parts - 1)]


class _Layers:
    """Layers by the names of their weights."""

    def __init__(self, source: Source) -> None:
        self.net, self._take = Network(), source.take

    def conv(
        self,
        x: str,
        name: str,
        inner: int,
        out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        scale: Floats | None = None,
    ) -> str:
        """A convolution that keeps the side, unless it strides: then it looks at each pixel once."""
        weight = self._take(f"{name}.weight", out, inner // groups, kernel, kernel)
        bias = self._take(f"{name}.bias", out)
        if scale is not None:
            weight, bias = weight * scale[:, None, None, None], bias * scale
        pads = 0 if stride > 1 else kernel // 2
        return self.net.conv(x, weight, bias, stride=stride, pads=pads, groups=groups)

    def norm(self, x: str, name: str, width: int, map: bool = False) -> str:
        """Over the channels: the last axis, or the second of a map."""
        scale, shift = self._take(f"{name}.weight", width), self._take(f"{name}.bias", width)
        x = self.net.op("Transpose", x, perm=[0, 2, 3, 1]) if map else x
        x = self.net.op("LayerNormalization", x, self.net.array(scale), self.net.array(shift), axis=-1, epsilon=EPS)
        return self.net.op("Transpose", x, perm=[0, 3, 1, 2]) if map else x

    def linear(self, x: str, name: str, inner: int, out: int, scale: Floats | None = None) -> str:
        """Of the last axis."""
        weight, bias = self._take(f"{name}.weight", out, inner), self._take(f"{name}.bias", out)
        if scale is not None:
            weight, bias = weight * scale[:, None], bias * scale
        y = self.net.op("MatMul", x, self.net.array(np.ascontiguousarray(weight.T)))
        return self.net.add(y, self.net.array(bias))

    def mixed(self, x: str, name: str, width: int) -> str:
        """A map's channels, by a perceptron of one layer at each place."""
        x = self.norm(self.net.op("Transpose", x, perm=[0, 2, 3, 1]), f"{name}.norm", width)
        x = self._gelu(self.linear(x, f"{name}.up", width, 4 * width))
        x = self.linear(x, f"{name}.down", 4 * width, width, self._take(f"{name}.scale.scale", width))
        return self.net.op("Transpose", x, perm=[0, 3, 1, 2])

    def attentive(self, x: str, name: str, width: int, side: int, parts: int, positions: bool) -> str:
        """Depthwise convolutions that build on each other, and attention among channels."""
        net, sizes = self.net, widths(width, parts)
        bounds = [0, *np.cumsum(sizes).tolist()]
        pieces = [
            net.op("Slice", x, net.array([start]), net.array([end]), net.array([1])) for start, end in pairwise(bounds)
        ]
        seen: list[str] = []
        for number, (piece, size) in enumerate(zip(pieces[:-1], sizes, strict=False)):
            piece = net.add(seen[-1], piece) if seen else piece
            seen.append(self.conv(piece, f"{name}.convs.{number}", size, size, 3, groups=size))
        y = net.op("Reshape", net.concat(*seen, pieces[-1]), net.array([0, width, side * side]))
        y = net.op("Transpose", y, perm=[0, 2, 1])
        if positions:
            y = net.add(y, net.array(self._take(f"{name}.places", 1, side * side, width)))
        asked = self.linear(self.norm(y, f"{name}.norm", width), f"{name}.asked", width, 3 * width)
        asked = net.op("Reshape", asked, net.array([0, side * side, 3, HEADS, width // HEADS]))
        asked = net.op("Transpose", asked, perm=[2, 0, 3, 4, 1])  # 3 x N x heads x channels x places
        query, key, value = (net.op("Gather", asked, net.array(np.array(k)), axis=0) for k in range(3))
        likeness = net.op("MatMul", self._unit(query), net.op("Transpose", self._unit(key), perm=[0, 1, 3, 2]))
        warmth = self._take(f"{name}.warmth", HEADS, 1, 1)
        weights = net.softmax(net.op("Mul", likeness, net.array(warmth)))
        found = net.op("Transpose", net.op("MatMul", weights, value), perm=[0, 3, 1, 2])
        found = net.op("Reshape", found, net.array([0, side * side, width]))
        y = net.add(y, self.linear(found, f"{name}.told", width, width))
        return net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1]), net.array([0, width, side, side]))

    def _unit(self, x: str) -> str:
        return self.net.op("LpNormalization", x, axis=-1, p=2)

    def _gelu(self, x: str) -> str:
        erf = self.net.op("Erf", self.net.op("Mul", x, self.net.array(np.array(1 / math.sqrt(2)))))
        half = self.net.op("Mul", x, self.net.array(np.array(0.5)))
        return self.net.op("Mul", half, self.net.add(erf, self.net.array(np.array(1.0))))
