"""SSDLite MobileNetV2 against its published graph."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from facebatch.cost import cost
from facebatch.errors import FacebatchError
from facebatch.importers import Given, ssdlite
from tests.importers import tensorflow_graph
from tests.importers.random_weights import RandomWeights


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    source = RandomWeights(1.4, tensorflow=True)
    ssdlite.build(source)
    return source.arrays


def _run(graph: bytes, pixels: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return dict(zip(("boxes", "scores"), session.run(["boxes", "scores"], {"image": pixels}), strict=True))


def _pixels(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, 3, 300, 300)).astype(np.float32)


def test_it_has_the_parameters_and_the_cost_that_were_published(weights: Mapping[str, np.ndarray]) -> None:
    graph = ssdlite.build(RandomWeights(1.4, tensorflow=True))
    counted = cost(graph, 300, 300)
    assert counted.folded == 4_475_167, "the card: 4.475 M"
    assert sum(array.size for array in weights.values()) == 4_551_295
    assert counted.gflops == pytest.approx(1.525, rel=0.02), "the card counts activations, too"


@pytest.mark.needs_models
@pytest.mark.reference
def test_it_gives_what_the_published_graph_gives(weights: Mapping[str, np.ndarray]) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'facebatch[reference]'")
    pixels = _pixels(2)
    nodes = tensorflow_graph.nodes_of(Path(os.environ["FACEBATCH_MODELS"]) / "ssdlite" / "model.ckpt.meta")
    fed = {"Preprocessor/sub": torch.from_numpy(pixels.transpose(0, 2, 3, 1).copy())}
    runner = tensorflow_graph.TorchRunner(nodes, weights, fed)
    with torch.no_grad():
        boxes, scores = runner("concat").numpy().reshape(2, 1917, 4), runner("concat_1").sigmoid().numpy()
    ours = _run(ssdlite.build(RandomWeights(1.4, tensorflow=True)), pixels)
    assert ours["scores"].shape == scores.shape == (2, 1917, 91)
    assert np.abs(ours["boxes"] - boxes).max() <= 1e-4 * np.abs(boxes).max()
    assert np.abs(ours["scores"] - scores).max() <= 1e-4
    assert np.ptp(boxes, axis=0).max() > 0.1, "the two images differ"
    assert np.std(scores) > 0.01


@pytest.mark.needs_models
def test_the_preprocessing_of_the_published_graph_is_the_packs(weights: Mapping[str, np.ndarray]) -> None:
    import struct

    from facebatch.importers.tensorflow_file import _fields
    from facebatch.packs import pack

    nodes = tensorflow_graph.nodes_of(Path(os.environ["FACEBATCH_MODELS"]) / "ssdlite" / "model.ckpt.meta")

    def constant(name: str) -> float:
        (value,) = struct.unpack("<f", dict(_fields(nodes[name].attributes["value"][8]))[5])  # type: ignore[arg-type]
        return float(value)

    scale, shift = constant("Preprocessor/mul/x"), constant("Preprocessor/sub/y")
    feed = pack("ssdlite").input
    for x in (0, 100, 255):
        assert (x - feed.mean[0]) * feed.scale == pytest.approx(x * scale - shift, abs=1e-6)


def test_a_frozen_graph_and_a_checkpoint_are_the_same_network(weights: Mapping[str, np.ndarray]) -> None:
    index, data = tensorflow_graph.checkpoint(weights)
    frozen = ssdlite.convert([Given("frozen.pb", tensorflow_graph.frozen(weights))], {})
    checkpoint = ssdlite.convert([Given("m.data", data), Given("m.index", index)], {})
    assert frozen.graph == checkpoint.graph
    assert frozen.parameters == checkpoint.parameters


def test_a_batch_of_three_gives_what_three_batches_of_one_give() -> None:
    graph, pixels = ssdlite.build(RandomWeights(1.4, tensorflow=True)), _pixels(3)
    together = _run(graph, pixels)
    for i in range(3):
        alone = _run(graph, pixels[i : i + 1])
        for name in together:
            assert np.abs(together[name][i] - alone[name][0]).max() < 1e-5


def test_another_model_is_one_sentence(weights: Mapping[str, np.ndarray]) -> None:
    name = "BoxPredictor_0/ClassPredictor/biases"
    for changed, words in (
        ({key: value for key, value in weights.items() if key != name}, "it has no array 'BoxPredictor_0/Class"),
        ({**weights, name: np.zeros(6, np.float32)}, r"has shape \(6,\), expected \(273,\)"),
        ({**weights, "BoxPredictor_9/x/weights": np.zeros(1, np.float32)}, "arrays have no place here"),
    ):
        with pytest.raises(FacebatchError, match=words):
            ssdlite.convert([Given("frozen.pb", tensorflow_graph.frozen(changed))], {})
