"""The .params layouts, and files that are none."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest

from facebatch.errors import FacebatchError
from facebatch.importers import Given
from facebatch.importers.mxnet_file import read_params
from tests.importers import mxnet_writer

ARRAYS: dict[str, np.ndarray] = {
    "arg:conv0_weight": np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3),
    "arg:fc_bias": np.array([1.5, -2.5], np.float64),
    "aux:bn_moving_var": np.array([0.5, 0.25, 4], np.float16),
    "steps": np.array([[1, -2]], np.int64),
    "bytes": np.array([7, 250], np.uint8),
    "small": np.array([-7], np.int8),
    "whole": np.array([-70000], np.int32),
}


@pytest.mark.parametrize("layout", ["V2", "V1", "legacy"])
def test_arrays_come_back_by_name_from_every_layout(layout: str) -> None:
    found = read_params(Given("model.params", mxnet_writer.params(ARRAYS, layout)))
    assert list(found) == ["conv0_weight", "fc_bias", "bn_moving_var", "steps", "bytes", "small", "whole"]
    for name, array in zip(found, ARRAYS.values(), strict=True):
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def test_arrays_are_views_of_the_file() -> None:
    """A file of hundreds of megabytes is not held twice."""
    data = mxnet_writer.params({"arg:a": np.zeros(1 << 20, np.float32)})
    tracemalloc.start()
    found = read_params(Given("model.params", data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 16
    assert not found["a"].flags.writeable


def test_a_file_cut_anywhere_is_one_sentence() -> None:
    data = mxnet_writer.params(ARRAYS)
    for size in range(len(data)):
        with pytest.raises(FacebatchError, match=r"model\.params is (no|a damaged) MXNet \.params file: "):
            read_params(Given("model.params", data[:size]))


HEAD = struct.pack("<QQQ", 0x112, 0, 1)
LONG = b"\0" * 64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin with 0x112"),
        (b"PK\3\4 a zip", "does not begin with 0x112"),
        (struct.pack("<QQQ", 0x112, 0, 1 << 60), f"{1 << 60} entries cannot be in the 0 bytes"),
        (HEAD + struct.pack("<IiIqiii", 0xF993FAC9, 0, 1, 1 << 62, 1, 0, 0) + LONG, f"64 of {1 << 64} bytes"),
        (HEAD + struct.pack("<IiI3qiii", 0xF993FAC9, 0, 3, 1 << 40, 1 << 40, 4, 1, 0, 0), "0 of"),
        (HEAD + struct.pack("<IiIqiii", 0xF993FAC9, 0, 1, -1, 1, 0, 0) + LONG, r"shape \(-1,\)"),
        (HEAD + struct.pack("<IiI2qiii", 0xF993FAC9, 0, 2, 0, 1 << 62, 1, 0, 0) + LONG, r"shape \(0,"),
        (HEAD + struct.pack("<IiI", 0xF993FAC9, 0, 0) + LONG, "0 axes"),
        (HEAD + struct.pack("<IiI", 0xF993FAC9, 0, 1 << 31) + LONG, f"{1 << 31} axes"),
        (HEAD + struct.pack("<IiI", 0xF993FAC9, 1, 2) + LONG, "storage type 1"),
        (HEAD + struct.pack("<I", 0xF993FACA) + LONG, "axes, expected 1 to 8"),
        (HEAD + struct.pack("<IiIqiii", 0xF993FAC9, 0, 1, 1, 1, 0, 12) + LONG, "type 12"),
        (mxnet_writer.params(ARRAYS) + b"\0", "1 bytes follow its end"),
        (mxnet_writer.params({"a": ARRAYS["small"]})[:-9] + struct.pack("<Q", 1 << 63) + b"a", f"of {1 << 63} bytes"),
        (mxnet_writer.params({"a": ARRAYS["small"]})[:-1] + b"\xff", "utf-8"),
        (mxnet_writer.params({"a": ARRAYS["small"]})[:-17] + struct.pack("<Q", 0), "1 arrays have 0 names"),
        (mxnet_writer.params({"arg:a": ARRAYS["small"], "aux:a": ARRAYS["small"]}), "two arrays 'a'"),
    ],
)
def test_what_cannot_be_is_refused_before_memory_is_asked_for(data: bytes, message: str) -> None:
    tracemalloc.start()
    with pytest.raises(FacebatchError, match=message) as caught:
        read_params(Given("model.params", data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert str(caught.value).startswith("model.params is ")
