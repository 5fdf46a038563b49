"""Published ONNX files: untouched, or with free axes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from facebatch.errors import FacebatchError
from facebatch.importers import Given
from facebatch.importers.onnx_file import convert, freed
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
    with pytest.raises(FacebatchError, match="a.onnx is no network that can be used: 'x' has no axes"):
        freed(Given("a.onnx", model.SerializeToString()))


def test_what_cannot_be_run_is_found_by_the_proof() -> None:
    """Truncated protobufs often parse; the session says so then."""
    from facebatch.session import Session

    graph = models.embedder().graph
    for end in np.linspace(10, len(graph) - 10, 25).astype(int):
        torn = models.model(graph[:end], "embedder", input=models.embedder().pack.input)
        with pytest.raises(FacebatchError, match="test.onnx"):
            Session(torn, "cpu").prove_batch()
