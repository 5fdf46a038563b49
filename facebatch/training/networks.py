"""Detectors as PyTorch modules, to be trained: EXTD in all its variants, and Ultra-Light's slim with landmarks.

Arrays have the names of the published checkpoints, so that a state dict of these modules goes through the importers
(`facebatch.importers.extd`, `slim`) that build the same networks as ONNX graphs.

Every network gives, for n x 3 x height x width pixels, `loc` n x P x 4, `conf` n x P x 2 (background, face; logits)
and, where it has landmarks, `landms` n x P x 10, all relative to its priors (`facebatch.detectors.priors`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Outputs = dict[str, Tensor]


def conv(inner: int, out: int, kernel: int, stride: int = 1, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the size at stride 1."""
    return nn.Conv2d(inner, out, kernel, stride, kernel // 2, **options)


def separable(inner: int, out: int, stride: int) -> nn.Sequential:
    """3x3 depthwise and 1x1, each with batch norm and ReLU."""
    return nn.Sequential(
        conv(inner, inner, 3, stride, groups=inner, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        conv(inner, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


class Slim(nn.Module):
    """Ultra-Light's slim trunk with box, score and landmark heads on four levels (strides 8, 16, 32, 64).

    Source: github.com/biubug6/Face-Detector-1MB-with-landmark, models/net_slim.py; 343,488 parameters.
    """

    _WIDTHS = (16, 32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256)
    _STRIDES = (1, 2, 1, 2, 1, 1, 1, 2, 1, 1, 2, 1)
    _TAPS = (8, 11, 13, 14)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, 16, 3, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        for number, stride in enumerate(self._STRIDES):
            self.add_module(f"conv{number + 2}", separable(self._WIDTHS[number], self._WIDTHS[number + 1], stride))
        self.conv14 = nn.Sequential(
            conv(256, 64, 1),
            nn.ReLU(),
            nn.Sequential(conv(64, 64, 3, 2, groups=64), nn.ReLU(), conv(64, 256, 1)),
            nn.ReLU(),
        )
        self.loc, self.conf, self.landm = _heads(4), _heads(2), _heads(10)

    def forward(self, x: Tensor) -> Outputs:
        taps = []
        for number in range(1, 15):
            x = getattr(self, f"conv{number}")(x)
            if number in self._TAPS:
                taps.append(x)
        return {
            name: torch.cat([_rows(head(tap), numbers) for head, tap in zip(heads, taps, strict=True)], 1)
            for name, heads, numbers in (("loc", self.loc, 4), ("conf", self.conf, 2), ("landms", self.landm, 10))
        }


class Extd(nn.Module):
    """EXTD: a stem and a block, then the other blocks applied six times over, a map for each; with FPN or plain heads.

    Source: Yoo, Jung, Kim, Lee, "EXTD: Extremely Tiny Face Detector via Iterative Filter Reuse", 2019. channels: 32,
    48 or 64; head: fpn or ssd; activation of the trunk: prelu (one slope a layer), leaky (0.01) or relu.
    """

    _BLOCKS = {  # noqa: RUF012  (expansion, stride) of the inverted residuals
        32: ((1, 1), (2, 1), (2, 1), (4, 1), (4, 1), (2, 1), (2, 2)),
        48: ((1, 1), (2, 1), (2, 1), (4, 1), (4, 2)),
        64: ((1, 1), (2, 1), (2, 1), (4, 1), (4, 2)),
    }
    _LEVELS = 6

    def __init__(self, channels: int, head: str = "fpn", activation: str = "prelu") -> None:
        super().__init__()
        self._activation = activation
        stem = nn.Sequential(conv(3, 64, 3, 2, bias=False), nn.BatchNorm2d(64), self._act())
        blocks = [
            self._block(channels if number else 64, channels, *plan)
            for number, plan in enumerate(self._BLOCKS[channels])
        ]
        self.base = nn.ModuleList([stem, *blocks])
        if head == "fpn":
            self.upfeat = nn.ModuleList(
                nn.Sequential(
                    conv(channels, channels, 3, groups=channels, bias=False),
                    conv(channels, channels, 1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                )
                for _ in range(self._LEVELS - 1)
            )
        self.loc = nn.ModuleList(conv(channels, 4, 3) for _ in range(self._LEVELS))
        self.conf = nn.ModuleList(conv(channels, 2 if level else 4, 3) for level in range(self._LEVELS))

    def forward(self, x: Tensor) -> Outputs:
        maps = [self._through(self.base[0](x), self.base[1:])]
        for _ in range(self._LEVELS - 1):
            maps.append(self._through(maps[-1], self.base[2:]))
        if hasattr(self, "upfeat"):
            maps = self._pyramid(maps)
        scores = [head(x) for head, x in zip(self.conf, maps, strict=True)]
        # The finest level has three opinions of the background, of which the highest counts, against false alarms.
        scores[0] = torch.cat([scores[0][:, :3].amax(1, keepdim=True), scores[0][:, 3:]], 1)
        return {
            "loc": torch.cat([_rows(head(x), 4) for head, x in zip(self.loc, maps, strict=True)], 1),
            "conf": torch.cat([_rows(x, 2) for x in scores], 1),
        }

    def _act(self) -> nn.Module:
        return {"prelu": nn.PReLU, "relu": nn.ReLU, "leaky": nn.LeakyReLU}[self._activation]()

    def _block(self, inner: int, out: int, expansion: int, stride: int) -> nn.Module:
        wide = inner * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [conv(inner, wide, 1, bias=False), nn.BatchNorm2d(wide), self._act()]
        layers += [conv(wide, wide, 3, stride, groups=wide), nn.BatchNorm2d(wide), self._act()]
        layers += [conv(wide, out, 1, bias=False), nn.BatchNorm2d(out)]
        block = nn.Module()
        block.conv = nn.Sequential(*layers, *([self._act()] if out == 32 else []))
        block.adds = stride == 1 and inner == out
        return block

    @staticmethod
    def _through(x: Tensor, blocks: Any) -> Tensor:
        for block in blocks:
            x = x + block.conv(x) if block.adds else block.conv(x)
        return x

    def _pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """From the coarsest map down: enlarge, smooth, add."""
        found = [maps[-1]]
        for smooth, finer in zip(self.upfeat, reversed(maps[:-1]), strict=True):
            large = functional.interpolate(found[0], finer.shape[2:], mode="bilinear", align_corners=False)
            found.insert(0, smooth(large) + finer)
        return found


def _heads(numbers: int) -> nn.ModuleList:
    """One for each level; 3, 2, 2 and 3 priors a cell."""

    def head(inner: int, priors: int) -> nn.Module:
        return nn.Sequential(conv(inner, inner, 3, groups=inner), nn.ReLU(), conv(inner, priors * numbers, 1))

    return nn.ModuleList([head(64, 3), head(128, 2), head(256, 2), conv(256, 3 * numbers, 3)])


def _rows(x: Tensor, numbers: int) -> Tensor:
    """A map as candidates by row, column, prior."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, numbers)
