"""MXNet checkpoints as ONNX, against PyTorch builds of the same networks that share no code with the importer."""

from __future__ import annotations

import json
import os
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
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
from tests.importers.mxnet_writer import Operator

ARCFACE: dict[str, Any] = {"shape": [3, 112, 112], "convolutional": False, "outputs": {"embedding": "fc1"}}
DETECTOR: dict[str, Any] = {"shape": [3, 640, 640]}
ANCHORS = Anchors((32, 16, 8), ((512, 256), (128, 64), (32, 16)))
TORCH = "needs PyTorch: pip install 'facebatch[reference]'"


def published(path: str) -> Given:
    file = Path(os.environ["FACEBATCH_MODELS"]) / path
    return Given(file.name, file.read_bytes())


def run(graph: bytes, pixels: Floats) -> dict[str, Floats]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"data": pixels}), strict=True))


def largest_difference(one: Floats, other: Floats) -> float:
    """Relative to the largest number of the other."""
    assert one.shape == other.shape
    return float(np.abs(one - other).max() / np.abs(other).max())


# The operators, one by one, in a network of no use.

ZOO: list[Operator] = [
    ("_copy", "id", {}, "data"),
    ("_plus_scalar", "shift", {"scalar": 1.5}, "id"),
    ("_div_scalar", "scaled", {"scalar": 2}, "shift"),
    (
        "Convolution",
        "conv",
        {"kernel": (3, 3), "stride": (2, 1), "pad": (1, 2), "dilate": (1, 2), "num_filter": 8},
        "scaled conv_weight conv_bias",
    ),
    (
        "BatchNorm",
        "norm",
        {"fix_gamma": False, "eps": 2e-5},
        "conv norm_gamma norm_beta norm_moving_mean norm_moving_var",
    ),
    ("LeakyReLU", "act", {"slope": 0.1}, "norm"),
    (
        "Convolution",
        "two",
        {"kernel": "(1L, 1L)", "num_filter": 4, "num_group": 2, "no_bias": True},
        "act two_weight",
    ),
    ("BatchNorm", "norm2", {}, "two norm2_gamma norm2_beta norm2_moving_mean norm2_moving_var"),
    ("broadcast_add", "sum", {}, "two norm2"),
    (
        "Deconvolution",
        "up",
        {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), "adj": (1, 1), "num_filter": 6, "no_bias": False},
        "sum up_weight up_bias",
    ),
    ("Activation", "sigmoid", {"act_type": "sigmoid"}, "up"),
    ("UpSampling", "near", {"scale": 3, "sample_type": "nearest", "num_args": 1}, "sum"),
    ("Crop", "cut", {"num_args": 2, "offset": (2, 5)}, "near sigmoid"),
    ("Concat", "cat", {"num_args": 2}, "sigmoid cut"),
    ("Pooling", "mean", {"pool_type": "avg", "kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}, "cat"),
    ("Activation", "tanh", {"act_type": "tanh"}, "mean"),
    ("Pooling", "all", {"pool_type": "avg", "global_pool": True}, "tanh"),
    ("BatchNorm", "norm3", {"fix_gamma": False}, "all norm3_gamma norm3_beta norm3_moving_mean norm3_moving_var"),
    ("Dropout", "drop", {"p": 0.4}, "norm3"),
    ("Flatten", "flat", {}, "drop"),
    ("FullyConnected", "fc", {"num_hidden": 5, "no_bias": True}, "flat fc_weight"),
    ("BatchNorm", "norm4", {}, "fc norm4_gamma norm4_beta norm4_moving_mean norm4_moving_var"),
    ("LeakyReLU", "prelu", {"act_type": "prelu"}, "norm4 relu_gamma"),
    ("BatchNorm", "norm5", {}, "prelu norm5_gamma norm5_beta norm5_moving_mean norm5_moving_var"),
    ("softmax", "soft", {}, "norm5"),
    ("SoftmaxOutput", "trained", {}, "norm4 label"),
    ("Pooling", "max", {"kernel": (2, 2), "stride": (2, 1), "pad": (1, 0)}, "cat"),
]
HEADS = "soft trained max"
SHAPE = (3, 16, 24)


def zoo_weights() -> dict[str, np.ndarray]:
    return mxnet_writer.weights(shapes(Given("zoo.json", mxnet_writer.symbol(ZOO, HEADS)), SHAPE))


def zoo(symbol: bytes = b"", params: bytes = b"", outputs: dict[str, str] | None = None) -> Imported:
    files = [
        Given("zoo.json", symbol or mxnet_writer.symbol(ZOO, HEADS)),
        Given("zoo.params", params or mxnet_writer.saved(zoo_weights())),
    ]
    return convert(files, {"shape": SHAPE, "outputs": outputs or {}})


@pytest.mark.reference
@pytest.mark.parametrize("size", [(16, 24), (34, 20)])
def test_operators_do_what_pytorchs_do(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch", reason=TORCH)
    import torch.nn.functional as F  # noqa: N812

    w = {name: torch.from_numpy(array) for name, array in zoo_weights().items()}

    def norm(x: Any, name: str, gamma: bool = False, eps: float = 1e-3) -> Any:
        mean, var = w[f"{name}_moving_mean"], w[f"{name}_moving_var"]
        return F.batch_norm(x, mean, var, w[f"{name}_gamma"] if gamma else None, w[f"{name}_beta"], eps=eps)

    pixels = np.random.default_rng(1).normal(size=(2, 3, *size)).astype(np.float32)
    x = (torch.from_numpy(pixels) + 1.5) / 2
    x = F.conv2d(x, w["conv_weight"], w["conv_bias"], stride=(2, 1), padding=(1, 2), dilation=(1, 2))
    x = F.leaky_relu(norm(x, "norm", True, 2e-5), 0.1)
    x = F.conv2d(x, w["two_weight"], groups=2)
    x = x + norm(x, "norm2")
    up = F.conv_transpose2d(x, w["up_weight"], w["up_bias"], stride=2, padding=1, output_padding=1).sigmoid()
    near = F.interpolate(x, scale_factor=3, mode="nearest")
    cat = torch.cat([up, near[:, :, 2 : 2 + up.shape[2], 5 : 5 + up.shape[3]]], 1)
    x = F.avg_pool2d(cat, 3, 2, 1).tanh().mean((2, 3))
    x = norm(F.linear(norm(x, "norm3", True), w["fc_weight"]), "norm4")
    expected = {
        "soft": norm(F.prelu(x, w["relu_gamma"]), "norm5").softmax(1),
        "trained": x.softmax(1),
        "max": F.max_pool2d(cat, 2, (2, 1), (1, 0)),
    }
    found = run(zoo().graph, pixels)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert largest_difference(found[name], tensor.numpy()) < 1e-5, name


def test_batch_norms_go_into_the_layer_before_unless_another_reads_it_too() -> None:
    kinds = [node.op_type for node in onnx.load_from_string(zoo().graph).graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Mul") == 2  # norm2, whose convolution has two readers, and norm5, behind an activation


def test_old_dialects_give_the_same_graph() -> None:
    """Before 0.9 attributes were `param`, and batch norms did not list their statistics."""
    old = json.loads(mxnet_writer.symbol(ZOO, HEADS))
    for node in old["nodes"]:
        node["param"] = node.pop("attrs", {})
        if node["op"] == "BatchNorm":
            node["inputs"] = node["inputs"][:3]
    assert zoo(json.dumps(old).encode()).graph == zoo().graph


def test_the_order_of_the_files_does_not_matter_and_statistics_may_have_gluons_names() -> None:
    weights = zoo_weights()
    gluon = {f"arg:{name.replace('_moving_', '_running_')}": array for name, array in weights.items()}
    files = [Given("a", mxnet_writer.params(gluon)), Given("b", mxnet_writer.symbol(ZOO, HEADS))]
    again = convert(files, {"shape": SHAPE})
    assert again == zoo()
    trained = [name for name in weights if "_moving_" not in name]
    assert again.parameters == sum(weights[name].size for name in trained)


def test_outputs_may_be_chosen_from_inside_and_only_their_part_is_built() -> None:
    inside = zoo(outputs={"map": "near_output"}).graph
    pixels = np.ones((1, *SHAPE), np.float32)
    assert list(run(inside, pixels)) == ["map"]
    assert run(inside, pixels)["map"].shape == (1, 4, 24, 72)
    assert not {"ConvTranspose", "Gemm"} & {node.op_type for node in onnx.load_from_string(inside).graph.node}
    both = run(zoo(outputs={"before": "fc", "after": "norm4"}).graph, pixels)
    assert np.abs(both["before"] - both["after"]).max() > 0.1
    assert np.allclose(both["before"], run(zoo(outputs={"it": "fc"}).graph, pixels)["it"], atol=1e-5)
    assert np.allclose(both["after"], run(zoo(outputs={"it": "norm4"}).graph, pixels)["it"], atol=1e-5)
    with pytest.raises(FacebatchError, match=r"zoo\.json is another model: it has no output 'fc7'"):
        zoo(outputs={"embedding": "fc7"})


# Files that are not what they should be.

NARROW: list[Operator] = [
    ("Convolution", "conv", {"kernel": (3, 3), "num_filter": 4}, "data conv_weight conv_bias"),
    ("BatchNorm", "norm", {}, "conv norm_gamma norm_beta norm_moving_mean norm_moving_var"),
    ("FullyConnected", "fc", {"num_hidden": 5}, "norm fc_weight fc_bias"),
]


def changed(operators: list[Operator], name: str, **attributes: object) -> bytes:
    """A symbol in which one operator has other attributes."""
    swapped = [(op, n, a | attributes if n == name else a, inputs) for op, n, a, inputs in operators]
    return mxnet_writer.symbol(swapped, operators[-1][1])


def with_op(operators: list[Operator], name: str, kind: str) -> bytes:
    return mxnet_writer.symbol([(kind if n == name else op, n, a, i) for op, n, a, i in operators], operators[-1][1])


@pytest.mark.parametrize(
    ("symbol", "message"),
    [
        (b"<html>404", r"zoo\.json, zoo\.params are 0 and 1"),
        (b'{"nodes": [', r"zoo\.json is no MXNet symbol that can be read: JSONDecodeError"),
        (b'{"nodes": [], "heads": []}', "its heads are not operators"),
        (b'{"nodes": 3, "heads": []}', "TypeError"),
        (b"{" + b'"a":{' * 100_000, "is no MXNet symbol that can be read: "),
        (with_op(ZOO, "tanh", "Correlation"), r"zoo\.json: operator 'Correlation' of node 'tanh' is not known here"),
        (with_op(ZOO, "near", "elemwise_add"), "elemwise_add 'near' does not work for an image of .3, 16, 24."),
        (changed(ZOO, "conv", kernel=(0, 3)), r"Convolution 'conv' does not work.*kernel \(0, 3\)"),
        (changed(ZOO, "conv", kernel=(99, 3)), "Convolution 'conv' does not work.*would give a shape"),
        (changed(ZOO, "conv", stride=(0, 1)), "stride"),
        (changed(ZOO, "conv", num_filter=10**15), "no size"),
        (changed(ZOO, "conv", num_filter=2**31 - 1), "num_filter|groups"),
        (changed(ZOO, "conv", layout="NHWC"), "layout NHWC"),
        (changed(ZOO, "norm", eps="nan"), "eps is nan"),
        (changed(ZOO, "norm", axis=3), "axis 1"),
        (changed(ZOO, "near", sample_type="bilinear"), "nearest"),
        (changed(ZOO, "cut", center_crop=True), "top left"),
        (changed(ZOO, "mean", pooling_convention="full"), "pooling_convention full"),
        (changed(ZOO, "shift", scalar="inf"), "scalar is inf"),
        (changed(ZOO, "act", act_type="rrelu"), "rrelu"),
        (changed(ZOO, "soft", axis=0), "batch"),
        (changed(ZOO, "conv", num_filter=16), r"zoo\.params is another model: array 'conv_weight' has shape"),
        (mxnet_writer.symbol(ZOO[:10], "up"), r"zoo\.params is another model: \d+ of its arrays have no place here"),
        (mxnet_writer.symbol([*ZOO, ("Crop", "more", {}, "cat image")], "more"), "inputs .'data', 'image'."),
    ],
)
def test_a_symbol_that_does_not_fit_is_one_sentence(symbol: bytes, message: str) -> None:
    with pytest.raises(FacebatchError, match=message) as caught:
        zoo(symbol)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("conv_weight", np.nan, "'conv_weight' holds numbers that are not finite"),
        ("norm_moving_var", -1.0, "its numbers cannot be used"),
        ("conv_weight", 3e38, "its numbers cannot be used"),
    ],
)
def test_numbers_that_cannot_be_are_refused(name: str, value: float, message: str) -> None:
    weights = zoo_weights()
    weights[name] = np.full_like(weights[name], value)
    with pytest.raises(FacebatchError, match=rf"zoo\.params is damaged: .*{message}"):
        zoo(params=mxnet_writer.saved(weights))


def test_a_network_with_a_dense_layer_over_a_map_has_one_size() -> None:
    symbol = Given("narrow.json", mxnet_writer.symbol(NARROW, "fc"))
    files = [symbol, Given("narrow.params", mxnet_writer.saved(mxnet_writer.weights(shapes(symbol, (3, 8, 6)))))]
    with pytest.raises(FacebatchError, match=r"narrow\.json works at 6x8 only"):
        convert(files, {"shape": (3, 8, 6)})
    graph = convert(files, {"shape": (3, 8, 6), "convolutional": False}).graph
    assert run(graph, np.ones((2, 3, 8, 6), np.float32))["fc"].shape == (2, 5)


def test_a_flipped_bit_is_a_sentence_or_another_number() -> None:
    symbol = Given("narrow.json", mxnet_writer.symbol(NARROW, "fc"))
    whole = [symbol, Given("narrow.params", mxnet_writer.saved(mxnet_writer.weights(shapes(symbol, (3, 4, 4)))))]
    options = {"shape": (3, 4, 4), "convolutional": False}
    convert(whole, options)
    random = np.random.default_rng(0)
    taken, refused = 0, []
    for flip in range(600):
        files = list(whole)
        which = flip % 2
        data = bytearray(files[which].data)
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))
        files[which] = Given(files[which].name, bytes(data))
        try:
            convert(files, options)
            taken += 1
        except FacebatchError as error:
            refused.append(str(error))
    assert min(taken, len(refused)) > 100
    assert not any("\n" in sentence for sentence in refused)


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
