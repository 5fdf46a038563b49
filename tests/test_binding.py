"""IO binding: shown on a CPU, whose memory is bound by the same calls as a GPU's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from facebatch.binding import Binding
from facebatch.packs import Model
from facebatch.session import Session
from tests import models


def _images(model: Model, count: int, seed: int = 0) -> list[np.ndarray]:
    width, height = model.pack.input.canvases[0]
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8))


def _assert_same_to_the_bit(model: Model) -> None:
    bound, loose = Session(model, "cuda", bound=True), Session(model, "cuda")
    for count in (4, 1, 4, 2):
        images = _images(model, count, seed=count)
        given, expected = bound.run(images), loose.run(images)
        assert given.keys() == expected.keys()
        assert all(np.array_equal(given[name], expected[name]) for name in given), count


@pytest.mark.usefixtures("gpu_path")
@pytest.mark.parametrize("model", [models.bright_squares(), models.embedder(), models.landmarks()])
def test_a_bound_network_gives_what_it_gives_unbound(model: Model) -> None:
    _assert_same_to_the_bit(model)


@pytest.mark.needs_models
@pytest.mark.usefixtures("gpu_path")
@pytest.mark.parametrize(("name", "kind"), [("slim-320", "detector"), ("edgeface-xs", "embedder")])
def test_and_so_do_published_ones(model: Callable[[str, str], Model], name: str, kind: str) -> None:
    _assert_same_to_the_bit(model(name, kind))


@pytest.mark.usefixtures("gpu_path")
def test_what_was_given_stays_as_it_was_when_the_next_comes() -> None:
    net = Session(models.embedder(), "cuda", bound=True)
    first = net.run(_images(net.model, 2, seed=1))["vector"]
    kept = first.copy()
    second = net.run(_images(net.model, 2, seed=2))["vector"]
    assert np.array_equal(first, kept)
    assert not np.array_equal(second, kept)


@pytest.mark.usefixtures("gpu_path")
def test_memory_is_allocated_once_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    real = ort.OrtValue.ortvalue_from_shape_and_type

    def counted(shape: tuple[int, ...], *words: object) -> ort.OrtValue:
        made.append(shape)
        return real(shape, *words)

    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_shape_and_type", counted)
    net = Session(models.embedder(), "cuda", bound=True)
    for count in (4, 2, 4, 4, 2):
        net.run(_images(net.model, count))
    assert made == [(4, 112, 112, 3), (2, 112, 112, 3)]


@pytest.mark.usefixtures("gpu_path")
def test_threads_that_share_a_network_get_their_own_results() -> None:
    net, loose = Session(models.embedder(), "cuda", bound=True), Session(models.embedder(), "cuda")
    asked = [_images(net.model, 2, seed) for seed in range(64)]
    with ThreadPoolExecutor(8) as threads:
        for images, given in zip(asked, threads.map(net.run, asked), strict=True):
            assert np.array_equal(given["vector"], loose.run(images)["vector"])


def test_outputs_may_be_as_many_as_the_numbers_ask_for() -> None:
    """As where the graph itself selects boxes."""
    found = helper.make_node("NonZero", ["x"], ["places"])
    graph = helper.make_graph(
        [found],
        "nonzero",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("places", TensorProto.INT64, [1, "M"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    bound = Binding(ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]))
    for numbers in ([0, 1, 1], [1, 1, 1], [0, 0, 0]):
        (places,) = bound(np.array(numbers, np.float32))
        assert places.tolist() == [np.flatnonzero(numbers).tolist()]


def test_a_cpu_has_nothing_to_bind_to() -> None:
    net = Session(models.embedder(), "cpu", bound=True)
    assert net._bound is None
