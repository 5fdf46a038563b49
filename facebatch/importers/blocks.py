"""Blocks that the small SSD-style detectors of 2019 share: slim, RFB and MobileNet trunks, and what PyTorch calls
their arrays. `Blocks` adds layers to a network and takes their arrays by the names of `nn.Sequential`.
"""

from __future__ import annotations

from collections.abc import Callable

from facebatch.geometry import Floats
from facebatch.importers.checkpoint import Source
from facebatch.importers.network import Network, folded

_EPS = 1e-5


def batch_norm(take: Callable[..., Floats], name: str, size: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Gamma, beta, mean and variance under PyTorch's names."""
    return (
        take(f"{name}.weight", size),
        take(f"{name}.bias", size),
        take(f"{name}.running_mean", size),
        take(f"{name}.running_var", size),
    )


class Blocks:
    """Layers with the arrays of a state dict. activate: what follows each batch norm."""

    def __init__(self, net: Network, source: Source, activate: Callable[[str], str]) -> None:
        self.net, self.source, self.activate = net, source, activate

    def conv(
        self, x: str, name: str, inner: int, out: int, kernel: int = 1, *, stride: int = 1, groups: int = 1
    ) -> str:
        """A convolution with bias that keeps the size at stride 1."""
        weight = self.source.take(f"{name}.weight", out, inner // groups, kernel, kernel)
        bias = self.source.take(f"{name}.bias", out)
        return self.net.conv(x, weight, bias, stride=stride, pads=kernel // 2, groups=groups)

    def conv_bn(
        self,
        x: str,
        conv: str,
        bn: str,
        inner: int,
        out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
    ) -> str:
        """A convolution without bias and its batch norm, as one convolution."""
        weight, bias = self._folded(conv, bn, inner // groups, out, kernel)
        pads = dilation * (kernel // 2)
        return self.net.conv(x, weight, bias, stride=stride, pads=pads, groups=groups, dilation=dilation)

    def separable(self, x: str, name: str, inner: int, out: int, stride: int = 1) -> str:
        """`conv_dw`: 3x3 depthwise and 1x1, each with batch norm and activation. Arrays 0, 1, 3 and 4."""
        x = self.conv_bn(x, f"{name}.0", f"{name}.1", inner, inner, 3, stride=stride, groups=inner)
        x = self.conv_bn(self.activate(x), f"{name}.3", f"{name}.4", inner, out)
        return self.activate(x)

    def head(self, x: str, name: str, inner: int, out: int) -> str:
        """3x3 depthwise with bias, ReLU, 1x1 with bias. Arrays 0 and 2."""
        x = self.net.relu(self.conv(x, f"{name}.0", inner, inner, 3, groups=inner))
        return self.conv(x, f"{name}.2", inner, out)

    def _folded(self, conv: str, bn: str, inner: int, out: int, kernel: int) -> tuple[Floats, Floats]:
        weight = self.source.take(f"{conv}.weight", out, inner, kernel, kernel)
        return folded(weight, None, *batch_norm(self.source.take, bn, out), _EPS)
