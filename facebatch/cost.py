"""What a network costs: its parameters and multiply-accumulates, counted from the graph as cards count them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Cost:
    """folded: weights and biases with batch norms folded into the layers before them, slopes and scales included.
    constants: further numbers that the graph holds, as priors do. macs: of convolutions and dense layers, one image."""

    folded: int
    constants: int
    macs: int

    @property
    def gflops(self) -> float:
        """Two operations for each multiply-accumulate."""
        return 2 * self.macs / 1e9


def cost(graph: bytes, width: int, height: int) -> Cost:
    """Count a graph at an input of one image, width x height."""
    model = onnx.load_from_string(graph)
    _fix_input(model, width, height)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    arrays |= {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    makers = {output: node for node in model.graph.node for output in node.output}
    shapes = _shapes(model)
    folded = 0
    counted: set[str] = set()
    for node in model.graph.node:
        held = {name for name in node.input if name in arrays and arrays[name].dtype.kind == "f"} - counted
        if node.op_type in _LINEAR and held:
            folded += sum(arrays[name].size for name in held)
        elif node.op_type == "BatchNormalization":
            folded += _left_of_norm(arrays[node.input[1]].size, makers.get(node.input[0]))
        elif node.op_type in ("Mul", "Add", "Sub", "Div"):
            held = {name for name in held if _per_channel(arrays[name])}
            folded += sum(arrays[name].size for name in held)
        elif node.op_type == "PRelu":
            folded += sum(arrays[name].size for name in held)
        else:
            continue
        counted |= held | (set(node.input[1:]) if node.op_type == "BatchNormalization" else set())
    macs = sum(_macs(node, arrays[node.input[1]], shapes) for node in model.graph.node if _is_linear(node, arrays))
    rest = sum(a.size for name, a in arrays.items() if name not in counted and a.dtype.kind == "f" and a.size > 1)
    return Cost(folded, rest, macs)


def _is_linear(node: onnx.NodeProto, arrays: dict[str, np.ndarray]) -> bool:
    return node.op_type in _LINEAR and node.input[1] in arrays


def _left_of_norm(channels: int, before: onnx.NodeProto | None) -> int:
    """What folding leaves of a batch norm: nothing if the layer before it has a bias, a bias if it has none, scale and
    shift if there is no such layer."""
    if before is None or before.op_type not in _LINEAR:
        return 2 * channels
    return 0 if len(before.input) > 2 else channels


def _per_channel(array: np.ndarray) -> bool:
    """Scales and shifts of feature maps; priors and other tables have other shapes."""
    return array.ndim == 3 and array.shape[1:] == (1, 1) and array.size > 1


def _fix_input(model: onnx.ModelProto, width: int, height: int) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    (value,) = (value for value in model.graph.input if value.name not in constants)
    for axis, size in zip(value.type.tensor_type.shape.dim, (1, 3, height, width), strict=True):
        axis.dim_value = size
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in [*inferred.value_info, *inferred.output, *inferred.input]
    }


def _macs(node: onnx.NodeProto, weight: np.ndarray, shapes: dict[str, list[int]]) -> int:
    """Each weight works once for every pixel of the output (of the input, where a convolution is transposed)."""
    if node.op_type in ("Gemm", "MatMul"):
        places = shapes.get(node.output[0], [1])[:-1]
    else:
        places = shapes[node.input[0] if node.op_type == "ConvTranspose" else node.output[0]][2:]
    return int(weight.size * np.prod(places, dtype=np.int64))
