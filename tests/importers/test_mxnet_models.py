"""The published MXNet networks as ONNX, against PyTorch builds that share no code with the importer."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from facebatch.cost import cost
from facebatch.detectors import rpn
from facebatch.errors import FacebatchError
from facebatch.geometry import Floats, Picture, letterbox
from facebatch.importers import Given, Imported
from facebatch.importers.mxnet import convert, shapes
from facebatch.importers.mxnet_file import read_params
from facebatch.nms import nms
from facebatch.packs import Anchors
from tests.importers import mxnet_writer
from tests.importers.test_mxnet import TORCH, largest_difference, run

ARCFACE: dict[str, Any] = {"shape": [3, 112, 112], "convolutional": False, "outputs": {"embedding": "fc1"}}
DETECTOR: dict[str, Any] = {"shape": [3, 640, 640]}
ANCHORS = Anchors((32, 16, 8), ((512, 256), (128, 64), (32, 16)))


def published(path: str) -> Given:
    file = Path(os.environ["FACEBATCH_MODELS"]) / path
    return Given(file.name, file.read_bytes())


# LResNet34E-IR.


@pytest.fixture(scope="module")
def arcface() -> tuple[Given, bytes, Imported]:
    """The published symbol with random weights: symbol, .params, graph."""
    symbol = published("arcface-resnet34/model-symbol.json")
    weights = mxnet_writer.weights(shapes(symbol, (3, 112, 112)))
    for name in weights:
        if name.endswith(("_bn3_gamma", "_sc_gamma")):  # else sixteen sums would drown every shift
            weights[name] *= 0.25
    file = mxnet_writer.saved(weights)
    return symbol, file, convert([Given("model-0000.params", file), symbol], ARCFACE)


@pytest.mark.needs_models
def test_arcface_has_the_size_and_the_parameters_that_were_published(arcface: tuple[Given, bytes, Imported]) -> None:
    symbol, file, imported = arcface
    assert len(shapes(symbol, (3, 112, 112))) == 276
    assert len(file) == 136_680_367  # model-0000.params, sha256 429b0dec...
    assert imported.parameters == 34_139_328
    arrays = onnx.load_from_string(imported.graph).graph.initializer
    sizes = [prod(array.dims) for array in arrays if array.data_type == onnx.TensorProto.FLOAT]
    assert sum(size for size in sizes if size > 1) == 34_128_704  # 34.129 M, as the Open Model Zoo says
    assert cost(imported.graph, 112, 112).gflops == pytest.approx(8.934, rel=0.002)  # the card counts sums, too


@pytest.mark.needs_models
@pytest.mark.reference
def test_arcface_gives_the_embedding_of_an_independent_build(arcface: tuple[Given, bytes, Imported]) -> None:
    torch = pytest.importorskip("torch", reason=TORCH)
    import torch.nn.functional as F  # noqa: N812

    _, file, imported = arcface
    w = {name: torch.from_numpy(array.copy()) for name, array in read_params(Given("p", file)).items()}

    def bn(x: Any, name: str, gamma: bool = True) -> Any:
        mean, var = w[f"{name}_moving_mean"], w[f"{name}_moving_var"]
        return F.batch_norm(x, mean, var, w[f"{name}_gamma"] if gamma else None, w[f"{name}_beta"], eps=2e-5)

    def unit(x: Any, name: str, stride: int) -> Any:
        y = F.conv2d(bn(x, f"{name}_bn1"), w[f"{name}_conv1_weight"], padding=1)
        y = F.prelu(bn(y, f"{name}_bn2"), w[f"{name}_relu1_gamma"])
        y = bn(F.conv2d(y, w[f"{name}_conv2_weight"], stride=stride, padding=1), f"{name}_bn3")
        if stride == 1:
            return y + x
        return y + bn(F.conv2d(x, w[f"{name}_conv1sc_weight"], stride=stride), f"{name}_sc")

    pixels = np.random.default_rng(1).integers(0, 256, (3, 3, 112, 112)).astype(np.float32)
    x = (torch.from_numpy(pixels) - 127.5) * 0.0078125
    x = F.prelu(bn(F.conv2d(x, w["conv0_weight"], padding=1), "bn0"), w["relu0_gamma"])
    for stage, units in enumerate((3, 4, 6, 3), 1):
        for number in range(1, units + 1):
            x = unit(x, f"stage{stage}_unit{number}", 2 if number == 1 else 1)
    before = F.linear(bn(x, "bn1").flatten(1), w["pre_fc1_weight"], w["pre_fc1_bias"])
    expected = bn(before, "fc1", gamma=False).numpy()  # fix_gamma: the stored gamma is not used

    found = run(imported.graph, pixels)["embedding"]
    assert found.shape == (3, 512)
    difference = largest_difference(found, expected)
    print(f"LResNet34E-IR: largest relative difference {difference:.1e}")
    assert difference < 1e-4
    print(f"LResNet34E-IR: numbers up to {np.abs(expected).max():.1f}, at bn1 up to {x.abs().max():.1f}")
    assert largest_difference(found, before.numpy()) > 0.1  # not what comes before the last batch norm
    for image in range(3):
        alone = run(imported.graph, pixels[image : image + 1])["embedding"]
        assert largest_difference(alone[0], found[image]) < 1e-5


# SSH.


@pytest.fixture(scope="module")
def ssh() -> tuple[dict[str, np.ndarray], Imported]:
    """The published symbol with random weights, of a size that suits pixels less their mean."""
    symbol = published("ssh/e2e-symbol.json")
    weights = mxnet_writer.weights(shapes(symbol, (3, 640, 640)))
    weights["conv1_1_weight"] /= 64
    for name in weights:
        if "_pred_" in name or "_score_" in name:
            weights[name] *= 0.25
    return weights, convert([symbol, Given("e2e-0000.params", mxnet_writer.saved(weights))], DETECTOR)


@pytest.mark.needs_models
def test_ssh_has_the_parameters_and_the_cost_that_were_published(ssh: tuple[dict[str, np.ndarray], Imported]) -> None:
    _, imported = ssh
    assert imported.parameters == 19_768_420  # 19.7684 M, as the Open Model Zoo says
    assert cost(imported.graph, 640, 640).gflops == pytest.approx(267.0594, rel=0.002)


def ssh_in_torch(weights: dict[str, np.ndarray], pixels: Floats) -> dict[str, Floats]:
    """VGG16 and three detection modules, by the paper and symbol_ssh.py."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    w = {name: torch.from_numpy(array) for name, array in weights.items()}

    def conv(x: Any, name: str, pad: int = 1) -> Any:
        return F.conv2d(x, w[f"{name}_weight"], w[f"{name}_bias"], padding=pad)

    def module(x: Any, name: str) -> Any:
        context = conv(x, f"{name}_context_conv1").relu()
        wide = conv(conv(context, f"{name}_context_conv3_1").relu(), f"{name}_context_conv3_2")
        return torch.cat([conv(x, f"{name}_conv1"), conv(context, f"{name}_context_conv2"), wide], 1).relu()

    x, maps = torch.from_numpy(pixels), {}
    for block, layers in enumerate((2, 2, 3, 3, 3), 1):
        for layer in range(1, layers + 1):
            x = conv(x, f"conv{block}_{layer}").relu()
        maps[block] = x
        x = F.max_pool2d(x, 2)
    coarse = conv(maps[5], "ssh_m2_red_conv", 0).relu()
    coarse = F.conv_transpose2d(coarse, w["ssh_m2_red_upsampling_weight"], stride=2, padding=1, groups=128)
    fine = conv(conv(maps[4], "ssh_m1_red_conv", 0).relu() + coarse, "ssh_m1_conv").relu()
    levels = {32: module(x, "ssh_m3_det"), 16: module(maps[5], "ssh_m2_det"), 8: module(fine, "ssh_m1_det")}
    outputs = {}
    for stride, level in levels.items():
        ground, face = conv(level, f"rpn_cls_score_stride{stride}", 0).split(2, 1)
        share = torch.stack([ground, face]).softmax(0)
        outputs[f"rpn_cls_prob_reshape_stride{stride}"] = torch.cat([*share], 1).numpy()
        outputs[f"rpn_bbox_pred_stride{stride}"] = conv(level, f"rpn_bbox_pred_stride{stride}", 0).numpy()
    return outputs


def ssh_decoded(outputs: dict[str, Floats], image: int, lowest: float) -> tuple[Floats, Floats]:
    """Scores and inclusive corners, by test_ssh.py: squares around (7.5, 7.5), shifted over the whole map."""
    scores, boxes = [], []
    for stride, scales in ((32, (32, 16)), (16, (8, 4)), (8, (2, 1))):
        base = [[7.5 - 0.5 * (16 * k - 1)] * 2 + [7.5 + 0.5 * (16 * k - 1)] * 2 for k in scales]
        prob = outputs[f"rpn_cls_prob_reshape_stride{stride}"][image]
        rows, columns = prob.shape[1:]
        x, y = np.meshgrid(np.arange(columns) * stride, np.arange(rows) * stride)
        shifts = np.stack([x.ravel(), y.ravel(), x.ravel(), y.ravel()], 1)
        anchors = (shifts[:, None] + np.array(base)[None]).reshape(-1, 4)
        deltas = outputs[f"rpn_bbox_pred_stride{stride}"][image].transpose(1, 2, 0).reshape(-1, 4)
        width, height = anchors[:, 2] - anchors[:, 0] + 1, anchors[:, 3] - anchors[:, 1] + 1
        middle_x = deltas[:, 0] * width + anchors[:, 0] + 0.5 * (width - 1)
        middle_y = deltas[:, 1] * height + anchors[:, 1] + 0.5 * (height - 1)
        half_x, half_y = 0.5 * (np.exp(deltas[:, 2]) * width - 1), 0.5 * (np.exp(deltas[:, 3]) * height - 1)
        boxes.append(np.stack([middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y], 1))
        scores.append(prob[2:].transpose(1, 2, 0).ravel())
    score, box = np.concatenate(scores), np.concatenate(boxes)
    return score[score >= lowest], box[score >= lowest]


@pytest.mark.needs_models
@pytest.mark.reference
@pytest.mark.parametrize("size", [(96, 160), (64, 32)])
def test_ssh_gives_the_boxes_of_an_independent_build(
    ssh: tuple[dict[str, np.ndarray], Imported], size: tuple[int, int]
) -> None:
    pytest.importorskip("torch", reason=TORCH)
    weights, imported = ssh
    pixels = np.random.default_rng(1).uniform(-120, 130, (2, 3, *size)).astype(np.float32)
    expected, found = ssh_in_torch(weights, pixels), run(imported.graph, pixels)
    assert list(found) == list(expected)
    difference = max(largest_difference(found[name], expected[name]) for name in expected)
    print(f"SSH: largest relative difference {difference:.1e}")
    assert difference < 1e-4
    for image, candidates in enumerate(rpn.decode(found, size[1], size[0], 0.6, ANCHORS)):
        scores, boxes = ssh_decoded(found, image, 0.6)
        assert len(scores) > 10
        assert candidates.scores.tolist() == scores.tolist()
        assert np.allclose(candidates.boxes, np.add(boxes, [0, 0, 1, 1]), rtol=1e-4, atol=1e-2)
        assert candidates.landmarks is None


# RetinaFace mnet.25, a real pair.


def mnet25() -> list[Given]:
    folder = "retinaface/mxnet_mnet25"
    return [published(f"{folder}/mnet.25-symbol.json"), published(f"{folder}/mnet.25-0000.params")]


@pytest.mark.needs_models
def test_mnet25_finds_the_faces_of_real_photographs(group: np.ndarray) -> None:
    files = mnet25()
    assert sum(array.size for array in read_params(files[1]).values()) == 433_904
    imported = convert(files, DETECTOR)
    assert imported.parameters == 433_904 - 6_688  # the running statistics of batch norms
    view = letterbox(Picture((group,), 1024, 600), [(1024, 608)])
    pixels = view.pixels.transpose(2, 0, 1)[None].astype(np.float32)
    (found,) = rpn.decode(run(imported.graph, pixels), 1024, 608, 0.8, ANCHORS)
    assert found.landmarks is not None
    kept = nms(found.boxes, found.scores, 0.4)
    boxes, points = found.boxes[kept], found.landmarks[kept]
    assert len(boxes) == 4
    pasted = np.array([[10, 20, 350, 360], [360, 240, 650, 580], [680, 20, 880, 220], [740, 290, 996, 590]])
    inside = (boxes[:, None, :2] >= pasted[:, :2]).all(2) & (boxes[:, None, 2:] <= pasted[:, 2:]).all(2)
    assert inside.sum(axis=0).tolist() == [1, 1, 1, 1]
    for box, (eye_left, eye_right, nose, mouth_left, mouth_right) in zip(boxes, points, strict=True):
        for point in (eye_left, eye_right, nose, mouth_left, mouth_right):
            assert (box[:2] < point).all()
            assert (point < box[2:]).all()
        assert eye_left[0] < nose[0] < eye_right[0]
        assert mouth_left[0] < mouth_right[0]
        assert max(eye_left[1], eye_right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


@pytest.mark.needs_models
def test_mnet25_takes_batches_and_any_multiple_of_32() -> None:
    graph = convert(mnet25(), DETECTOR).graph
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 224)).astype(np.float32)
    together = run(graph, pixels)
    assert {output.shape[0] for output in together.values()} == {3}
    assert together["face_rpn_landmark_pred_stride8"].shape == (3, 20, 12, 28)
    for image in range(3):
        for name, output in run(graph, pixels[image : image + 1]).items():
            assert np.abs(output[0] - together[name][image]).max() < 1e-4


@pytest.mark.needs_models
def test_weights_of_one_model_with_the_symbol_of_another_are_one_sentence() -> None:
    symbol, params = mnet25()
    with pytest.raises(FacebatchError, match=r"mnet\.25-0000\.params is another model: it has no array 'conv0_weight'"):
        convert([published("arcface-resnet34/model-symbol.json"), params], ARCFACE)
    with pytest.raises(FacebatchError, match=r"mnet\.25-0000\.params is another model: it has no array 'conv1_1"):
        convert([published("ssh/e2e-symbol.json"), params], DETECTOR)
    with pytest.raises(FacebatchError, match=r"mnet\.25-0000\.params is a damaged MXNet \.params file: it ends early"):
        convert([symbol, Given(params.name, params.data[:-1])], DETECTOR)
    with pytest.raises(FacebatchError, match=r"are 2 and 0"):
        convert([symbol, symbol], DETECTOR)
