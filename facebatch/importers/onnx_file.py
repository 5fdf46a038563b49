"""Published ONNX files: as they are, or with axes made dynamic that were exported as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper
from pydantic import TypeAdapter

from facebatch.errors import FacebatchError
from facebatch.importers import Given, Imported


@dataclass(frozen=True)
class Options:
    """free: the axes to make symbolic: none, the batch, or batch, height and width."""

    free: Literal["none", "batch", "shape"] = "none"


def convert(files: Sequence[Given], options: Mapping[str, Any]) -> Imported:
    """The file itself, or the same graph with free axes. Raises FacebatchError for what is no ONNX file."""
    (given,) = files
    free = TypeAdapter(Options).validate_python(dict(options)).free
    return Imported(given.data if free == "none" else freed(given, sizes=free == "shape"))


def freed(given: Given, sizes: bool = False) -> bytes:
    """Makes the first axis of every input and output symbolic (and, with `sizes`, the inputs' height and width), and
    weights plain constants.

    Published files of 2019 list their weights among the inputs, which costs ONNX Runtime a warning each and keeps it
    from folding constants; and their batch is fixed at 1. The axis is only a label: where the graph folds images
    together by a constant reshape (slim-320 `_simplified`), it gives nonsense, which `session.prove_batch` finds.
    """
    try:
        model = onnx.load_from_string(given.data)
    except Exception as error:  # protobuf's DecodeError, whose module moves from version to version
        raise FacebatchError(f"{given.name} is no ONNX file: {error}") from error
    try:
        return _freed(model, given.name, sizes)
    except (LookupError, TypeError, ValueError) as error:  # of numpy and of onnx, at what no exporter writes
        raise FacebatchError(f"{given.name} is a damaged ONNX file: {type(error).__name__} {error}") from error


def _freed(model: onnx.ModelProto, file: str, sizes: bool) -> bytes:
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    unfolded = _unfold(graph)
    for value in [*graph.input, *graph.output]:
        axes = value.type.tensor_type.shape.dim
        if not axes or (sizes and len(axes) < (4 if value in graph.input else 2)):
            raise FacebatchError(f"{file} is no network that can be used: {value.name!r} has {len(axes)} axes")
        if unfolded and value in graph.output and len(axes) == 2:
            axes.insert(0, type(axes[0])())
        axes[0].dim_param = "N"
    if sizes:
        for value in graph.input:
            for axis, name in zip(value.type.tensor_type.shape.dim[2:], "HW", strict=False):
                axis.dim_param = name
        for value in graph.output:
            value.type.tensor_type.shape.dim[1].dim_param = f"P_{value.name}"
    del graph.value_info[:]  # inner shapes recorded for a batch of 1
    repaired: bytes = model.SerializeToString()
    return repaired


def _unfold(graph: onnx.GraphProto) -> bool:
    """Gives each image its own rows where an export put all images into one table. Returns whether it did.

    InsightFace's SCRFD files end in permute(2, 3, 0, 1) and reshape(-1, k): rows by height, width, image, anchor.
    """
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    found = False
    for node in graph.node:
        perm = next((a for a in node.attribute if a.name == "perm"), None)
        if node.op_type != "Transpose" or perm is None or list(perm.ints) != [2, 3, 0, 1]:
            continue
        for reader in graph.node:
            if reader.op_type != "Reshape" or reader.input[0] != node.output[0] or reader.input[1] not in arrays:
                continue
            first, *width = arrays[reader.input[1]].tolist()
            if first == -1 and len(width) == 1:
                name = f"{reader.input[1]}_of_{reader.output[0]}"
                graph.initializer.append(numpy_helper.from_array(np.array([0, -1, width[0]], np.int64), name))
                reader.input[1] = name
                perm.ints[:] = [0, 2, 3, 1]
                found = True
    return found
