"""The graph builder, against numpy."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from facebatch.importers.network import Network, folded

RANDOM = np.random.default_rng(0)


def _run(net: Network, output: str, feed: np.ndarray) -> np.ndarray:
    graph = net.model({"x": ["N", feed.shape[1], "H", "W"]}, {"y": output})
    result: np.ndarray = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(["y"], {"x": feed})[0]
    return result


def test_a_batch_norm_is_folded_exactly() -> None:
    weight, bias = RANDOM.normal(size=(4, 3, 1, 1)), RANDOM.normal(size=4)
    gamma, beta, mean, var = RANDOM.uniform(0.5, 2, (4, 4))
    x = RANDOM.normal(size=(2, 3, 5, 6)).astype(np.float32)
    net = Network()
    found = _run(net, net.conv("x", *folded(weight, bias, gamma, beta, mean, var, 1e-3)), x)  # type: ignore[arg-type]
    plain = np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x) + bias[:, None, None]
    shape = (4, 1, 1)
    normed = (plain - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + 1e-3)
    assert np.allclose(found, normed * gamma.reshape(shape) + beta.reshape(shape), atol=1e-5)


@pytest.mark.parametrize(("side", "stride", "first"), [(6, 2, 1), (7, 2, 0)])
def test_same_padding_is_tensorflows(side: int, stride: int, first: int) -> None:
    """On even sides the odd pixel goes to the bottom right, so that the first window begins at the first pixel."""
    x = np.zeros((1, 1, side, side), np.float32)
    x[0, 0, 0, 0] = 1
    net = Network()
    weight = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    found = _run(net, net.conv("x", weight, stride=stride, pads="same"), x)
    assert found.shape[2:] == ((side + 1) // 2,) * 2
    assert found[0, 0, 0, 0] == (weight[0, 0, 0, 0] if first else weight[0, 0, 1, 1])


def test_the_same_array_is_stored_once() -> None:
    net = Network()
    weight = np.ones((3, 3, 1, 1), np.float32)
    assert net.array(weight) == net.array(weight.copy())
    assert net.array(np.array([1])) != net.array(np.array([1.0])), "whole numbers are another type"
    assert net.array(np.zeros((1, 2))) != net.array(np.zeros((2, 1)))


def test_rows_are_cells_then_anchors() -> None:
    x = np.arange(2 * 6 * 2 * 3, dtype=np.float32).reshape(2, 6, 2, 3)
    net = Network()
    found = _run(net, net.rows("x", 2), x)
    assert found.shape == (2, 2 * 3 * 3, 2)
    assert np.array_equal(found, x.transpose(0, 2, 3, 1).reshape(2, -1, 2))


def test_a_map_is_resized_to_another_ones_size() -> None:
    x = RANDOM.normal(size=(1, 1, 4, 4)).astype(np.float32)
    net = Network()
    small = net.op("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])
    found = _run(net, net.resize_like(small, "x", "nearest"), x)
    pooled = x.reshape(1, 1, 2, 2, 2, 2).max(axis=(3, 5))
    assert np.array_equal(found, pooled.repeat(2, axis=2).repeat(2, axis=3))
