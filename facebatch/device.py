"""A network on a device of its own: pixels go there as bytes, and the graph makes of them what the network wants.

Fed with numbers, as on a CPU, a GPU would get four times the bytes, after a CPU core has spent a millisecond on each
picture of 640 x 640 to make them. And inputs and outputs stay where they are on the device: memory for them is taken
once for each shape of a batch, of which there are few (`session.buckets`, canvases).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facebatch.geometry import Floats, Pixels
from facebatch.packs import Input

_SHAPES = 32
"""Shapes of batches whose memory is kept; beyond, that of the one which was used longest ago is given back."""
_PIXELS = "facebatch/pixels"


def fed_with_bytes(graph: bytes, how: Input) -> bytes:
    """The same network with pixels as its input, n x height x width x 3, uint8, RGB: colours are ordered, means taken
    off and the scale applied in the graph, by the same operations in the same order and precision as
    `session.tensor`, so that not a bit differs."""
    model = onnx.load_from_string(graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    fed = next(value for value in model.graph.input if value.name not in constants)
    batch, _, height, width = fed.type.tensor_type.shape.dim
    pixels = helper.make_tensor_value_info(_PIXELS, TensorProto.UINT8, [None] * 4)
    for axis, size in zip(pixels.type.tensor_type.shape.dim, (batch, height, width), strict=False):
        axis.CopyFrom(size)
    pixels.type.tensor_type.shape.dim[3].dim_value = 3
    steps: list[tuple[str, list[NDArray[Any]], dict[str, Any]]] = [("Transpose", [], {"perm": [0, 3, 1, 2]})]
    if how.colour != "RGB":
        steps.append(("Gather", [np.array([2, 1, 0])], {"axis": 1}))
    steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
    steps.append(("Sub", [np.array(how.mean, np.float32).reshape(1, 3, 1, 1)], {}))
    if how.scale != 1:
        steps.append(("Mul", [np.array(how.scale, np.float32)], {}))
    nodes: list[onnx.NodeProto] = []
    value = _PIXELS
    for kind, numbers, attributes in steps:
        last = len(nodes) == len(steps) - 1
        made = fed.name if last else f"facebatch/{kind}"
        names = [f"facebatch/{kind}/constant" for _ in numbers]
        model.graph.initializer.extend(map(numpy_helper.from_array, numbers, names))
        nodes.append(helper.make_node(kind, [value, *names], [made], **attributes))
        value = made
    behind = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *behind])
    model.graph.input.remove(fed)
    model.graph.input.append(pixels)
    made_of_bytes: bytes = model.SerializeToString()
    return made_of_bytes


@dataclass(frozen=True, slots=True)
class _Bound:
    binding: ort.IOBinding
    pixels: ort.OrtValue


class Device:
    """Runs a session whose graph is `fed_with_bytes` on the device that it is on. name: as ONNX Runtime calls it."""

    def __init__(self, session: ort.InferenceSession, name: str) -> None:
        self._session, self._name = session, name
        self._bound: OrderedDict[tuple[int, ...], _Bound] = OrderedDict()

    def run(self, images: Sequence[Pixels]) -> list[Floats]:
        """The network's outputs, copies of their own. images: uint8, all of one height x width x 3, RGB."""
        pixels = np.stack(images)
        if bound := self._bound.get(pixels.shape):
            bound.pixels.update_inplace(pixels)
        else:
            bound = self._bind(pixels)
        self._bound.move_to_end(pixels.shape)
        self._session.run_with_iobinding(bound.binding)
        outputs: list[Floats] = bound.binding.copy_outputs_to_cpu()
        return outputs

    def _bind(self, pixels: Pixels) -> _Bound:
        bound = _Bound(self._session.io_binding(), ort.OrtValue.ortvalue_from_numpy(pixels, self._name, 0))
        (fed,) = self._session.get_inputs()
        bound.binding.bind_ortvalue_input(fed.name, bound.pixels)
        for output in self._session.get_outputs():
            # In memory that the first run takes, and the later ones use again: a shape of inputs has one of outputs.
            bound.binding.bind_output(output.name, self._name, 0)
        self._bound[pixels.shape] = bound
        if len(self._bound) > _SHAPES:
            self._bound.popitem(last=False)
        return bound
