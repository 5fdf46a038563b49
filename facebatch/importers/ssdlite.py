"""SSDLite MobileNetV2 of TensorFlow's detection model zoo (ssdlite_mobilenet_v2_coco_2018_05_09).

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 6.2; the names of
the variables are those of its published checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facebatch.geometry import Floats
from facebatch.importers import Given, Imported
from facebatch.importers.checkpoint import Checkpoint, Source
from facebatch.importers.network import Network, folded
from facebatch.importers.tensorflow_file import read_variables

SIDE = 300
CLASSES = 91
_EPS = 1e-3
_BLOCKS = (  # (channels out, repeats, stride of the first) of the inverted residuals behind the first; expansion 6
    (24, 2, 2),
    (32, 3, 2),
    (64, 4, 2),
    (96, 3, 1),
    (160, 3, 2),
    (320, 1, 1),
)
_TAPPED = 13
"""The inverted residual whose expanded map is the finest one with a predictor."""
_EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
_ANCHORS = (3, 6, 6, 6, 6, 6)
_PARTS = ("FeatureExtractor/", "BoxPredictor_")
_ARRAYS = ("weights", "biases", "beta", "gamma", "moving_mean", "moving_variance")


def convert(files: Sequence[Given], options: Mapping[str, Any]) -> Imported:
    """A frozen graph, or the index and data files of a checkpoint. `parameters` leaves out running statistics."""
    name = " and ".join(given.name for given in files)
    checkpoint = Checkpoint(read_variables(files, _is_wanted), name)
    graph = build(checkpoint)
    checkpoint.finish()
    return Imported(graph, checkpoint.trainable)


def _is_wanted(name: str) -> bool:
    """Weights of the network; optimizers keep slots beside them, and graphs other constants."""
    return name.startswith(_PARTS) and name.rpartition("/")[2].removeprefix("depthwise_") in _ARRAYS


def build(source: Source) -> bytes:
    """Input: N x 3 x 300 x 300, RGB, (x - 127.5) / 127.5, which the published graph does itself.

    Output, by tap, row, column, anchor: `boxes` N x 1917 x 4, TensorFlow's codes (ty, tx, th, tw); `scores`
    N x 1917 x 91, sigmoided, the first column the background.
    """
    layers = _Layers(Network(), source)
    net = layers.net
    codes: list[str] = []
    scores: list[str] = []
    for level, (tap, channels) in enumerate(_taps(layers)):
        for kind, width, found in (("BoxEncoding", 4, codes), ("Class", CLASSES, scores)):
            name = f"BoxPredictor_{level}/{kind}Predictor"
            x = layers.depthwise(tap, f"{name}_depthwise", channels)
            out = _ANCHORS[level] * width
            x = net.conv(x, layers.weight(f"{name}/weights", 1, channels, out), source.take(f"{name}/biases", out))
            found.append(net.rows(x, width))
    outputs = {"boxes": net.concat(*codes, axis=1), "scores": net.op("Sigmoid", net.concat(*scores, axis=1))}
    return net.model({"image": ["N", 3, SIDE, SIDE]}, outputs)


def _taps(layers: _Layers) -> list[tuple[str, int]]:
    """The six maps with predictors, fine to coarse, and their channels."""
    trunk = "FeatureExtractor/MobilenetV2"
    x = layers.dense("image", f"{trunk}/Conv", 3, 32, kernel=3, stride=2)
    x = layers.depthwise(x, f"{trunk}/expanded_conv/depthwise", 32)
    x = layers.dense(x, f"{trunk}/expanded_conv/project", 32, 16, active=False)
    channels, number, taps = 16, 0, []
    for out, repeats, first in _BLOCKS:
        for repeat in range(repeats):
            number += 1
            block, stride = f"{trunk}/expanded_conv_{number}", first if repeat == 0 else 1
            wide = layers.dense(x, f"{block}/expand", channels, 6 * channels)
            if number == _TAPPED:
                taps.append((wide, 6 * channels))
            y = layers.depthwise(wide, f"{block}/depthwise", 6 * channels, stride)
            y = layers.dense(y, f"{block}/project", 6 * channels, out, active=False)
            x, channels = (layers.net.add(x, y) if repeat else y), out
    x, channels = layers.dense(x, f"{trunk}/Conv_1", 320, 1280), 1280
    taps.append((x, channels))
    for number, (narrow, out) in enumerate(_EXTRAS, 2):
        down = f"{trunk}/layer_19_2_Conv2d_{number}_3x3_s2_{out}"
        x = layers.dense(x, f"{trunk}/layer_19_1_Conv2d_{number}_1x1_{narrow}", channels, narrow)
        x = layers.depthwise(x, f"{down}_depthwise", narrow, stride=2)
        x, channels = layers.dense(x, down, narrow, out), out
        taps.append((x, channels))
    return taps


class _Layers:
    """Convolutions with batch norm and ReLU6, padded as TensorFlow's SAME."""

    def __init__(self, net: Network, source: Source) -> None:
        self.net, self._source = net, source

    def dense(
        self, x: str, name: str, inner: int, out: int, kernel: int = 1, stride: int = 1, active: bool = True
    ) -> str:
        weight, bias = self._norm(self.weight(f"{name}/weights", kernel, inner, out), name, out)
        x = self.net.conv(x, weight, bias, stride=stride, pads="same")
        return self.net.relu6(x) if active else x

    def depthwise(self, x: str, name: str, channels: int, stride: int = 1) -> str:
        weight = self._source.take(f"{name}/depthwise_weights", 3, 3, channels, 1).transpose(2, 3, 0, 1)
        weight, bias = self._norm(weight, name, channels)
        return self.net.relu6(self.net.conv(x, weight, bias, stride=stride, pads="same", groups=channels))

    def weight(self, name: str, kernel: int, inner: int, out: int) -> Floats:
        """From TensorFlow's height, width, in, out."""
        return self._source.take(name, kernel, kernel, inner, out).transpose(3, 2, 0, 1)

    def _norm(self, weight: Floats, name: str, channels: int) -> tuple[Floats, Floats]:
        def part(kind: str) -> Floats:
            return self._source.take(f"{name}/BatchNorm/{kind}", channels)

        return folded(weight, None, part("gamma"), part("beta"), part("moving_mean"), part("moving_variance"), _EPS)
