"""Published ONNX files: untouched, or with free axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from facebatch.errors import FacebatchError
from facebatch.importers import Given
from facebatch.importers.onnx_file import convert, freed
from facebatch.packs import Model
from facebatch.session import Session
from tests import models


def test_a_file_that_needs_nothing_stays_what_it_is() -> None:
    graph = models.embedder().graph
    assert convert([Given("a.onnx", graph)], {}).graph == graph


def test_weights_that_are_listed_as_inputs_become_constants() -> None:
    model = onnx.load_from_string(models.bright_squares(batch=1).graph)
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    made = onnx.load_from_string(freed(Given("a.onnx", model.SerializeToString())))
    assert [value.name for value in made.graph.input] == ["x"]
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in made.graph.output} == {"N"}


def test_height_and_width_are_freed_when_asked_for() -> None:
    made = onnx.load_from_string(convert([Given("a.onnx", models.bright_squares().graph)], {"free": "shape"}).graph)
    axes = made.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in axes] == ["N", 3, "H", "W"]


@pytest.mark.parametrize("data", [b"this is no protobuf", b"\xff" * 100])
def test_what_is_no_onnx_file_is_one_sentence(data: bytes) -> None:
    with pytest.raises(FacebatchError, match="a.onnx is no ONNX file"):
        freed(Given("a.onnx", data))


def test_a_graph_without_shapes_is_one_sentence() -> None:
    model = onnx.load_from_string(models.embedder().graph)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(FacebatchError, match="a.onnx is no network that can be used: 'x' has 0 axes"):
        freed(Given("a.onnx", model.SerializeToString()))


@pytest.mark.needs_models
def test_scrfd_as_insightface_exports_it_is_unfolded(model: Callable[[str, str], Model]) -> None:
    """All images of a batch in one table of rows: made here from the pinned export, which keeps images apart."""
    pinned = model("scrfd-500m", "detector")
    folded = onnx.load_from_string(pinned.graph)
    tails = {node.output[0]: node for node in folded.graph.node}
    for node in folded.graph.node:
        if node.op_type == "Reshape" and tails[node.input[0]].op_type == "Transpose":
            before = tails[node.input[0]]
            before.attribute[0].ints[:] = [2, 3, 0, 1]
            width = {1: 1, 4: 4, 10: 10}[_width(folded, node.output[0])]
            name = f"shape_of_{node.output[0]}"
            folded.graph.initializer.append(numpy_helper.from_array(np.array([-1, width]), name))
            node.input[1] = name
    for value in folded.graph.output:
        del value.type.tensor_type.shape.dim[0]
    data = folded.SerializeToString()
    with pytest.raises(FacebatchError, match="batch axis is only a label"):
        Session(replace(pinned, graph=data), "cpu").prove_batch()
    unfolded = Session(replace(pinned, graph=freed(Given("det_500m.onnx", data), sizes=True)), "cpu")
    unfolded.prove_batch()
    images = list(np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8))
    expected = Session(pinned, "cpu").run(images)
    for name, values in unfolded.run(images).items():
        assert np.array_equal(values, expected[name])


def _width(model: onnx.ModelProto, name: str) -> int:
    """Numbers in a row of an output, which may come behind a sigmoid."""
    following = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Sigmoid"}
    name = following.get(name, name)
    (value,) = (value for value in model.graph.output if value.name == name)
    return int(value.type.tensor_type.shape.dim[-1].dim_value)


def test_another_kind_of_network_is_one_sentence() -> None:
    vector = onnx.load_from_string(models.embedder().graph)
    del vector.graph.input[0].type.tensor_type.shape.dim[2:]
    with pytest.raises(FacebatchError, match="'x' has 2 axes"):
        freed(Given("a.onnx", vector.SerializeToString()), sizes=True)


def test_what_cannot_be_run_is_found_by_the_proof() -> None:
    """Truncated protobufs often parse; the session says so then."""
    graph = models.embedder().graph
    for end in np.linspace(10, len(graph) - 10, 25).astype(int):
        torn = models.model(graph[:end], "embedder", input=models.embedder().pack.input)
        with pytest.raises(FacebatchError, match="test.onnx"):
            Session(torn, "cpu").prove_batch()
