"""The embedder as a PyTorch module, to be trained; `facebatch.importers.mobileface` is the same network as ONNX."""

from __future__ import annotations

from torch import Tensor, nn

from facebatch.importers.mobileface import PLAN, SIDE, STEM, WIDE


def _conv_bn(
    inner: int, out: int, kernel: int, stride: int = 1, groups: int = 1, padding: int | None = None
) -> list[nn.Module]:
    pads = kernel // 2 if padding is None else padding
    return [nn.Conv2d(inner, out, kernel, stride, pads, groups=groups, bias=False), nn.BatchNorm2d(out)]


class _Block(nn.Module):
    """1x1 up, 3x3 depthwise, 1x1 down, and the input added where shapes allow."""

    def __init__(self, inner: int, out: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.up = nn.Sequential(*_conv_bn(inner, wide, 1), nn.ReLU())
        self.across = nn.Sequential(*_conv_bn(wide, wide, 3, stride, groups=wide), nn.ReLU())
        self.down = nn.Sequential(*_conv_bn(wide, out, 1))
        self.adds = stride == 1 and inner == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(self.across(self.up(x)))
        return x + y if self.adds else y


class Student(nn.Module):
    """n x 3 x 112 x 112 pixels to n x 512 numbers, not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_bn(3, STEM, 3, 2), nn.ReLU())
        self.first = nn.Sequential(*_conv_bn(STEM, STEM, 3, groups=STEM), nn.ReLU())
        blocks: list[nn.Module] = []
        inner = STEM
        for out, expansion, stride, count in PLAN:
            for number in range(count):
                blocks.append(_Block(inner, out, expansion, 1 if number else stride))
                inner = out
        self.blocks = nn.Sequential(*blocks)
        self.wide = nn.Sequential(*_conv_bn(inner, WIDE, 1), nn.ReLU())
        self.whole = nn.Sequential(*_conv_bn(WIDE, WIDE, SIDE // 16, groups=WIDE, padding=0))
        self.vector = nn.Sequential(nn.Linear(WIDE, WIDE, bias=False), nn.BatchNorm1d(WIDE))

    def forward(self, x: Tensor) -> Tensor:
        x = self.whole(self.wide(self.blocks(self.first(self.stem(x)))))
        vectors: Tensor = self.vector(x.flatten(1))
        return vectors
