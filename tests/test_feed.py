"""What a GPU is fed with: shown on a CPU, where the same graph takes the same bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from facebatch.feed import fed_with_bytes
from facebatch.packs import Model
from facebatch.session import Session
from tests import models


def _assert_same_to_the_bit(model: Model) -> None:
    fed, alone = Session(model, "cuda"), Session(model, "cpu")
    assert fed._session.get_inputs()[0].type == "tensor(uint8)"
    for width, height in model.pack.input.canvases:
        for count in (1, 3):
            images = list(np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8))
            for name, found in fed.run(images).items():
                assert np.array_equal(found, alone.run(images)[name]), (width, height, count, name)


@pytest.mark.usefixtures("gpu_path")
@pytest.mark.parametrize("model", [models.bright_squares(), models.embedder(), models.landmarks()])
def test_bytes_become_what_the_network_is_fed_with_elsewhere(model: Model) -> None:
    """RGB and BGR, with a mean and without, scaled."""
    _assert_same_to_the_bit(model)


@pytest.mark.needs_models
@pytest.mark.usefixtures("gpu_path")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("slim-320", "detector"),
        ("yunet-n", "detector"),
        ("scrfd-2.5g", "detector"),
        ("edgeface-xs", "embedder"),
        ("w600k-mbf", "embedder"),
    ],
)
def test_and_so_with_published_networks(model: Callable[[str, str], Model], name: str, kind: str) -> None:
    _assert_same_to_the_bit(model(name, kind))


def test_a_network_that_lists_its_weights_among_its_inputs_as_files_of_2019_do() -> None:
    model = models.embedder()
    listed = onnx.load_from_string(model.graph)
    listed.graph.input.insert(0, onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [192, 512]))
    fed = onnx.load_from_string(fed_with_bytes(listed.SerializeToString(), model.pack.input))
    assert [value.name for value in fed.graph.input] == ["w", "facebatch/pixels"]


def test_what_is_known_of_the_input_stays_known_and_where_nothing_is_that_does() -> None:
    model = models.bright_squares()
    (fed,) = onnx.load_from_string(fed_with_bytes(model.graph, model.pack.input)).graph.input
    assert [axis.dim_param or axis.dim_value for axis in fed.type.tensor_type.shape.dim] == ["N", 48, 64, 3]
    unknown = onnx.load_from_string(model.graph)
    unknown.graph.input[0].type.tensor_type.ClearField("shape")
    (fed,) = onnx.load_from_string(fed_with_bytes(unknown.SerializeToString(), model.pack.input)).graph.input
    assert [axis.dim_param or axis.dim_value for axis in fed.type.tensor_type.shape.dim] == [0, 0, 0, 3]
