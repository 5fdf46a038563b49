"""What a GPU is fed with, and where its inputs and outputs lie: shown in the memory of a CPU, where tests can look."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from facebatch import device
from facebatch.device import Device, fed_with_bytes
from facebatch.geometry import Pixels
from facebatch.packs import Model
from facebatch.session import Session
from tests import models


def _on(model: Model) -> tuple[Device, list[str]]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    graph = fed_with_bytes(model.graph, model.pack.input)
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return Device(session, "cpu"), [output.name for output in session.get_outputs()]


def _noise(count: int, width: int, height: int, seed: int = 0) -> list[Pixels]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8))


def _assert_same_to_the_bit(model: Model) -> None:
    network, names = _on(model)
    alone = Session(model, "cpu")
    for canvas in model.pack.input.canvases:
        for count in (1, 3, 3):
            images = _noise(count, *canvas, seed=count)
            for name, found in zip(names, network.run(images), strict=True):
                assert np.array_equal(found, alone.run(images)[name]), (canvas, count, name)


@pytest.mark.parametrize("model", [models.bright_squares(), models.embedder(), models.landmarks()])
def test_bytes_become_what_the_network_is_fed_with_elsewhere(model: Model) -> None:
    """RGB and BGR, with a mean and without, scaled."""
    _assert_same_to_the_bit(model)


@pytest.mark.needs_models
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


def test_the_outputs_of_a_run_are_not_written_over_by_the_next() -> None:
    network, _ = _on(models.embedder())
    (first,) = network.run(_noise(2, 112, 112, seed=1))
    before = first.copy()
    (second,) = network.run(_noise(2, 112, 112, seed=2))
    assert np.array_equal(first, before)
    assert not np.array_equal(first, second)


def test_memory_is_kept_for_so_many_shapes_and_the_oldest_is_taken_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_SHAPES", 2)
    network, _ = _on(models.embedder())
    alone = Session(models.embedder(), "cpu")
    for count in (1, 2, 1, 4, 2, 1):
        images = _noise(count, 112, 112, seed=count)
        assert np.array_equal(network.run(images)[0], alone.run(images)["vector"])
    assert [shape[0] for shape in network._bound] == [2, 1]
    kept = network._bound[(1, 112, 112, 3)].pixels.data_ptr()
    network.run(_noise(1, 112, 112))
    assert network._bound[(1, 112, 112, 3)].pixels.data_ptr() == kept
