"""A small MobileFaceNet: inverted residuals, a global depthwise convolution, 512 numbers.

Source: Chen, Liu, Gao, Han, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile
Devices", 2018, narrower, and with ReLU: PReLU doubles the time of a training step on a CPU. Trained by
`facebatch.training`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facebatch.errors import UsageError
from facebatch.importers import Given, Imported
from facebatch.importers.blocks import batch_norm
from facebatch.importers.checkpoint import Source
from facebatch.importers.network import Network, folded
from facebatch.importers.torch_file import poured

SIDE = 112
STEM = 32
WIDE = 512
PLAN = (  # (channels, expansion, stride, how many blocks)
    (48, 2, 2, 2),
    (96, 3, 2, 1),
    (96, 2, 1, 4),
    (160, 4, 2, 1),
    (160, 3, 1, 4),
)
_EPS = 1e-5


def convert(files: Sequence[Given], options: Mapping[str, Any]) -> Imported:
    """A state dict of `facebatch.training.student.Student`. Output: `embedding` N x 512, not normalised."""
    if options:
        raise UsageError(f"importer mobileface has no option {next(iter(options))!r}")
    return poured(files, build)


def build(source: Source) -> bytes:
    """The graph for N x 3 x 112 x 112."""
    net = Network()

    def conv_bn(x: str, name: str, inner: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        weight = source.take(f"{name}.0.weight", out, inner // groups, kernel, kernel)
        weight, bias = folded(weight, None, *batch_norm(source.take, f"{name}.1", out), _EPS)
        return net.conv(x, weight, bias, stride=stride, pads=0 if kernel == SIDE // 16 else kernel // 2, groups=groups)

    x = net.relu(conv_bn("input", "stem", 3, STEM, 3, 2))
    x = net.relu(conv_bn(x, "first", STEM, STEM, 3, groups=STEM))
    inner, number = STEM, 0
    for out, expansion, stride, blocks in PLAN:
        for block in range(blocks):
            wide, name = inner * expansion, f"blocks.{number}"
            step = stride if block == 0 else 1
            y = net.relu(conv_bn(x, f"{name}.up", inner, wide, 1))
            y = net.relu(conv_bn(y, f"{name}.across", wide, wide, 3, step, groups=wide))
            y = conv_bn(y, f"{name}.down", wide, out, 1)
            x = net.add(x, y) if step == 1 and inner == out else y
            inner, number = out, number + 1
    x = net.relu(conv_bn(x, "wide", inner, WIDE, 1))
    x = conv_bn(x, "whole", WIDE, WIDE, SIDE // 16, groups=WIDE)
    x = net.op("Flatten", x, axis=1)
    weight = source.take("vector.0.weight", WIDE, WIDE)
    weight, bias = folded(weight, None, *batch_norm(source.take, "vector.1", WIDE), _EPS)
    return net.model({"input": ["N", 3, SIDE, SIDE]}, {"embedding": net.dense(x, weight, bias)})
