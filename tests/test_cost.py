"""Parameters and operations against the published figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facebatch import packs
from facebatch.cost import cost
from facebatch.packs import Model
from tests import models


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


PUBLISHED = [
    # name, input, parameters, folded, constants, GFLOPs on the card (None: no card), MACs by hand
    ("ultra-lightweight-face-detection-slim-320", (320, 240), None, 257_916, 26_520, 0.1724, 81_410_560),
    ("ultra-lightweight-face-detection-rfb-320", (320, 240), None, 273_888, 26_520, 0.2106, 100_418_560),
    ("slim-640", (320, 240), 260_188, 257_916, 0, None, 81_410_560),
    ("extd-fpn-32-prelu", (640, 640), 62_939, None, 0, None, 5_397_000_000),
    ("extd-fpn-48-prelu", (640, 640), 100_160, None, 0, None, 7_889_000_000),
    ("extd-fpn-64-prelu", (640, 640), 162_352, None, 0, None, 13_411_000_000),
    ("retinaface-mobilenet0.25", (640, 640), 426_608, None, 0, None, None),
    ("slim-landmarks", (640, 640), 343_488, None, 0, None, None),
    ("rfb-landmarks", (640, 640), 359_592, None, 0, None, None),
    ("scrfd-2.5g", (640, 640), None, None, None, None, 3_430_000_000),
    ("onet", (48, 48), 389_040, None, 0, 0.026, None),
    ("landmarks-regression-retail-0009", (48, 48), None, None, None, 0.021, None),
]


@pytest.mark.needs_models
def test_what_is_counted_is_what_was_published(model: Callable[[str, str], Model]) -> None:
    """Prints the table (pytest -s). Cards count a little more than twice the MACs: activations and sums, 0.2 to 6 %."""
    print(f"\n{'pack':42} {'parameters':>10} {'folded':>10} {'constants':>9} {'GFLOPs':>8} {'card':>8} {'differs':>8}")
    for name, size, parameters, folded, constants, card, macs in PUBLISHED:
        loaded = model(name, packs.pack(name).kind)
        found = cost(loaded.graph, *size)
        assert loaded.parameters == parameters, name
        assert folded in (None, found.folded), name
        assert constants in (None, found.constants), name
        differs = f"{found.gflops / card - 1:+.1%}" if card else ""
        print(
            f"{name:42} {loaded.parameters or '':>10} {found.folded:>10} {found.constants:>9} {found.gflops:>8.4f} "
            f"{card or '':>8} {differs:>8}"
        )
        assert card is None or 0.94 <= found.gflops / card <= 1.001, name
        assert macs is None or found.macs == pytest.approx(macs, rel=1e-3), name
