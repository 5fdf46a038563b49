"""Checkpoints: each array once, of the right shape, and none too many."""

from __future__ import annotations

import numpy as np
import pytest

from facebatch import importers
from facebatch.errors import FacebatchError, UsageError
from facebatch.importers.checkpoint import Checkpoint


def _checkpoint() -> Checkpoint:
    arrays = {"w": np.ones((2, 3)), "bn.running_mean": np.zeros(4), "bn.num_batches_tracked": np.array(7)}
    return Checkpoint(arrays, "mine.pth")


def test_arrays_are_taken_as_float32_and_counted_without_statistics() -> None:
    checkpoint = _checkpoint()
    assert checkpoint.take("w", 2, 3).dtype == np.float32
    checkpoint.take("bn.running_mean", 4)
    checkpoint.finish()
    assert checkpoint.trainable == 6


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(FacebatchError, match=r"mine.pth is another model: it has no array 'v'"):
        _checkpoint().take("v", 1)
    with pytest.raises(FacebatchError, match=r"array 'w' has shape \(2, 3\), expected \(3, 2\)"):
        _checkpoint().take("w", 3, 2)
    with pytest.raises(FacebatchError, match=r"2 of its arrays have no place here, 'w' is one"):
        _checkpoint().finish()
    with pytest.raises(FacebatchError, match=r"mine.pth is damaged: array 'w' holds numbers that are not finite"):
        Checkpoint({"w": np.array([1.0, np.nan])}, "mine.pth").take("w", 2)


def test_an_unknown_importer_or_option_is_a_mistake_in_the_pack() -> None:
    with pytest.raises(UsageError, match="there is no importer 'caffe'; there are edgenext, extd"):
        importers.run("caffe", [], {})
    with pytest.raises(UsageError, match="importer onnx, option free: Input should be"):
        importers.run("onnx", [importers.Given("a", b"")], {"free": "everything"})
    assert importers.revision("extd") == "extd-1"
