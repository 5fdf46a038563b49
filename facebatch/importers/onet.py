"""MTCNN's O-Net: five landmarks and a score for a face that was found already.

Source: Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", 2016, with
the arrays of github.com/timesler/facenet-pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facebatch.importers import Given, Imported
from facebatch.importers.checkpoint import Source
from facebatch.importers.network import Network
from facebatch.importers.torch_file import poured

_SIDE = 48
_CONVS = ((3, 32, 3, 3), (32, 64, 3, 3), (64, 64, 3, 2), (64, 128, 2, 0))
"""Channels in and out, kernel, and the kernel of the max-pool behind it."""


def convert(files: Sequence[Given], options: Mapping[str, Any]) -> Imported:
    """Input: N x 3 x 48 x 48. Output: `landmarks` N x 10 (x, y of five points, 0..1 of the crop), `score` N x 1."""
    return poured(files, build)


def build(source: Source) -> bytes:
    """The graph. Arrays that only refine the box (`dense6_2`) are taken, and left out."""
    net = Network()
    x = "input"
    for number, (inner, out, kernel, pool) in enumerate(_CONVS, 1):
        weight = source.take(f"conv{number}.weight", out, inner, kernel, kernel)
        x = net.conv(x, weight, source.take(f"conv{number}.bias", out))
        x = net.prelu(x, source.take(f"prelu{number}.weight", out))
        x = net.max_pool(x, pool, 2, ceil=True) if pool else x
    x = net.op("Flatten", net.op("Transpose", x, perm=[0, 3, 2, 1]))  # the dense layer was trained on W, H, C

    def dense(x: str, name: str, inner: int, out: int) -> str:
        return net.dense(x, source.take(f"{name}.weight", out, inner), source.take(f"{name}.bias", out))

    x = dense(x, "dense5", 1152, 256)
    x = net.op("PRelu", x, net.array(source.take("prelu5.weight", 256)))
    scores = net.softmax(dense(x, "dense6_1", 256, 2))
    source.take("dense6_2.weight", 4, 256), source.take("dense6_2.bias", 4)
    points = dense(x, "dense6_3", 256, 10)  # x of all five, then y
    pairs = net.op("Gather", points, net.array([0, 5, 1, 6, 2, 7, 3, 8, 4, 9]), axis=1)
    face = net.op("Slice", scores, net.array([1]), net.array([2]), net.array([1]))
    return net.model({"input": ["N", 3, _SIDE, _SIDE]}, {"landmarks": pairs, "score": face})
