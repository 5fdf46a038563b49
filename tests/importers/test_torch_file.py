"""Reading state dicts that may be anything: truncated, damaged, hostile, or not state dicts at all."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from facebatch.errors import FacebatchError
from facebatch.importers import Given
from facebatch.importers.torch_file import read_state_dict


class _Ran(Exception):
    """The pickle did what no file may do."""


def _run() -> None:
    raise _Ran


class _Hostile:
    def __init__(self, call: object, *words: object) -> None:
        self._call, self._words = call, words

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self._call, self._words


def _stream(content: object) -> bytes:
    """The layout before PyTorch 1.6, without any array."""
    parts: tuple[object, ...] = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, content, [])
    return b"".join(pickle.dumps(part, protocol=2) for part in parts)


def _zip(content: object) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
    return file.getvalue()


@pytest.mark.parametrize("layout", [_stream, _zip])
@pytest.mark.parametrize("call", [_run, os.system, eval, print, getattr, bytearray])
def test_nothing_that_a_file_says_is_run(layout: object, call: object, capfd: pytest.CaptureFixture[str]) -> None:
    data = layout({"a": _Hostile(call, "echo it ran")})  # type: ignore[operator]
    with pytest.raises(FacebatchError, match=r"mine.pth is no PyTorch state dict.*it asks for .*, which no state dict"):
        read_state_dict(Given("mine.pth", data))
    assert "it ran" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no PyTorch state dict"),
        (b"\x08\x01onnx", "no PyTorch state dict"),
        (pickle.dumps([1, 2, 3]), "does not begin as one"),
        (_stream([1, 2]), "no dictionary of tensors"),
        (_stream({"a": 5}), "no dictionary of tensors"),
        (_stream(OrderedDict()), "without any array"),
        (_zip({"a": "text"}), "no dictionary of tensors"),
        (b"r\xff\xff\xff\x7f", "no PyTorch state dict"),  # a few bytes that cost CPython's own unpickler gigabytes
    ],
)
def test_what_is_no_state_dict_is_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(FacebatchError, match=words) as error:
        read_state_dict(Given("mine.pth", data))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("mine.pth is ")


def _published() -> bytes:
    return (Path(os.environ["FACEBATCH_MODELS"]) / "mtcnn" / "pnet.pt").read_bytes()


@pytest.mark.needs_models
def test_a_truncated_file_is_refused_wherever_it_ends() -> None:
    data = _published()
    assert sum(array.size for array in read_state_dict(Given("pnet.pt", data)).values()) == 6_632
    for end in range(0, len(data) - 1, 97):
        with pytest.raises(FacebatchError, match="pnet.pt is no PyTorch state dict"):
            read_state_dict(Given("pnet.pt", data[:end]))


@pytest.mark.needs_models
def test_flipped_bits_give_arrays_or_one_sentence_and_nothing_else() -> None:
    data = _published()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        damaged = bytearray(data)
        for place in random.integers(0, 2500, 3):  # the pickle; behind it are numbers, which can be anything
            damaged[place] ^= 1 << int(random.integers(8))
        try:
            arrays = read_state_dict(Given("pnet.pt", bytes(damaged)))
            assert all(isinstance(array, np.ndarray) for array in arrays.values())
        except FacebatchError:
            refused += 1
    assert refused > 300


def test_a_tensor_cannot_reach_beyond_its_numbers() -> None:
    """Strides and shapes come from the file; believed blindly they would read foreign memory."""
    start: tuple[object, ...] = (0x1950A86A20F9469CFC6C, 1001, {})
    head = b"".join(pickle.dumps(part, protocol=2) for part in start)

    def tensor(shape: str, stride: str, offset: int = 0) -> bytes:
        return (
            b"\x80\x02}U\x01actorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ"
            + f"I{offset}\n({shape}t({stride}ttR".encode()
            + b"s."
        )

    def read(shape: str, stride: str, offset: int = 0) -> np.ndarray:
        numbers = struct.pack("<q4f", 4, 1, 2, 3, 4)
        data = head + tensor(shape, stride, offset) + pickle.dumps(["0"], protocol=2) + numbers
        return read_state_dict(Given("mine.pth", data))["a"]

    assert read("I2\nI2\n", "I2\nI1\n").tolist() == [[1, 2], [3, 4]]
    assert read("I2\nI2\n", "I1\nI2\n").tolist() == [[1, 3], [2, 4]]
    assert read("I2\n", "I1\n", 2).tolist() == [3, 4]
    for shape, stride, offset in (
        ("I5\n", "I1\n", 0),
        ("I2\n", "I1\n", 3),
        ("I2\n", "I-1\n", 1),
        ("I2\n", "I1000000000000\n", 0),
        ("I1000000000000\n", "I0\n", 0),
        ("I-1\n", "I1\n", 0),
        ("I2\n", "I1\n", -1),
    ):
        with pytest.raises(FacebatchError, match="a tensor"):
            read(shape, stride, offset)
