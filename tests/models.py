"""Small ONNX graphs for tests that need a network but no weights."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from facebatch.align import TEMPLATE
from facebatch.packs import File, Input, Licence, Model, Pack, Weights


def model(graph: bytes, kind: str, **fields: object) -> Model:
    """A pack around a graph, as `packs.load` would give it."""
    digest = hashlib.sha256(graph).hexdigest()
    weights = Weights((File("test.onnx", digest, len(graph)),))
    pack = Pack("test", kind, "a test", weights, Licence("none", "https://example.org"), **fields)  # type: ignore[arg-type]
    return Model(pack, "test.onnx", digest, graph)


def embedder(dimensions: int = 512) -> Model:
    """An embedder: a fixed random projection of the mean colour of 8x8 blocks."""
    pool = helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=[14, 14], strides=[14, 14])
    flat = helper.make_node("Flatten", ["pooled"], ["flat"])
    project = helper.make_node("MatMul", ["flat", "w"], ["vector"])
    weights = np.random.default_rng(0).normal(size=(3 * 64, dimensions)).astype(np.float32)
    return model(
        _graph([pool, flat, project], [("x", ["N", 3, 112, 112])], [("vector", ["N", dimensions])], {"w": weights}),
        "embedder",
        input=Input("RGB", (127.5, 127.5, 127.5), 1 / 127.5),
    )


def landmarks(crop: str = "box", numbers: int = 10) -> Model:
    """A landmark net, 48x48: every point is where the template has it, moved right and down by a tenth of the mean
    brightness (0..1)."""
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0)
    row = helper.make_node("Reshape", ["mean", "to"], ["row"])
    scaled = helper.make_node("Mul", ["row", "tenth"], ["moved"])
    points = helper.make_node("Add", ["moved", "template"], ["points"])
    constants = {
        "axes": np.array([1, 2, 3]),
        "to": np.array([-1, 1]),
        "tenth": np.array(0.1, np.float32),
        "template": (TEMPLATE / 112).astype(np.float32).ravel()[None, :numbers],
    }
    return model(
        _graph([mean, row, scaled, points], [("x", ["N", 3, 48, 48])], [("points", ["N", numbers])], constants),
        "landmarks",
        input=Input("BGR", (0, 0, 0), 1 / 255, "stretch", ((48, 48),)),
        crop=crop,
    )


def bright_squares(batch: int | str = "N", **fields: object) -> Model:
    """A detector in the manner of slim-320, 64x48: one box for each 16x16 cell, its score the cell's brightness.

    batch: "N" for a real axis, 1 for a fixed one, -1 for a graph whose reshape folds all images into one.
    """
    fold, batch = batch == -1, "N" if batch == -1 else batch
    pool = helper.make_node("AveragePool", ["x"], ["cells"], kernel_shape=[16, 16], strides=[16, 16])
    face = helper.make_node("ReduceMean", ["cells", "axis"], ["grey"], keepdims=1)
    shape = helper.make_node("Reshape", ["grey", "to"], ["face"])
    ground = helper.make_node("Sub", ["one", "face"], ["ground"])
    scores = helper.make_node("Concat", ["ground", "face"], ["scores"], axis=2)
    zero = helper.make_node("Mul", ["face", "nought"], ["zero"])
    boxes = helper.make_node("Add", ["zero", "grid"], ["boxes"])
    grid = [[x / 4, y / 3, (x + 1) / 4, (y + 1) / 3] for y in range(3) for x in range(4)]
    constants = {
        "axis": np.array([1]),
        "to": np.array([1, -1, 1] if fold else [0 if batch == "N" else batch, 12, 1]),
        "one": np.array(1, np.float32),
        "nought": np.array(0, np.float32),
        "grid": np.array([grid[:1] if fold else grid], np.float32),
    }
    return model(
        _graph(
            [pool, face, shape, ground, scores, zero, boxes],
            [("x", [batch, 3, 48, 64])],
            [("scores", [batch, "P", 2]), ("boxes", [batch, "P", 4])],
            constants,
        ),
        "detector",
        input=Input("RGB", (0, 0, 0), 1 / 255, "stretch", ((64, 48),)),
        decoder="ultraface",
        **fields,
    )


def bright_dots(**fields: object) -> Model:
    """A detector in the manner of slim-320, 64x48, of three convolutions: one box for each 16x16 cell, its score twice
    the cell's brightness (0..1), less one half."""
    shrink = helper.make_node("Conv", ["x", "grey"], ["small"], kernel_shape=[4, 4], strides=[4, 4])
    again = helper.make_node("Conv", ["small", "mean"], ["cells"], kernel_shape=[4, 4], strides=[4, 4])
    last = helper.make_node("Conv", ["cells", "twice", "shift"], ["map"], kernel_shape=[1, 1])
    shape = helper.make_node("Reshape", ["map", "to"], ["face"])
    ground = helper.make_node("Sub", ["one", "face"], ["ground"])
    scores = helper.make_node("Concat", ["ground", "face"], ["scores"], axis=2)
    zero = helper.make_node("Mul", ["face", "nought"], ["zero"])
    boxes = helper.make_node("Add", ["zero", "grid"], ["boxes"])
    constants = {
        "grey": np.full((2, 3, 4, 4), 1 / 48, np.float32),
        "mean": np.stack([np.full((2, 4, 4), share / 32, np.float32) for share in (1.0, 0.25)]),
        "twice": np.array([2.0, 0.0], np.float32).reshape(1, 2, 1, 1),
        "shift": np.array([-0.5], np.float32),
        "to": np.array([0, 12, 1]),
        "one": np.array(1, np.float32),
        "nought": np.array(0, np.float32),
        "grid": np.array([[[x / 4, y / 3, (x + 1) / 4, (y + 1) / 3] for y in range(3) for x in range(4)]], np.float32),
    }
    return model(
        _graph(
            [shrink, again, last, shape, ground, scores, zero, boxes],
            [("x", ["N", 3, 48, 64])],
            [("scores", ["N", "P", 2]), ("boxes", ["N", "P", 4])],
            constants,
        ),
        "detector",
        input=Input("RGB", (0, 0, 0), 1 / 255, "stretch", ((64, 48),)),
        decoder="ultraface",
        **fields,
    )


def _graph(
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, list[int | str]]],
    outputs: list[tuple[str, list[int | str]]],
    constants: dict[str, np.ndarray],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data
