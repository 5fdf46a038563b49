"""Reading PyTorch state dicts without PyTorch, and without running anything that they say.

A .pth file is a pickle, and a pickle is a program. Here it may call two functions only, which make arrays and ordered
dicts; every other name ends the reading. Both layouts are read: the zip of PyTorch 1.6 and later, the stream before.

Source: the layouts as torch/serialization.py writes them.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facebatch.errors import FacebatchError
from facebatch.importers import Given, Imported
from facebatch.importers.checkpoint import Checkpoint, Source

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(slots=True)
class _Storage:
    """Raw numbers that tensors are views of. In the old layout they come after the pickle that speaks of them."""

    dtype: np.dtype[Any]
    count: int
    values: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        values = self.storage.values
        if values is None:
            raise ValueError("a tensor without its numbers")
        if len(self.shape) != len(self.strides) or min((*self.shape, *self.strides, self.offset), default=0) < 0:
            raise ValueError(f"a tensor of shape {self.shape} and strides {self.strides}")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if 0 not in self.shape and last >= len(values):
            raise ValueError("a tensor that reaches beyond its numbers")
        if len(self.shape) > 8 or np.prod([float(n) for n in self.shape]) > len(values):
            raise ValueError(f"a tensor of shape {self.shape} over {len(values)} numbers")
        steps = [step * values.itemsize for step in self.strides]
        return np.array(np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps))


def read_state_dict(given: Given) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name. A wrapping {"state_dict": ...} and the prefix `module.` of data-parallel
    training are taken off.

    Raises FacebatchError for anything else: another kind of file, a truncated one, one that asks for code to be run.
    """
    try:
        content = _zipped(given.data) if zipfile.is_zipfile(io.BytesIO(given.data)) else _streamed(given.data)
        while isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
            content = content["state_dict"]
        if not isinstance(content, dict) or not all(isinstance(value, _Tensor) for value in content.values()):
            raise ValueError("no dictionary of tensors")
        arrays = {str(name).removeprefix("module."): tensor.array() for name, tensor in content.items()}
    except Exception as error:
        words = str(error) or type(error).__name__
        raise FacebatchError(f"{given.name} is no PyTorch state dict that can be read: {words[:200]}") from error
    if not arrays:
        raise FacebatchError(f"{given.name} is a PyTorch state dict without any array")
    return arrays


def poured(files: Sequence[Given], build: Callable[[Source], bytes]) -> Imported:
    """The graph of an architecture, filled with the one state dict among the files. Raises FacebatchError if that is of
    another model."""
    (given,) = files
    checkpoint = Checkpoint(read_state_dict(given), given.name)
    graph = build(checkpoint)
    checkpoint.finish()
    return Imported(graph, checkpoint.trainable)


class _Unpickler(pickle._Unpickler):
    """The unpickler written in Python: the one in C lets a few bytes ask for gigabytes (its memo is an array)."""

    def __init__(self, file: io.BytesIO, find_storage: Callable[[str, np.dtype[Any], int], _Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self._find_storage = find_storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no state dict needs")

    def persistent_load(self, saved: Any) -> _Storage:
        kind, dtype, key, _, count, *_ = saved
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(count, int) or count < 0:
            raise pickle.UnpicklingError(f"it refers to {str(saved)[:80]}")
        return self._find_storage(str(key), dtype, count)


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor over something else than numbers")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _streamed(data: bytes) -> Any:
    file = io.BytesIO(data)
    storages: dict[str, _Storage] = {}

    def find(key: str, dtype: np.dtype[Any], count: int) -> _Storage:
        return storages.setdefault(key, _Storage(dtype, count))

    def load() -> Any:
        return _Unpickler(file, find).load()

    if load() != _MAGIC:
        raise ValueError("it does not begin as one")
    load(), load()  # protocol version; sizes of the machine that wrote it
    content = load()
    for key in load():
        storage = storages[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        size = storage.count * storage.dtype.itemsize
        raw = file.read(size)
        if count != storage.count or len(raw) != size:
            raise ValueError(f"it ends early: {len(raw)} of {size} bytes of an array")
        storage.values = np.frombuffer(raw, storage.dtype)
    return content


def _zipped(data: bytes) -> Any:
    archive = zipfile.ZipFile(io.BytesIO(data))
    index = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
    if index is None:
        raise ValueError("a zip without data.pkl")
    folder = index.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("it was written on a big-endian machine")
    storages: dict[str, _Storage] = {}

    def find(key: str, dtype: np.dtype[Any], count: int) -> _Storage:
        if key not in storages:
            size = count * dtype.itemsize
            entry = archive.getinfo(f"{folder}data/{key}")
            if entry.file_size != size or entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{entry.file_size} bytes for an array of {size}")
            storages[key] = _Storage(dtype, count, np.frombuffer(archive.read(entry), dtype))
        return storages[key]

    entry = archive.getinfo(index)
    if entry.file_size > len(data) or entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its index is larger than the file")
    return _Unpickler(io.BytesIO(archive.read(entry)), find).load()
