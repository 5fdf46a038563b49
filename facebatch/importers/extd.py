"""EXTD: a face detector that applies the same few blocks again and again, once for each scale.

Source: Yoo, Jung, Kim, Lee, "EXTD: Extremely Tiny Face Detector via Iterative Filter Reuse", 2019, and
github.com/clovaai/EXTD_Pytorch (names of arrays). Weights are published for the FPN heads with PReLU only; the other
variants of the paper are built from the same blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from facebatch.importers import Given, Imported
from facebatch.importers.blocks import batch_norm
from facebatch.importers.checkpoint import Source
from facebatch.importers.network import Network, folded
from facebatch.importers.torch_file import poured

_EPS = 1e-5
_STEM = 64
_BLOCKS = {  # (expansion, stride) of the inverted residuals 1, 2, ...
    32: ((1, 1), (2, 1), (2, 1), (4, 1), (4, 1), (2, 1), (2, 2)),
    48: ((1, 1), (2, 1), (2, 1), (4, 1), (4, 2)),
    64: ((1, 1), (2, 1), (2, 1), (4, 1), (4, 2)),
}
_LEVELS = 6


@dataclass(frozen=True)
class Variant:
    """One of the eighteen: width, head, and the trunk's activation (`leaky` has the slope given)."""

    channels: Literal[32, 48, 64]
    head: Literal["fpn", "ssd"] = "fpn"
    activation: Literal["prelu", "leaky", "relu"] = "prelu"
    slope: float = 0.01


def convert(files: Sequence[Given], options: Mapping[str, Any]) -> Imported:
    """A state dict of one variant. Output: `loc` N x P x 4, and `conf` N x P x 2 (background, face), softmaxed."""
    variant = TypeAdapter(Variant).validate_python(dict(options))
    return poured(files, lambda source: build(source, variant))


def build(source: Source, variant: Variant) -> bytes:
    """The graph over any height and width; candidates in the order of levels (fine to coarse), rows, columns."""
    net = Network()
    layers = _Layers(net, source, variant)
    x = layers.activated(layers.conv_bn("input", "base.0.0", "base.0.1", _STEM, 3, 3, stride=2), "base.0.2")
    x = layers.block(x, 1, _STEM)
    maps = []
    for _ in range(_LEVELS):
        for number in range(2, len(_BLOCKS[variant.channels]) + 1):
            x = layers.block(x, number, variant.channels)
        maps.append(x)
    if variant.head == "fpn":
        maps = layers.pyramid(maps)
    loc, conf = [], []
    for level, x in enumerate(maps):
        loc.append(net.rows(layers.conv(x, f"loc.{level}", 4), 4))
        conf.append(_max_out(net, layers.conv(x, "conf.0", 4)) if level == 0 else layers.conv(x, f"conf.{level}", 2))
    scores = net.concat(*(net.rows(x, 2) for x in conf), axis=1)
    outputs = {"loc": net.concat(*loc, axis=1), "conf": net.softmax(scores)}
    return net.model({"input": ["N", 3, "H", "W"]}, outputs)


def _max_out(net: Network, x: str) -> str:
    """The finest level has three opinions of the background; the highest counts, against false alarms."""
    ground = net.op("ReduceMax", net.op("Slice", x, net.array([0]), net.array([3]), net.array([1])), axes=[1])
    face = net.op("Slice", x, net.array([3]), net.array([4]), net.array([1]))
    return net.concat(ground, face)


class _Layers:
    """The blocks of the paper. Filters are reused: their arrays are taken once and applied at every scale."""

    def __init__(self, net: Network, source: Source, variant: Variant) -> None:
        self._net, self._source, self._variant = net, source, variant
        self._taken: dict[str, np.ndarray] = {}

    def conv(self, x: str, name: str, out: int) -> str:
        weight = self._take(f"{name}.weight", out, self._variant.channels, 3, 3)
        return self._net.conv(x, weight, self._take(f"{name}.bias", out), pads=1)

    def conv_bn(
        self,
        x: str,
        conv: str,
        bn: str,
        out: int,
        inner: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> str:
        weight = self._take(f"{conv}.weight", out, inner, kernel, kernel)
        start = self._take(f"{conv}.bias", out) if bias else None
        weight, start = folded(weight, start, *batch_norm(self._take, bn, out), _EPS)
        return self._net.conv(x, weight, start, stride=stride, pads=kernel // 2, groups=groups)

    def activated(self, x: str, name: str) -> str:
        if self._variant.activation == "prelu":
            return self._net.prelu(x, self._take(f"{name}.weight", 1))  # one slope for all channels
        return self._net.relu(x) if self._variant.activation == "relu" else self._net.leaky(x, self._variant.slope)

    def block(self, x: str, number: int, inner: int) -> str:
        """Inverted residual: [1x1 up] -> 3x3 depthwise -> 1x1 down, and the input added where shapes allow."""
        expansion, stride = _BLOCKS[self._variant.channels][number - 1]
        channels, hidden, at = self._variant.channels, inner * expansion, 0
        y = x

        def name(step: int) -> str:
            return f"base.{number}.conv.{step}"

        if expansion > 1:
            y = self.activated(self.conv_bn(y, name(0), name(1), hidden, inner, 1), name(2))
            at = 3
        y = self.conv_bn(y, name(at), name(at + 1), hidden, 1, 3, stride=stride, groups=hidden, bias=True)
        y = self.activated(y, name(at + 2))
        y = self.conv_bn(y, name(at + 3), name(at + 4), channels, hidden, 1)
        if channels == 32:
            y = self.activated(y, name(at + 5))
        return self._net.add(x, y) if stride == 1 and inner == channels else y

    def pyramid(self, maps: list[str]) -> list[str]:
        """From the coarsest map down: enlarge, add, smooth with a separable convolution of its own."""
        net, channels = self._net, self._variant.channels
        found = [maps[-1]]
        for step, finer in enumerate(reversed(maps[:-1])):
            x = net.resize_like(found[0], finer)
            x = net.conv(x, self._take(f"upfeat.{step}.0.weight", channels, 1, 3, 3), pads=1, groups=channels)
            x = net.relu(self.conv_bn(x, f"upfeat.{step}.1", f"upfeat.{step}.2", channels, channels, 1))
            found.insert(0, net.add(x, finer))
        return found

    def _take(self, name: str, *shape: int) -> np.ndarray:
        if name not in self._taken:
            self._taken[name] = self._source.take(name, *shape)
        return self._taken[name]
