"""The MXNet importer, operator by operator, and files that are not what they should be."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from facebatch.errors import FacebatchError
from facebatch.geometry import Floats
from facebatch.importers import Given, Imported
from facebatch.importers.mxnet import convert, shapes
from tests.importers import mxnet_writer
from tests.importers.mxnet_writer import Operator

TORCH = "needs PyTorch: pip install 'facebatch[reference]'"


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
