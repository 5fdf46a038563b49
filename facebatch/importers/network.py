"""Building a network as an ONNX graph, layer by layer, with batch norms folded into the layers before them.

Everything an architecture module says is in terms of this class: it gives names of tensors and gets names of tensors.
The batch axis is symbolic, and so are height and width unless they are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from facebatch.geometry import Floats

OPSET = 17
Pads = int | str | tuple[int, int, int, int]
"""The same on all sides; `same` for TensorFlow's rule (an odd pixel goes to the bottom right); top, left, bottom,
right."""


class Network:
    """A graph under construction."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, np.ndarray] = {}
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Any ONNX node of one output. Returns the output's name."""
        output = name or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def array(self, value: Floats | Sequence[int] | np.ndarray) -> str:
        """A constant, kept once however often it is asked for; whole numbers become int64, all else float32."""
        held = np.asarray(value)
        held = held.astype(np.int64 if held.dtype.kind in "iu" else np.float32)
        name = self._names.setdefault((held.dtype.str, held.shape, held.tobytes()), f"const_{len(self._arrays)}")
        self._arrays[name] = held
        return name

    def conv(
        self,
        x: str,
        weight: Floats,
        bias: Floats | None = None,
        *,
        stride: int = 1,
        pads: Pads = 0,
        groups: int = 1,
        dilation: int = 1,
        name: str = "",
    ) -> str:
        """A convolution. weight: out x in/groups x height x width; bias: out."""
        padding: dict[str, Any] = {"pads": [pads] * 4 if isinstance(pads, int) else pads}
        if pads == "same":
            padding = {"auto_pad": "SAME_UPPER"}
        arrays = [self.array(weight)] + ([] if bias is None else [self.array(bias)])
        return self.op(
            "Conv",
            x,
            *arrays,
            name=name,
            kernel_shape=list(weight.shape[2:]),
            strides=[stride, stride],
            group=groups,
            dilations=[dilation, dilation],
            **padding,
        )

    def dense(self, x: str, weight: Floats, bias: Floats, name: str = "") -> str:
        """weight: out x in; x: batch x in."""
        return self.op("Gemm", x, self.array(weight), self.array(bias), name=name, transB=1)

    def relu(self, x: str) -> str:
        return self.op("Relu", x)

    def relu6(self, x: str) -> str:
        return self.op("Clip", x, self.array(np.array(0.0)), self.array(np.array(6.0)))

    def leaky(self, x: str, slope: float) -> str:
        return self.op("LeakyRelu", x, alpha=slope)

    def prelu(self, x: str, slope: Floats) -> str:
        """slope: one number, or one for each channel."""
        return self.op("PRelu", x, self.array(slope.reshape(-1, 1, 1)))

    def add(self, one: str, other: str) -> str:
        return self.op("Add", one, other)

    def affine(self, x: str, scale: Floats, shift: Floats) -> str:
        """x * scale + shift, for each channel of a feature map."""
        scaled = self.op("Mul", x, self.array(scale.reshape(-1, 1, 1)))
        return self.op("Add", scaled, self.array(shift.reshape(-1, 1, 1)))

    def concat(self, *parts: str, axis: int = 1, name: str = "") -> str:
        return self.op("Concat", *parts, name=name, axis=axis)

    def max_pool(self, x: str, kernel: int, stride: int, pads: int = 0, ceil: bool = False) -> str:
        return self.op(
            "MaxPool",
            x,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pads] * 4,
            ceil_mode=int(ceil),
        )

    def resize_like(self, x: str, like: str, mode: str = "linear") -> str:
        """x at the height and width of another map: `linear` as PyTorch's align_corners=False, or `nearest`."""
        size = self.op("Slice", self.op("Shape", like), self.array([2]), self.array([4]))
        whole = self.op("Concat", self.op("Slice", self.op("Shape", x), self.array([0]), self.array([2])), size, axis=0)
        how = {"coordinate_transformation_mode": "half_pixel"}
        if mode == "nearest":
            how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.op("Resize", x, "", "", whole, mode=mode, **how)

    def rows(self, x: str, width: int) -> str:
        """A map of batch x (cells' channels) x height x width as batch x candidates x `width` numbers."""
        last = self.op("Transpose", x, perm=[0, 2, 3, 1])
        return self.op("Reshape", last, self.array([0, -1, width]))

    def softmax(self, x: str, axis: int = -1, name: str = "") -> str:
        return self.op("Softmax", x, name=name, axis=axis)

    def model(self, inputs: dict[str, Sequence[int | str]], outputs: dict[str, str]) -> bytes:
        """The finished file. inputs: shape by name; outputs: tensor by public name. Raises onnx.checker errors."""
        for public, tensor in outputs.items():
            if public != tensor:
                self.op("Identity", tensor, name=public)
        used = {name for node in self._nodes for name in node.input}
        graph = helper.make_graph(
            self._nodes,
            "facebatch",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self._arrays.items() if name in used],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        made = onnx.shape_inference.infer_shapes(made)  # gives the outputs their shapes
        onnx.checker.check_model(made)
        data: bytes = made.SerializeToString()
        return data


def folded(
    weight: Floats, bias: Floats | None, gamma: Floats, beta: Floats, mean: Floats, var: Floats, eps: float
) -> tuple[Floats, Floats]:
    """Weight and bias of the layer that is the given one followed by a batch norm. The first axis is the output."""
    scale = gamma.astype(np.float64) / np.sqrt(var.astype(np.float64) + eps)
    start = 0.0 if bias is None else bias
    return (
        (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32),
        (beta + (start - mean) * scale).astype(np.float32),
    )
