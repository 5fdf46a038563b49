"""RetinaFace with MobileNet-0.25: a small trunk, a feature pyramid, a context module on each level, five landmarks.

Source: Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild", 2019, as rebuilt by
github.com/biubug6/Pytorch_Retinaface (leaky ReLU) and github.com/biubug6/Face-Detector-1MB-with-landmark (ReLU). Their
checkpoints share name, size and the names of all arrays; only the pack's sha256 and `activation` tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from facebatch.importers import Given, Imported
from facebatch.importers.blocks import Blocks
from facebatch.importers.checkpoint import Source
from facebatch.importers.network import Network
from facebatch.importers.torch_file import poured

_STAGES = (  # (channels in, channels out, stride) of each separable convolution
    ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)),
    ((64, 128, 2), (128, 128, 1), (128, 128, 1), (128, 128, 1), (128, 128, 1), (128, 128, 1)),
    ((128, 256, 2), (256, 256, 1)),
)
_WIDTH = 64
_ANCHORS = 2


@dataclass(frozen=True)
class Variant:
    """activation: after every batch norm that has one; `leaky` has slope 0.1."""

    activation: Literal["leaky", "relu"]


def convert(files: Sequence[Given], options: Mapping[str, Any]) -> Imported:
    """Output: `loc` N x P x 4, `conf` N x P x 2 (background, face; softmaxed), `landms` N x P x 10."""
    variant = TypeAdapter(Variant).validate_python(dict(options))
    return poured(files, lambda source: build(source, variant))


def build(source: Source, variant: Variant) -> bytes:
    """The graph over any height and width; candidates by level (fine to coarse), row, column, anchor."""
    net = Network()
    blocks = Blocks(net, source, net.relu if variant.activation == "relu" else lambda x: net.leaky(x, 0.1))
    levels = [_context(blocks, x, f"ssh{level}") for level, x in enumerate(_pyramid(blocks, _trunk(blocks)), 1)]
    found = []
    for head, numbers in (("BboxHead", 4), ("ClassHead", 2), ("LandmarkHead", 10)):
        maps = [blocks.conv(x, f"{head}.{level}.conv1x1", _WIDTH, _ANCHORS * numbers) for level, x in enumerate(levels)]
        found.append(net.concat(*(net.rows(x, numbers) for x in maps), axis=1))
    outputs = {"loc": found[0], "conf": net.softmax(found[1]), "landms": found[2]}
    return net.model({"input": ["N", 3, "H", "W"]}, outputs)


def _trunk(blocks: Blocks) -> list[str]:
    x = blocks.activate(blocks.conv_bn("input", "body.stage1.0.0", "body.stage1.0.1", 3, 8, 3, stride=2))
    taps = []
    for stage, layers in enumerate(_STAGES, 1):
        first = 1 if stage == 1 else 0  # the stem is part of stage 1
        for number, (inner, out, stride) in enumerate(layers, first):
            x = blocks.separable(x, f"body.stage{stage}.{number}", inner, out, stride)
        taps.append(x)
    return taps


def _pyramid(blocks: Blocks, taps: list[str]) -> list[str]:
    """1x1 to one width; the coarser map, enlarged to the nearest pixel, is added and smoothed by a 3x3."""
    net = blocks.net
    fine, middle, coarse = (
        blocks.activate(blocks.conv_bn(x, f"fpn.output{level}.0", f"fpn.output{level}.1", inner, _WIDTH))
        for level, (x, inner) in enumerate(zip(taps, (64, 128, 256), strict=True), 1)
    )

    def merged(finer: str, coarser: str, name: str) -> str:
        x = net.add(finer, net.resize_like(coarser, finer, "nearest"))
        return blocks.activate(blocks.conv_bn(x, f"fpn.{name}.0", f"fpn.{name}.1", _WIDTH, _WIDTH, 3))

    middle = merged(middle, coarse, "merge2")
    return [merged(fine, middle, "merge1"), middle, coarse]


def _context(blocks: Blocks, x: str, name: str) -> str:
    """The SSH module: 3x3, 5x5 and 7x7 views of a map side by side, the larger ones as chains of 3x3."""

    def conv(x: str, part: str, inner: int, out: int) -> str:
        return blocks.conv_bn(x, f"{name}.{part}.0", f"{name}.{part}.1", inner, out, 3)

    near = conv(x, "conv3X3", _WIDTH, 32)
    middle = blocks.activate(conv(x, "conv5X5_1", _WIDTH, 16))
    far = blocks.activate(conv(middle, "conv7X7_2", 16, 16))
    views = (near, conv(middle, "conv5X5_2", 16, 16), conv(far, "conv7x7_3", 16, 16))
    return blocks.net.relu(blocks.net.concat(*views))
