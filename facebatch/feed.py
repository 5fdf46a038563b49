"""What a network on a GPU is fed with: pixels as they are, of which its own graph makes what it wants.

Fed with numbers, as on a CPU, a GPU would get four times the bytes, after a core has spent a millisecond on each
picture of 640 x 640 to make them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facebatch.errors import FacebatchError
from facebatch.packs import Input

_PIXELS = "facebatch/pixels"


def fed_with_bytes(graph: bytes, how: Input) -> bytes:
    """The same network with pixels as its input, n x height x width x 3, uint8, RGB: colours are ordered, means taken
    off and the scale applied in the graph, by the same operations in the same order and precision as
    `session.tensor`. Raises FacebatchError for a graph without an input."""
    model = onnx.load_from_string(graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    fed = next((value for value in model.graph.input if value.name not in constants), None)
    if fed is None:
        raise FacebatchError("the network has no input")
    pixels = helper.make_tensor_value_info(_PIXELS, TensorProto.UINT8, [None, None, None, 3])
    if len(sizes := fed.type.tensor_type.shape.dim) == 4:
        batch, _, height, width = sizes
        for axis, size in zip(pixels.type.tensor_type.shape.dim, (batch, height, width), strict=False):
            axis.CopyFrom(size)
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
