"""Reading the variables of TensorFlow models without TensorFlow: frozen graphs, and checkpoints of version 2.

A frozen graph is one protobuf whose `Const` nodes hold the arrays. A checkpoint is an index (a table as LevelDB writes
it, of names and places) and the raw numbers beside it. Nothing in either is executed.
Source: tensorflow/core/framework/{graph,node_def,tensor}.proto, core/protobuf/tensor_bundle.proto, core/lib/io/table.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from facebatch.errors import FacebatchError
from facebatch.importers import Given

_TABLE_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48
_FLOAT = 1  # DT_FLOAT
_LARGEST = 1 << 28
"""Numbers in an array, and bytes of a shape's worth: a file cannot ask for more memory than a real model needs."""


def read_variables(files: Sequence[Given], wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """The float32 arrays whose names are wanted: of one frozen graph, or of an index and its data file in any order.

    Raises FacebatchError for other files, and for truncated or damaged ones. The checksums that an index holds are not
    compared: what guards these files is their sha256.
    """
    index = next((given for given in files if given.data[-8:] == _TABLE_MAGIC), None)
    try:
        if index is None and len(files) == 1:
            return dict(_frozen(files[0].data, wanted))
        if index is not None and len(files) == 2:
            (data,) = (given for given in files if given is not index)
            return dict(_checkpoint(index.data, data.data, wanted))
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        names = " and ".join(given.name for given in files)
        raise FacebatchError(f"{names}: no TensorFlow variables can be read: {error}") from error
    names = " and ".join(given.name for given in files) or "nothing"
    raise FacebatchError(f"expected a frozen graph (.pb), or the .index and .data files of a checkpoint, found {names}")


def _frozen(graph: bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, np.ndarray]]:
    found = False
    for number, node in _fields(graph):
        if number != 1:
            continue
        parts = list(_fields(_bytes(node)))
        name, op = (_bytes(dict(parts).get(key, b"")).decode() for key in (1, 2))
        if op != "Const" or not wanted(name):
            continue
        for key, attribute in parts:
            if key == 5 and (value := dict(_fields(_bytes(attribute)))).get(1) == b"value":
                tensor = dict(_fields(_bytes(value.get(2, b"")))).get(8)
                if tensor is not None:
                    found = True
                    yield name, _tensor(_bytes(tensor), name)
    if not found:
        raise ValueError("it is no frozen graph of this model")


def _tensor(data: bytes, name: str) -> np.ndarray:
    """A TensorProto: raw bytes, or numbers of which the last stands for all that follow."""
    values: list[np.ndarray] = []
    raw, dtype = b"", _FLOAT
    shape: tuple[int, ...] = ()
    for key, value in _fields(data):
        if key == 1:
            dtype = _int(value)
        elif key == 2:
            shape = _shape(_bytes(value))
        elif key == 4:
            raw = _bytes(value)
        elif key == 5:
            values.append(np.frombuffer(_bytes(value), "<f4"))
    if dtype != _FLOAT:
        raise ValueError(f"{name} is of type {dtype}, expected float32")
    count = prod(shape)
    numbers = np.frombuffer(raw, "<f4") if raw else np.concatenate(values or [np.zeros(0, np.float32)])
    if not raw and 0 < len(numbers) < count:
        numbers = np.concatenate([numbers, np.full(count - len(numbers), numbers[-1])])
    if len(numbers) != count:
        raise ValueError(f"{name} holds {len(numbers)} numbers, its shape {shape} wants {count}")
    return numbers.astype(np.float32).reshape(shape)


@dataclass(frozen=True, slots=True)
class _Entry:
    shape: tuple[int, ...]
    offset: int
    size: int


def _checkpoint(index: bytes, data: bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, np.ndarray]]:
    footer = len(index) - _FOOTER
    if footer < 0:
        raise ValueError("the index is too short")
    place = _varint(index, footer)[1]
    place = _varint(index, place)[1]  # the meta index: nothing of use
    start, place = _varint(index, place)
    size, _ = _varint(index, place)
    for _, handle in _block(index, start, size):
        begin, after = _varint(handle, 0)
        for key, value in _block(index, begin, _varint(handle, after)[0]):
            name = key.decode()
            if name and wanted(name):
                entry = _entry(value, name)
                if entry.offset + entry.size > len(data) or entry.size != 4 * prod(entry.shape):
                    raise ValueError(f"{name} is said to be {entry.size} bytes at {entry.offset} of {len(data)}")
                numbers = np.frombuffer(data, "<f4", prod(entry.shape), entry.offset)
                yield name, numbers.astype(np.float32).reshape(entry.shape)


def _entry(data: bytes, name: str) -> _Entry:
    fields = dict(_fields(data))
    dtype, shard = _int(fields.get(1, 0)), _int(fields.get(3, 0))
    if dtype != _FLOAT or shard:
        raise ValueError(f"{name} is of type {dtype} in part {shard}, expected float32 in the only part")
    return _Entry(_shape(_bytes(fields.get(2, b""))), _int(fields.get(4, 0)), _int(fields.get(5, 0)))


def _block(table: bytes, start: int, size: int) -> list[tuple[bytes, bytes]]:
    """Entries of one block. Names share their beginnings with the one before."""
    if start + size + 5 > len(table):
        raise ValueError("a block reaches beyond the index")
    if table[start + size]:
        raise ValueError("the index is compressed; write the checkpoint without compression")
    block = table[start : start + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    place, key, entries = 0, b"", []
    while place < end:
        shared, place = _varint(block, place)
        fresh, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared > len(key) or place + fresh + length > end:
            raise ValueError("an entry reaches beyond its block")
        key = key[:shared] + block[place : place + fresh]
        entries.append((key, block[place + fresh : place + fresh + length]))
        place += fresh + length
    return entries


def _shape(data: bytes) -> tuple[int, ...]:
    """A TensorShapeProto."""
    shape = tuple(_int(dict(_fields(_bytes(dim))).get(1, 0)) for number, dim in _fields(data) if number == 2)
    if len(shape) > 8 or prod(shape) > _LARGEST or any(n > _LARGEST for n in shape):
        raise ValueError(f"a shape of {shape}")
    return shape


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: numbers as int, everything else as bytes."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        wire = tag & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError("it is no protobuf")
        size = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            size, place = _varint(data, place)
        if place + size > len(data):
            raise ValueError("it ends early")
        yield tag >> 3, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number without end")


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes where a number is expected")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes are expected")
    return value
