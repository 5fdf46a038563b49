"""MXNet checkpoints: a symbol (JSON) and its arrays (.params), for ArcFace's LResNet34E-IR, SSH and RetinaFace mnet.25.

The symbol is followed operator by operator. Batch norms are folded into the layer before them, and the one before a
dense layer into that; others become a scale and a shift.
Source: the operators as MXNet 1.x documents them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass as plain
from dataclasses import field
from typing import Any

import numpy as np
import onnx
from pydantic import ConfigDict, PositiveInt, TypeAdapter
from pydantic.dataclasses import dataclass

from facebatch.errors import FacebatchError
from facebatch.geometry import Floats
from facebatch.importers import Given, Imported
from facebatch.importers.checkpoint import Checkpoint
from facebatch.importers.mxnet_file import MAGIC, read_params
from facebatch.importers.mxnet_shapes import Sizes, sizes
from facebatch.importers.mxnet_symbol import (
    ADDITIONS,
    EPS,
    PASSING,
    SCALARS,
    SLOPE,
    VARIABLE,
    Node,
    Shape,
    Symbol,
    arrays_of,
    kernel_of,
    read_symbol,
    softmax_axis,
)
from facebatch.importers.network import Network, folded


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Options:
    """shape: channels, height and width of the images that the network was made for.
    outputs: nodes of the symbol by public name; the symbol's heads under their own names if there are none.
    convolutional: whether height and width may be others than those of `shape`."""

    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    outputs: dict[str, str] = field(default_factory=dict)
    convolutional: bool = True


def convert(files: Sequence[Given], options: Mapping[str, Any]) -> Imported:
    """A symbol and its .params file, in any order. Raises FacebatchError if either is not what it should be, or if they
    do not belong together to the last array."""
    chosen = TypeAdapter(Options).validate_python(dict(options))
    symbol_file, params_file = _told_apart(files)
    symbol = read_symbol(symbol_file)
    known = sizes(symbol, chosen.shape)
    channels, height, width = chosen.shape
    if chosen.convolutional and sizes(symbol, (channels, 2 * height, 2 * width)).arrays != known.arrays:
        raise FacebatchError(
            f"{symbol.file} works at {width}x{height} only, so it needs the option convolutional: false"
        )
    outputs = _outputs(symbol, chosen.outputs)
    axes = ["N", channels, *("HW" if chosen.convolutional else (height, width))]
    checkpoint = Checkpoint(_renamed(read_params(params_file), known.arrays), params_file.name)
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            arrays = {name: checkpoint.take(name, *shape) for name, shape in known.arrays.items()}
            checkpoint.finish()
            graph = _graph(symbol, known, arrays, outputs, axes)
    except FloatingPointError as error:
        raise FacebatchError(f"{params_file.name} is damaged: its numbers cannot be used ({error})") from error
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, UnicodeEncodeError) as error:
        raise FacebatchError(f"{symbol.file} gives no valid graph: {error}") from error
    return Imported(graph, checkpoint.trainable)


def shapes(symbol: Given, shape: Shape) -> dict[str, Shape]:
    """The shape of every array that a symbol wants, by name, for images of `shape` (channels, height, width)."""
    return sizes(read_symbol(symbol), shape).arrays


def _told_apart(files: Sequence[Given]) -> tuple[Given, Given]:
    """The symbol and the arrays. JSON begins with a brace, after spaces perhaps."""
    symbols = [given for given in files if re.match(rb"\s*\{", given.data)]
    params = [given for given in files if given.data.startswith(MAGIC)]
    if len(files) == 2 and len(symbols) == len(params) == 1:
        return symbols[0], params[0]
    names = ", ".join(given.name for given in files)
    raise FacebatchError(
        f"an MXNet checkpoint is one symbol (JSON) and one .params file; {names} are {len(symbols)} and {len(params)}"
    )


def _renamed(arrays: dict[str, np.ndarray], wanted: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """Gluon calls the statistics of batch norms `running_`, symbols mostly `moving_`; mnet.25 has one in each file."""
    found = {}
    for name, array in arrays.items():
        other = re.sub(r"_running_(mean|var)$", r"_moving_\1", name)
        found[other if other in wanted and name not in wanted and other not in arrays else name] = array
    return found


def _outputs(symbol: Symbol, wanted: Mapping[str, str]) -> dict[str, int]:
    """Node numbers by public name. MXNet calls a node's first output by the node's name, or that and `_output`."""
    if not wanted:
        return {symbol.nodes[head].name: head for head in symbol.heads}
    places = {node.name: node.place for node in symbol.nodes if node.op != VARIABLE}
    found = {}
    for public, name in wanted.items():
        if (place := places.get(name, places.get(name.removesuffix("_output")))) is None:
            raise FacebatchError(f"{symbol.file} is another model: it has no output {name!r}")
        found[public] = place
    return found


@plain(frozen=True, slots=True)
class _Build:
    """A graph under construction. before, after: the batch norms, by the layer that they come before or after, into
    which they are folded."""

    net: Network
    symbol: Symbol
    sizes: Sizes
    arrays: dict[str, Floats]
    before: dict[int, Node]
    after: dict[int, Node]

    def of(self, node: Node) -> list[Floats]:
        """A node's arrays, in the order of its operator."""
        return [self.arrays[name] for name in arrays_of(self.symbol, node)]

    def norm(self, node: Node) -> tuple[Floats, Floats, Floats, Floats, float]:
        """gamma, beta, mean, variance and eps of a batch norm. A fixed gamma is 1, whatever the file holds."""
        gamma, beta, mean, var = self.of(node)
        return np.ones_like(gamma) if node.flag("fix_gamma", True) else gamma, beta, mean, var, node.number("eps", EPS)

    def scaling(self, node: Node) -> tuple[Floats, Floats]:
        """A batch norm as scale and shift."""
        gamma, beta, mean, var, eps = self.norm(node)
        return folded(np.ones_like(gamma), None, gamma, beta, mean, var, eps)

    def layer(self, node: Node) -> tuple[Floats, Floats | None]:
        """Weight and bias of a convolution or dense layer, with the batch norms around it."""
        weight, *rest = self.of(node)
        bias = rest[0] if rest else None
        if node.place in self.before:
            scale, shift = self.scaling(self.before[node.place])
            cells = weight.shape[1] // scale.size  # of a map, flattened channel by channel
            shifted = (weight * np.repeat(shift, cells)).sum(axis=1, dtype=np.float64).astype(np.float32)
            bias = shifted if bias is None else bias + shifted
            weight = weight * np.repeat(scale, cells)
        if node.place in self.after:
            return folded(weight, bias, *self.norm(self.after[node.place]))
        return weight, bias

    def by_channel(self, node: Node, values: Floats) -> str:
        """One number for each channel of what the node gives."""
        return self.net.array(values.reshape(-1, *[1] * (len(self.sizes.outputs[node.place]) - 2)))


def _graph(
    symbol: Symbol, known: Sizes, arrays: dict[str, Floats], outputs: dict[str, int], axes: list[int | str]
) -> bytes:
    needed = set(outputs.values())
    for node in reversed(symbol.nodes):
        if node.place in needed:
            needed.update(node.sources)
    nodes = [symbol.nodes[place] for place in sorted(needed) if symbol.nodes[place].op != VARIABLE]
    before, after = _foldable(symbol, nodes, set(outputs.values()))
    gone = {norm.place for norm in (*before.values(), *after.values())}
    build = _Build(Network(), symbol, known, arrays, before, after)
    fed = symbol.nodes[known.input].name
    tensors = {known.input: fed}
    for node in nodes:
        inputs = [tensors[place] for place in node.sources]
        tensors[node.place] = inputs[0] if node.place in gone else _OPERATORS[node.op](build, node, *inputs)
    return build.net.model({fed: axes}, {public: tensors[place] for public, place in outputs.items()})


def _foldable(symbol: Symbol, nodes: list[Node], outputs: set[int]) -> tuple[dict[int, Node], dict[int, Node]]:
    """Batch norms by the layer that they come before, and by the layer that they come after, with nothing else between
    that reads the numbers in between."""
    users: dict[int, list[Node]] = {node.place: [] for node in symbol.nodes}
    for node in nodes:
        for place in node.sources:
            users[place].append(node)

    def only_user(node: Node) -> Node | None:
        return users[node.place][0] if len(users[node.place]) == 1 and node.place not in outputs else None

    before, after = {}, {}
    for norm in (node for node in nodes if node.op == "BatchNorm"):
        layer, user = symbol.nodes[norm.inputs[0]], only_user(norm)
        while user is not None and user.op in PASSING:
            user = only_user(user)
        if layer.op in ("Convolution", "FullyConnected") and only_user(layer) is norm:
            after[layer.place] = norm
        elif user is not None and user.op == "FullyConnected":
            before[user.place] = norm
    return before, after


def _convolution(build: _Build, node: Node, x: str) -> str:
    weight, bias = build.layer(node)
    return _windowed(build, node, "Conv", x, weight, bias)


def _deconvolution(build: _Build, node: Node, x: str) -> str:
    weight, *bias = build.of(node)
    extra = node.pair("adj", 0)
    return _windowed(build, node, "ConvTranspose", x, weight, bias[0] if bias else None, output_padding=extra)


def _windowed(
    build: _Build, node: Node, kind: str, x: str, weight: Floats, bias: Floats | None, **attributes: Any
) -> str:
    kernel, stride, pad, dilate = kernel_of(node)
    return build.net.op(
        kind,
        x,
        *(build.net.array(array) for array in (weight, bias) if array is not None),
        kernel_shape=kernel,
        strides=stride,
        pads=pad * 2,
        dilations=dilate,
        group=node.whole("num_group", 1),
        **attributes,
    )


def _dense(build: _Build, node: Node, x: str) -> str:
    weight, bias = build.layer(node)
    if len(build.sizes.outputs[node.inputs[0]]) != 2:
        x = build.net.op("Flatten", x)
    return build.net.dense(x, weight, np.zeros(len(weight), np.float32) if bias is None else bias)


def _batch_norm(build: _Build, node: Node, x: str) -> str:
    scale, shift = build.scaling(node)
    return build.net.op("Add", build.net.op("Mul", x, build.by_channel(node, scale)), build.by_channel(node, shift))


def _activation(build: _Build, node: Node, x: str) -> str:
    return build.net.op({"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}[node.text("act_type")], x)


def _leaky(build: _Build, node: Node, x: str) -> str:
    if node.text("act_type") == "prelu":
        return build.net.op("PRelu", x, build.by_channel(node, *build.of(node)))
    return build.net.leaky(x, node.number("slope", SLOPE))


def _pooling(build: _Build, node: Node, x: str) -> str:
    kind = {"max": "MaxPool", "avg": "AveragePool"}[node.text("pool_type", "max")]
    if node.flag("global_pool"):
        return build.net.op(f"Global{kind}", x)
    kernel, stride, pad, _ = kernel_of(node)
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": pad * 2}
    if kind == "AveragePool":
        window["count_include_pad"] = int(node.flag("count_include_pad", True))
    return build.net.op(kind, x, **window)


def _crop(build: _Build, node: Node, x: str, like: str) -> str:
    """The top left of x, from an offset, as large as the other map turns out to be."""
    net, start = build.net, node.pair("offset", 0)
    end = net.op("Slice", net.op("Shape", like), net.array([2]), net.array([4]))
    if any(start):
        end = net.op("Add", end, net.array(start))
    return net.op("Slice", x, net.array(start), end, net.array([2, 3]))


def _upsampling(build: _Build, node: Node, x: str) -> str:
    scale = node.whole("scale")
    scales = build.net.array(np.array([1, 1, scale, scale], np.float32))
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return build.net.op("Resize", x, "", scales, **how)


_OPERATORS: dict[str, Callable[..., str]] = {
    "Activation": _activation,
    "BatchNorm": _batch_norm,
    "Concat": lambda build, node, *parts: build.net.concat(*parts, axis=node.whole("dim", 1)),
    "Convolution": _convolution,
    "Crop": _crop,
    "Deconvolution": _deconvolution,
    "Flatten": lambda build, node, x: build.net.op("Flatten", x),
    "FullyConnected": _dense,
    "LeakyReLU": _leaky,
    "Pooling": _pooling,
    "Reshape": lambda build, node, x: build.net.op("Reshape", x, build.net.array(node.wholes("shape"))),
    "UpSampling": _upsampling,
    **dict.fromkeys(
        ("SoftmaxActivation", "SoftmaxOutput", "softmax"), lambda b, n, x: b.net.softmax(x, softmax_axis(n))
    ),
    **dict.fromkeys(("_copy", "identity", "Dropout", "BlockGrad"), lambda build, node, x: x),
    **dict.fromkeys(ADDITIONS, lambda build, node, x, y: build.net.add(x, y)),
    **dict.fromkeys(SCALARS, lambda b, n, x: b.net.op(SCALARS[n.op], x, b.net.array(np.array(n.number("scalar"))))),
}
