"""The embedder that is learned from: its vectors, and the maps that its blocks pass on to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from facebatch.align import CHIP
from facebatch.geometry import Floats
from facebatch.packs import Model
from facebatch.session import Session


class Teacher:
    """shapes: of its maps, each channels x height x width, in the order of the graph. Not shared between processes."""

    def __init__(self, model: Model, provider: str, threads: int) -> None:
        self._vectors = onnx.load_from_string(model.graph).graph.output[0].name
        graph, names = _withstream(model.graph)
        self._session = Session(replace(model, graph=graph), provider, threads)
        found = self._session.run([np.zeros((CHIP, CHIP, 3), np.uint8)])
        self._maps = [name for name in names if found[name].ndim == 4]
        self.shapes = [found[name].shape[1:] for name in self._maps]

    def __call__(self, pixels: NDArray[np.uint8]) -> tuple[Floats, list[Floats]]:
        """For n x 112 x 112 x 3 RGB pixels its vectors, n x 512 of length 1, and its maps."""
        outputs = self._session.run(list(pixels))
        vectors = outputs[self._vectors].reshape(len(pixels), -1)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(lengths, 1e-12), [outputs[name] for name in self._maps]


def _withstream(graph: bytes) -> tuple[bytes, list[str]]:
    """The graph with what its residual blocks start from and end with as further outputs; and their names."""
    model = onnx.load_from_string(graph)
    names = stream(model.graph.node)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    data: bytes = model.SerializeToString()
    return data, names


def stream(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """A residual block ends with the sum of its start and of what was made of that."""
    before: dict[str, set[str]] = {}  # all that a tensor hangs on
    names: list[str] = []
    for node in nodes:
        made_of = set(node.input).union(*(before.get(name, set()) for name in node.input))
        for name in node.output:
            before[name] = made_of
        if node.op_type == "Add":
            one, other = node.input
            start = one if one in before.get(other, ()) else other if other in before.get(one, ()) else ""
            start = start if start in before else ""  # a constant, used twice
            names += [name for name in (start, node.output[0]) if start and name not in names]
    return names
