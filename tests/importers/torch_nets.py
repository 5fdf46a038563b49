"""Published networks built once more, in PyTorch and from their descriptions: what importers are compared with.

Nothing here is shared with facebatch/importers, nor are the networks that facebatch can train; names of arrays are
those of the published checkpoints, so that `load_state_dict(strict=True)` takes them.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'facebatch[reference]'")
nn, F = torch.nn, torch.nn.functional

from facebatch.training import networks  # noqa: E402


def state(net: Any, seed: int = 0) -> dict[str, Any]:
    """Random weights that keep activations in range, batch-norm statistics included."""
    random = torch.Generator().manual_seed(seed)
    found = {}
    for name, tensor in net.state_dict().items():
        noise = torch.randn(tensor.shape, generator=random) if tensor.dtype.is_floating_point else tensor
        if name.endswith("running_var"):
            found[name] = noise.abs() * 0.2 + 0.9
        elif tensor.ndim > 1:
            found[name] = noise * 0.7 * tensor[0].numel() ** -0.5
        elif "num_batches" in name:
            found[name] = tensor
        else:
            found[name] = noise * 0.1 + (1.0 if tensor.ndim == 1 and name.endswith("weight") else 0.0)
    return found


def _conv(inner: int, out: int, kernel: int, stride: int = 1, **options: Any) -> Any:
    return nn.Conv2d(inner, out, kernel, stride, kernel // 2, **options)


class Extd(networks.Extd):
    """The one that is trained, whose scores are logits."""

    def forward(self, x: Any) -> Any:
        return _softmaxed(super().forward(x))


class SlimLandmarks(networks.Slim):
    """The one that is trained, whose scores are logits."""

    def forward(self, x: Any) -> Any:
        return _softmaxed(super().forward(x))


def _softmaxed(outputs: Any) -> Any:
    return outputs | {"conf": outputs["conf"].softmax(-1)}


def _separable(inner: int, out: int, stride: int, act: Any) -> Any:
    return nn.Sequential(
        _conv(inner, inner, 3, stride, groups=inner, bias=False),
        nn.BatchNorm2d(inner),
        act(),
        _conv(inner, out, 1, bias=False),
        nn.BatchNorm2d(out),
        act(),
    )


class Norm(nn.Module):  # type: ignore[misc, name-defined]
    """A convolution and its batch norm under the names `conv` and `bn`."""

    def __init__(self, inner: int, out: int, kernel: int, relu: bool = True, dilation: int = 1) -> None:
        super().__init__()
        pads = dilation * (kernel // 2)
        self.conv = nn.Conv2d(inner, out, kernel, 1, pads, dilation, bias=False)
        self.bn, self.relu = nn.BatchNorm2d(out), relu

    def forward(self, x: Any) -> Any:
        x = self.bn(self.conv(x))
        return x.relu() if self.relu else x


class Rfb(nn.Module):  # type: ignore[misc, name-defined]
    """Three dilated views of a map."""

    def __init__(self) -> None:
        super().__init__()

        def first() -> Any:
            return Norm(64, 8, 1, relu=False)

        def last(dilation: int) -> Any:
            return Norm(16, 16, 3, relu=False, dilation=dilation)

        self.branch0 = nn.Sequential(first(), Norm(8, 16, 3), last(2))
        self.branch1 = nn.Sequential(first(), Norm(8, 16, 3), last(3))
        self.branch2 = nn.Sequential(first(), Norm(8, 12, 3), Norm(12, 16, 3), last(5))
        self.ConvLinear, self.shortcut = Norm(48, 64, 1, relu=False), Norm(64, 64, 1, relu=False)

    def forward(self, x: Any) -> Any:
        views = torch.cat([self.branch0(x), self.branch1(x), self.branch2(x)], 1)
        return (self.ConvLinear(views) + self.shortcut(x)).relu()


def _trunk(rfb: bool) -> list[Any]:
    stem = nn.Sequential(_conv(3, 16, 3, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    widths = [16, 32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256]
    strides = [1, 2, 1, 2, 1, 1, 1, 2, 1, 1, 2, 1]
    layers = [_separable(a, b, stride, nn.ReLU) for a, b, stride in zip(widths, widths[1:], strides, strict=False)]
    if rfb:
        layers[6] = Rfb()
    extra = nn.Sequential(
        _conv(256, 64, 1),
        nn.ReLU(),
        nn.Sequential(_conv(64, 64, 3, 2, groups=64), nn.ReLU(), _conv(64, 256, 1)),
        nn.ReLU(),
    )
    return [stem, *layers, extra]


def _heads(numbers: int) -> Any:
    def head(inner: int, out: int) -> Any:
        return nn.Sequential(_conv(inner, inner, 3, groups=inner), nn.ReLU(), _conv(inner, out, 1))

    plan = ((64, 3), (128, 2), (256, 2))
    return nn.ModuleList([*(head(c, a * numbers) for c, a in plan), _conv(256, 3 * numbers, 3)])


def _gathered(heads: Any, taps: list[Any], numbers: int) -> Any:
    maps = [head(x).permute(0, 2, 3, 1).reshape(len(x), -1, numbers) for head, x in zip(heads, taps, strict=True)]
    return torch.cat(maps, 1)


class Slim(nn.Module):  # type: ignore[misc, name-defined]
    """Ultra-Light, boxes only."""

    def __init__(self) -> None:
        super().__init__()
        *trunk, extra = _trunk(rfb=False)
        self.base_net, self.extras = nn.ModuleList(trunk), nn.ModuleList([extra])
        self.classification_headers, self.regression_headers = _heads(2), _heads(4)

    def forward(self, x: Any) -> Any:
        taps = []
        for number, layer in enumerate([*self.base_net, self.extras[0]]):
            x = layer(x)
            if number in (7, 10, 12, 13):
                taps.append(x)
        conf = _gathered(self.classification_headers, taps, 2).softmax(-1)
        return {"loc": _gathered(self.regression_headers, taps, 4), "conf": conf}


class RfbLandmarks(nn.Module):  # type: ignore[misc, name-defined]
    """RFB's trunk, with landmark heads and other names."""

    def __init__(self) -> None:
        super().__init__()
        for number, layer in enumerate(_trunk(rfb=True), 1):
            self.add_module(f"conv{number}", layer)
        self.loc, self.conf, self.landm = _heads(4), _heads(2), _heads(10)

    def forward(self, x: Any) -> Any:
        taps = []
        for number in range(1, 15):
            x = getattr(self, f"conv{number}")(x)
            if number in (8, 11, 13, 14):
                taps.append(x)
        return {
            "loc": _gathered(self.loc, taps, 4),
            "conf": _gathered(self.conf, taps, 2).softmax(-1),
            "landms": _gathered(self.landm, taps, 10),
        }


class RetinaFace(nn.Module):  # type: ignore[misc, name-defined]
    """MobileNet-0.25, feature pyramid, context modules."""

    def __init__(self, leaky: bool) -> None:
        super().__init__()

        def act() -> Any:
            return nn.LeakyReLU(0.1) if leaky else nn.ReLU()

        def norm(inner: int, out: int, kernel: int, stride: int = 1, active: bool = True) -> Any:
            layers = [_conv(inner, out, kernel, stride, bias=False), nn.BatchNorm2d(out)]
            return nn.Sequential(*layers, *([act()] if active else []))

        def stage(*plan: tuple[int, int, int]) -> list[Any]:
            return [_separable(*step, act) for step in plan]

        self.body = nn.Module()
        self.body.stage1 = nn.Sequential(
            norm(3, 8, 3, 2), *stage((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))
        )
        self.body.stage2 = nn.Sequential(*stage((64, 128, 2), *[(128, 128, 1)] * 5))
        self.body.stage3 = nn.Sequential(*stage((128, 256, 2), (256, 256, 1)))
        self.fpn = nn.Module()
        for number, inner in enumerate((64, 128, 256), 1):
            self.fpn.add_module(f"output{number}", norm(inner, 64, 1))
        self.fpn.merge1, self.fpn.merge2 = norm(64, 64, 3), norm(64, 64, 3)
        for number in (1, 2, 3):
            context = nn.Module()
            context.conv3X3, context.conv5X5_1 = norm(64, 32, 3, active=False), norm(64, 16, 3)
            context.conv5X5_2, context.conv7X7_2 = norm(16, 16, 3, active=False), norm(16, 16, 3)
            context.conv7x7_3 = norm(16, 16, 3, active=False)
            self.add_module(f"ssh{number}", context)
        for name, numbers in (("ClassHead", 2), ("BboxHead", 4), ("LandmarkHead", 10)):
            heads = nn.ModuleList()
            for _ in range(3):
                holder = nn.Module()
                holder.conv1x1 = nn.Conv2d(64, 2 * numbers, 1)
                heads.append(holder)
            self.add_module(name, heads)

    def forward(self, x: Any) -> Any:
        a = self.body.stage1(x)
        b = self.body.stage2(a)
        c = self.body.stage3(b)
        a, b, c = self.fpn.output1(a), self.fpn.output2(b), self.fpn.output3(c)
        b = self.fpn.merge2(b + F.interpolate(c, size=b.shape[2:], mode="nearest"))
        a = self.fpn.merge1(a + F.interpolate(b, size=a.shape[2:], mode="nearest"))
        levels = []
        for number, x in enumerate((a, b, c), 1):
            net = getattr(self, f"ssh{number}")
            five = net.conv5X5_1(x)
            views = [net.conv3X3(x), net.conv5X5_2(five), net.conv7x7_3(net.conv7X7_2(five))]
            levels.append(torch.cat(views, 1).relu())

        def head(name: str, numbers: int) -> Any:
            heads = getattr(self, name)
            maps = [h.conv1x1(x).permute(0, 2, 3, 1) for h, x in zip(heads, levels, strict=True)]
            return torch.cat([m.reshape(len(m), -1, numbers) for m in maps], 1)

        return {
            "loc": head("BboxHead", 4),
            "conf": head("ClassHead", 2).softmax(-1),
            "landms": head("LandmarkHead", 10),
        }


class ONet(nn.Module):  # type: ignore[misc, name-defined]
    """MTCNN's third net."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu4(self.conv4(x)).permute(0, 3, 2, 1).flatten(1)
        x = self.prelu5(self.dense5(x))
        xs, ys = self.dense6_3(x).split(5, dim=1)
        return {"landmarks": torch.stack([xs, ys], 2).flatten(1), "score": self.dense6_1(x).softmax(1)[:, 1:]}
