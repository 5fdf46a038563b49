"""Shapes in MXNet symbols: what every operator gives, and what arrays it needs, by the rules of MXNet 1.x.

What an operator cannot do here is refused here, so that the importer has only what it can build.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from facebatch.errors import FacebatchError
from facebatch.importers.mxnet_symbol import (
    ADDITIONS,
    BATCH_NORM,
    EPS,
    SCALARS,
    SLOPE,
    VARIABLE,
    Node,
    Shape,
    Symbol,
    arrays_of,
    kernel_of,
    softmax_axis,
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """outputs: the shape of what each node gives, empty for a variable that is no input.
    arrays: the shape of each array of the checkpoint, by name; input: the node that is fed."""

    outputs: tuple[Shape, ...]
    arrays: dict[str, Shape]
    input: int


def sizes(symbol: Symbol, shape: Shape) -> Sizes:
    """All shapes for one image of `shape` (channels, height, width).

    Raises FacebatchError, naming operator and node, for an operator that is not known or cannot work on that shape.
    """
    outputs: list[Shape] = []
    arrays: dict[str, Shape] = {}
    fed: list[int] = []
    for node in symbol.nodes:
        if node.op == VARIABLE:
            outputs.append(())
            continue
        if node.op not in _RULES:
            raise FacebatchError(f"{symbol.file}: operator {node.op!r} of node {node.name!r} is not known here")
        try:
            for number in node.sources:
                if symbol.nodes[number].op == VARIABLE and not outputs[number]:
                    fed.append(number)
                    outputs[number] = (1, *shape)
            output, wanted = _RULES[node.op](node, *(outputs[number] for number in node.sources))
            if min(output) < 1 or any(min(array) < 1 for array in wanted):
                raise ValueError(f"it would give a shape of {output}")
            for name, array in zip(arrays_of(symbol, node), wanted, strict=True):
                if arrays.setdefault(name, array) != array:
                    raise ValueError(f"array {name!r} would need two shapes")
        except (ValueError, TypeError, IndexError, KeyError, ArithmeticError) as error:
            words = f"{type(error).__name__} {error}"
            raise FacebatchError(
                f"{symbol.file}: {node.op} {node.name!r} does not work for an image of {shape}: {words[:200]}"
            ) from error
        outputs.append(output)
    if len(fed) != 1:
        names = [symbol.nodes[number].name for number in fed]
        raise FacebatchError(f"{symbol.file} is another model: it has the inputs {names}, expected one")
    return Sizes(tuple(outputs), arrays, fed[0])


Sized = tuple[Shape, list[Shape]]
"""What an operator gives, and the arrays it needs."""


def _convolution(node: Node, x: Shape) -> Sized:
    batch, channels, *size = x
    _flat_layout(node)
    kernel, stride, pad, dilate = kernel_of(node)
    filters, groups = node.whole("num_filter"), node.whole("num_group", 1)
    if channels % groups or filters % groups:
        raise ValueError(f"{groups} groups of {channels} channels")
    out = [(size[i] + 2 * pad[i] - dilate[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    bias = [] if node.flag("no_bias") else [(filters,)]
    return (batch, filters, *out), [(filters, channels // groups, *kernel), *bias]


def _deconvolution(node: Node, x: Shape) -> Sized:
    batch, channels, *size = x
    _flat_layout(node)
    if node.wholes("target_shape"):
        raise ValueError("target_shape is not known here")
    kernel, stride, pad, dilate = kernel_of(node)
    filters, groups = node.whole("num_filter"), node.whole("num_group", 1)
    if channels % groups or filters % groups:
        raise ValueError(f"{groups} groups of {channels} channels")
    extra = node.pair("adj", 0)
    out = [(size[i] - 1) * stride[i] - 2 * pad[i] + dilate[i] * (kernel[i] - 1) + 1 + extra[i] for i in (0, 1)]
    bias = [] if node.flag("no_bias", True) else [(filters,)]
    return (batch, filters, *out), [(channels, filters // groups, *kernel), *bias]


def _flat_layout(node: Node) -> None:
    if node.text("layout", "None") not in ("None", "NCHW"):
        raise ValueError(f"layout {node.text('layout')} is not known here")


def _pooling(node: Node, x: Shape) -> Sized:
    batch, channels, *size = x
    if node.text("pool_type", "max") not in ("max", "avg"):
        raise ValueError(f"pool_type {node.text('pool_type')} is not known here")
    if node.flag("global_pool"):
        return (batch, channels, 1, 1), []
    if node.text("pooling_convention", "valid") != "valid":
        raise ValueError(f"pooling_convention {node.text('pooling_convention')} is not known here")
    kernel, stride, pad, _ = kernel_of(node)
    out = [(size[i] + 2 * pad[i] - kernel[i]) // stride[i] + 1 for i in (0, 1)]
    return (batch, channels, *out), []


def _batch_norm(node: Node, x: Shape) -> Sized:
    if node.whole("axis", 1) != 1 or node.flag("output_mean_var"):
        raise ValueError("only batch norms over axis 1 with one output are known")
    if node.number("eps", EPS) <= 0:
        raise ValueError(f"eps {node.number('eps', EPS)}")
    return x, [(x[1],)] * len(BATCH_NORM)


def _activation(node: Node, x: Shape) -> Sized:
    if node.text("act_type") not in ("relu", "sigmoid", "tanh"):
        raise ValueError(f"act_type {node.text('act_type')!r} is not known here")
    return x, []


def _leaky(node: Node, x: Shape) -> Sized:
    if node.text("act_type", "leaky") not in ("leaky", "prelu"):
        raise ValueError(f"act_type {node.text('act_type')!r} is not known here")
    node.number("slope", SLOPE)
    return x, [(x[1],)] if node.text("act_type") == "prelu" else []


def _scalar(node: Node, x: Shape) -> Sized:
    if node.number("scalar") == 0 and node.op == "_div_scalar":
        raise ValueError("a division by zero")
    return x, []


def _sum(node: Node, x: Shape, y: Shape) -> Sized:
    if x != y:
        raise ValueError(f"shapes {x} and {y} cannot be added")
    return x, []


def _concat(node: Node, *parts: Shape) -> Sized:
    axis = node.whole("dim", 1)
    if len({part[:axis] + part[axis + 1 :] for part in parts}) != 1 or axis < 1:
        raise ValueError(f"shapes {parts} cannot be joined at axis {axis}")
    return (*parts[0][:axis], sum(part[axis] for part in parts), *parts[0][axis + 1 :]), []


def _crop(node: Node, x: Shape, like: Shape) -> Sized:
    if node.flag("center_crop") or any(
        start + size > whole for start, size, whole in zip(node.pair("offset", 0), like[2:], x[2:], strict=True)
    ):
        raise ValueError(f"only a top left part is cut out, and {like} is none of {x}")
    return (*x[:2], *like[2:]), []


def _upsampling(node: Node, x: Shape) -> Sized:
    if node.text("sample_type") != "nearest":
        raise ValueError("only the sample_type `nearest` is known")
    batch, channels, height, width = x
    scale = node.whole("scale")
    return (batch, channels, height * scale, width * scale), []


def _reshape(node: Node, x: Shape) -> Sized:
    target = node.wholes("shape")
    if not target or target[0] != 0 or min(target) < -1 or target.count(-1) > 1 or node.flag("reverse"):
        raise ValueError(f"a reshape to {target}, expected (0, ...) with one -1 at most")
    known = [x[axis] if size == 0 else size for axis, size in enumerate(target)]
    rest = prod(size for size in known if size > 0)
    shape = tuple(prod(x) // rest if size < 0 else size for size in known)
    if prod(shape) != prod(x):
        raise ValueError(f"{x} cannot become {target}")
    return shape, []


def _softmax(node: Node, x: Shape) -> Sized:
    if softmax_axis(node) not in (*range(1, len(x)), -1) or node.text("temperature", "None") not in ("None", "1.0"):
        raise ValueError("a softmax over the batch, or with a temperature")
    over_all = node.op != "softmax" and node.text("mode") != "channel" and not node.flag("multi_output")
    if over_all and len(x) != 2:
        raise ValueError(f"a softmax over all of {x}")
    return x, []


def _dense(node: Node, x: Shape) -> Sized:
    if not node.flag("flatten", True):
        raise ValueError("flatten=False is not known here")
    hidden = node.whole("num_hidden")
    return (x[0], hidden), [(hidden, prod(x[1:])), *([] if node.flag("no_bias") else [(hidden,)])]


def _same(node: Node, x: Shape) -> Sized:
    return x, []


_RULES: dict[str, Callable[..., Sized]] = {
    "Activation": _activation,
    "BatchNorm": _batch_norm,
    "Concat": _concat,
    "Convolution": _convolution,
    "Crop": _crop,
    "Deconvolution": _deconvolution,
    "Flatten": lambda node, x: ((x[0], prod(x[1:])), []),
    "FullyConnected": _dense,
    "LeakyReLU": _leaky,
    "Pooling": _pooling,
    "Reshape": _reshape,
    "SoftmaxActivation": _softmax,
    "SoftmaxOutput": _softmax,
    "UpSampling": _upsampling,
    "softmax": _softmax,
    **dict.fromkeys(ADDITIONS, _sum),
    **dict.fromkeys(SCALARS, _scalar),
    **dict.fromkeys(("_copy", "identity", "Dropout", "BlockGrad"), _same),
}
