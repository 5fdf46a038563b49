"""Ultra-Light's trunks, slim and RFB, with the heads of both projects that trained them: boxes only, or boxes and five
landmarks.

Source: github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB (arrays `base_net.*`) and
github.com/biubug6/Face-Detector-1MB-with-landmark (arrays `conv1.*` ...), the same layers under other names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from pydantic import TypeAdapter

from facebatch.importers import Given, Imported
from facebatch.importers.blocks import Blocks
from facebatch.importers.checkpoint import Source
from facebatch.importers.network import Network
from facebatch.importers.torch_file import poured

_TRUNK = (  # (channels in, channels out, stride) of the layers 2, 3, ...; the eighth is the one that RFB replaces
    (16, 32, 1),
    (32, 32, 2),
    (32, 32, 1),
    (32, 64, 2),
    (64, 64, 1),
    (64, 64, 1),
    (64, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
)
_TAPS = {8: (64, 3), 11: (128, 2), 13: (256, 2), 14: (256, 3)}
"""Layers with a head: channels, and anchors a cell."""


@dataclass(frozen=True)
class Variant:
    """trunk: `rfb` widens the eighth layer by three dilated branches. landmarks: the project that adds them."""

    trunk: Literal["slim", "rfb"]
    landmarks: bool


def convert(files: Sequence[Given], options: Mapping[str, Any]) -> Imported:
    """Output: `loc` N x P x 4, `conf` N x P x 2 (background, face; softmaxed); with landmarks `landms` N x P x 10."""
    variant = TypeAdapter(Variant).validate_python(dict(options))
    return poured(files, lambda source: build(source, variant))


def build(source: Source, variant: Variant) -> bytes:
    """The graph over any height and width; candidates by level (fine to coarse), row, column, anchor."""
    net = Network()
    blocks = Blocks(net, source, net.relu)
    layer = "conv{}" if variant.landmarks else "base_net.{}"
    first = 1 if variant.landmarks else 0
    heads = ("loc", "conf", "landm") if variant.landmarks else ("regression_headers", "classification_headers")
    taps: list[str] = []

    x = net.relu(blocks.conv_bn("input", f"{layer.format(first)}.0", f"{layer.format(first)}.1", 3, 16, 3, stride=2))
    for number, (inner, out, stride) in enumerate(_TRUNK, 2):
        name, wide = layer.format(number - 1 + first), number == 8 and variant.trunk == "rfb"
        x = _rfb(blocks, x, name) if wide else blocks.separable(x, name, inner, out, stride)
        if number in _TAPS:
            taps.append(x)
    extra = "conv14" if variant.landmarks else "extras.0"
    x = net.relu(blocks.conv(x, f"{extra}.0", 256, 64))
    x = net.relu(blocks.conv(x, f"{extra}.2.0", 64, 64, 3, stride=2, groups=64))
    taps.append(net.relu(blocks.conv(x, f"{extra}.2.2", 64, 256)))

    found = []
    for head, numbers in zip(heads, (4, 2, 10), strict=False):
        levels = []
        for level, (tap, (channels, anchors)) in enumerate(zip(taps, _TAPS.values(), strict=True)):
            name, out = f"{head}.{level}", anchors * numbers
            last = level == len(taps) - 1
            x = blocks.conv(tap, name, channels, out, 3) if last else blocks.head(tap, name, channels, out)
            levels.append(net.rows(x, numbers))
        found.append(net.concat(*levels, axis=1))
    outputs = {"loc": found[0], "conf": net.softmax(found[1])}
    return net.model({"input": ["N", 3, "H", "W"]}, outputs | ({"landms": found[2]} if variant.landmarks else {}))


def _rfb(blocks: Blocks, x: str, name: str) -> str:
    """Receptive field block: three branches that look 2, 3 and 5 pixels around, mixed, and the input added.

    Source: Liu, Huang, Wang, "Receptive Field Block Net", ECCV 2018, as cut down by the Ultra-Light authors.
    """
    net = blocks.net

    def conv(x: str, part: str, inner: int, out: int, kernel: int = 1, dilation: int = 1) -> str:
        return blocks.conv_bn(x, f"{name}.{part}.conv", f"{name}.{part}.bn", inner, out, kernel, dilation=dilation)

    branches = []
    for branch, (widths, dilation) in enumerate((((8, 16), 2), ((8, 16), 3), ((8, 12, 16), 5))):
        y = conv(x, f"branch{branch}.0", 64, 8)
        for step, (inner, out) in enumerate(pairwise(widths), 1):
            y = net.relu(conv(y, f"branch{branch}.{step}", inner, out, 3))
        branches.append(conv(y, f"branch{branch}.{len(widths)}", 16, 16, 3, dilation))
    mixed = conv(net.concat(*branches), "ConvLinear", 48, 64)
    return net.relu(net.add(mixed, conv(x, "shortcut", 64, 64)))
