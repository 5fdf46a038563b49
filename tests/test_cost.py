"""Parameters and operations against the published figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facebatch import importers, packs
from facebatch.cost import cost
from facebatch.importers import Given, Imported, extd, ssdlite
from facebatch.importers.mxnet import shapes
from facebatch.packs import Model
from tests import models
from tests.importers import mxnet_writer
from tests.importers.random_weights import RandomWeights


def _graph(nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], out: list[str | int | None]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return model


NORM = {name: np.ones(8) for name in ("g", "b", "m", "v")}


def test_a_batch_norm_behind_a_convolution_counts_as_the_bias_it_becomes() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["h", "g", "b", "m", "v"], ["y"]),
    ]
    found = cost(_graph(nodes, {"w": np.ones((8, 3, 3, 3)), **NORM}, ["N", 8, "h", "w_"]), 64, 32)
    assert (found.folded, found.constants) == (8 * 27 + 8, 0)
    assert found.macs == 8 * 27 * 32 * 16
    assert found.gflops == 2 * found.macs / 1e9


def test_a_convolution_with_a_bias_loses_its_batch_norm() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "c"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "g", "b", "m", "v"], ["y"]),
    ]
    arrays = {"w": np.ones((8, 3, 1, 1)), "c": np.ones(8), **NORM}
    assert cost(_graph(nodes, arrays, ["N", 8, "h", "w_"]), 8, 8).folded == 8 * 3 + 8


def test_filters_that_are_used_again_cost_work_and_no_parameters() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("Conv", ["h", "w"], ["y"]),
    ]
    found = cost(_graph(nodes, {"w": np.ones((3, 3, 1, 1))}, ["N", 3, "h", "w_"]), 10, 10)
    assert (found.folded, found.macs) == (9, 2 * 900)


def test_a_dense_layer_costs_its_weights() -> None:
    assert cost(models.embedder().graph, 112, 112).macs == 3 * 64 * 512


EXTD = {("fpn", 32): 62_939, ("fpn", 48): 100_160, ("fpn", 64): 162_352}
EXTD |= {("ssd", 32): 56_059, ("ssd", 48): 86_000, ("ssd", 64): 138_352}
SLOPES = {32: 21, 48: 10, 64: 10}
EXTD_GMACS = {("fpn", 32): 5.397, ("fpn", 48): 7.889, ("fpn", 64): 13.411}
EXTD_GMACS |= {("ssd", 32): 5.353, ("ssd", 48): 7.796, ("ssd", 64): 13.252}


@dataclass(frozen=True)
class Row:
    """What was published of a network, and what was built of it. card: GFLOPs on its Open Model Zoo card."""

    name: str
    size: tuple[int, int]
    graph: bytes
    published: int
    counted: int
    how: str
    card: float | None = None
    gmacs: float | None = None


def _mission(model: Callable[[str, str], Model]) -> Iterator[Row]:
    """The systems of the mission, in its order."""
    slim = model("slim-320", "detector").graph
    found = cost(slim, 320, 240)
    both = "folded, and priors"
    yield Row("slim-320", (320, 240), slim, 257_916 + 26_520, found.folded + found.constants, both, 0.1724, 0.08141056)
    ssh = _random("ssh-mxnet")
    assert ssh.parameters
    yield Row("ssh-mxnet", (640, 640), ssh.graph, 19_768_420, ssh.parameters, "as trained", 267.0594, 133.3289)
    lite = ssdlite.build(RandomWeights(1.4, tensorflow=True))
    yield Row("ssdlite_mobilenet_v2", (300, 300), lite, 4_475_167, cost(lite, 300, 300).folded, "folded", 1.525)
    for (head, channels), published in EXTD.items():
        for activation in ("prelu", "leaky", "relu"):
            weights = RandomWeights()
            graph = extd.build(weights, extd.Variant(channels, head, activation))  # type: ignore[arg-type]
            slopes = 0 if activation == "prelu" else SLOPES[channels]
            name, gmacs = f"extd-{head}-{channels}-{activation}", EXTD_GMACS[head, channels]
            yield Row(name, (640, 640), graph, published - slopes, weights.trainable, "as trained", None, gmacs)
    arcface = _random("face-recognition-resnet34-arcface")
    folded = cost(arcface.graph, 112, 112).folded
    yield Row(
        "face-recognition-resnet34-arcface", (112, 112), arcface.graph, 34_128_704, folded, "folded", 8.934, 4.4596
    )


def _random(name: str) -> Imported:
    """The published symbol with random weights."""
    pack = packs.pack(name)
    (symbol,) = (file for file in pack.weights.files if file.name.endswith(".json"))
    given = Given(symbol.name, (Path(os.environ["FACEBATCH_MODELS"]) / symbol.path).read_bytes())
    weights = mxnet_writer.weights(shapes(given, pack.weights.options["shape"]))
    return importers.run("mxnet", [given, Given("random.params", mxnet_writer.saved(weights))], pack.weights.options)


@pytest.mark.needs_models
def test_the_systems_of_the_mission_have_the_parameters_and_the_cost_that_were_published(
    model: Callable[[str, str], Model],
) -> None:
    """Prints the table (pytest -s). Cards also count what is not multiplied with weights: 0.2 to 6 % more."""
    print(f"\n{'system':36}{'parameters':>12}{'published':>12}  {'counted':20}{'GFLOPs':>10}{'card':>10}{'differs':>9}")
    for row in _mission(model):
        found = cost(row.graph, *row.size)
        differs = f"{found.gflops / row.card - 1:+.1%}" if row.card else ""
        print(
            f"{row.name:36}{row.counted:>12,}{row.published:>12,}  {row.how:20}{found.gflops:>10.4f}"
            f"{row.card or '':>10}{differs:>9}"
        )
        assert row.counted == row.published, row.name
        assert row.card is None or 0.94 <= found.gflops / row.card <= 1, row.name
        assert row.gmacs is None or found.macs / 1e9 == pytest.approx(row.gmacs, rel=1e-4), row.name


@pytest.mark.needs_models
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("extd-fpn-32-prelu", 62_939),
        ("extd-fpn-48-prelu", 100_160),
        ("extd-fpn-64-prelu", 162_352),
        ("retinaface-mobilenet0.25", 426_608),
        ("retinaface-mobilenet0.25-relu", 426_608),
        ("slim-landmarks", 343_488),
        ("rfb-landmarks", 359_592),
        ("slim-640", 260_188),
        ("onet", 389_040),
    ],
)
def test_published_checkpoints_have_the_parameters_that_were_published(
    model: Callable[[str, str], Model], name: str, parameters: int
) -> None:
    assert model(name, packs.pack(name).kind).parameters == parameters
