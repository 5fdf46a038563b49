"""TensorFlow graphs for tests: running a published MetaGraph in PyTorch, node by node, and writing variables as files.

The graph says what is computed; nothing of facebatch/importers/ssdlite.py is used. Protobufs are read by
facebatch.importers.tensorflow_file, which has specifications of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facebatch.importers.tensorflow_file import _fields
from facebatch.importers.tensorflow_file import _varint as _read_varint

Message = Mapping[int, Any]


@dataclass(frozen=True)
class Node:
    op: str
    inputs: list[str]
    attributes: dict[str, Message]


def nodes_of(meta: Path) -> dict[str, Node]:
    """The graph of a MetaGraph file."""
    graph: Any = next(value for key, value in _fields(meta.read_bytes()) if key == 2)
    nodes = {}
    for key, raw in _fields(graph):
        if key == 1:
            parts: list[Any] = list(_fields(raw))  # type: ignore[arg-type]
            one: Any = dict(parts)
            entries: list[Any] = [dict(_fields(value)) for field, value in parts if field == 5]
            attributes: dict[str, Any] = {entry[1].decode(): dict(_fields(entry.get(2, b""))) for entry in entries}
            inputs = [value.decode() for field, value in parts if field == 3]
            nodes[one[1].decode()] = Node(one[2].decode(), inputs, attributes)
    return nodes


class TorchRunner:
    """Evaluates nodes, channels last as TensorFlow has them."""

    def __init__(self, nodes: dict[str, Node], variables: Mapping[str, np.ndarray], fed: Mapping[str, Any]) -> None:
        self._torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'facebatch[reference]'")
        self._nodes, self._variables, self._known = nodes, variables, dict(fed)

    def __call__(self, name: str) -> Any:
        name = name.split(":")[0]
        if name not in self._known:
            node = self._nodes[name]
            if node.op == "VariableV2":
                self._known[name] = self._torch.from_numpy(self._variables[name])
            elif node.op == "Const":
                self._known[name] = self._constant(node.attributes["value"][8])
            else:
                self._known[name] = self._run(node, [self(i) for i in node.inputs if not i.startswith("^")])
        return self._known[name]

    def _constant(self, tensor: bytes) -> Any:
        fields = dict(_fields(tensor))
        dims = [dict(_fields(d)).get(1, 0) for k, d in _fields(fields.get(2, b"")) if k == 2]  # type: ignore[arg-type]
        kind = {1: "<f4", 3: "<i4"}[fields[1]]  # type: ignore[index]
        if 4 in fields:
            values = np.frombuffer(fields[4], kind)  # type: ignore[arg-type]
        elif fields[1] == 1:
            values = np.frombuffer(fields[5], "<f4")  # type: ignore[arg-type]
        else:
            number = fields[7] if isinstance(fields[7], int) else _read_varint(fields[7], 0)[0]
            values = np.array([number - (1 << 64) if number >> 63 else number], "<i4")
        return self._torch.from_numpy(np.broadcast_to(values, [int(d) for d in dims] or [1]).copy()).squeeze()

    def _run(self, node: Node, inputs: list[Any]) -> Any:
        torch, functional = self._torch, self._torch.nn.functional
        first = inputs[0]
        if node.op in ("Identity", "Relu6", "Rsqrt"):
            return {"Identity": lambda x: x, "Relu6": functional.relu6, "Rsqrt": torch.rsqrt}[node.op](first)
        if node.op in ("Add", "BiasAdd"):
            return first + inputs[1]
        if node.op in ("Mul", "Sub"):
            return first * inputs[1] if node.op == "Mul" else first - inputs[1]
        if node.op == "FusedBatchNorm":
            _, gamma, beta, mean, var = inputs
            (eps,) = struct.unpack("<f", node.attributes["epsilon"][4])
            return (first - mean) / torch.sqrt(var + eps) * gamma + beta
        if node.op in ("Conv2D", "DepthwiseConv2dNative"):
            return self._conv(node, first, inputs[1])
        if node.op == "Shape":
            return torch.tensor(first.shape)
        if node.op == "StridedSlice":  # always the batch size here
            return first[int(inputs[1])]
        if node.op == "Pack":
            return torch.stack([i.reshape(()) for i in inputs])
        if node.op == "Reshape":
            return first.reshape([int(n) for n in inputs[1]])
        assert node.op == "ConcatV2", node.op
        return torch.cat(inputs[:-1], int(inputs[-1]))

    def _conv(self, node: Node, x: Any, weight: Any) -> Any:
        """SAME padding as TensorFlow computes it: what is odd goes behind."""
        assert node.attributes["padding"][2] == b"SAME"
        packed = dict(_fields(node.attributes["strides"][1]))[3]
        stride = packed[1]  # type: ignore[index]
        depthwise = node.op != "Conv2D"
        kernel = weight.permute(2, 3, 0, 1) if depthwise else weight.permute(3, 2, 0, 1)
        pads = []
        for size, window in ((x.shape[2], kernel.shape[3]), (x.shape[1], kernel.shape[2])):
            total = max((-(-size // stride) - 1) * stride + window - size, 0)
            pads += [total // 2, total - total // 2]
        padded = self._torch.nn.functional.pad(x.permute(0, 3, 1, 2), pads)
        groups = x.shape[3] if depthwise else 1
        made = self._torch.nn.functional.conv2d(padded, kernel, stride=int(stride), groups=groups)
        return made.permute(0, 2, 3, 1)


def frozen(variables: Mapping[str, np.ndarray]) -> bytes:
    """A frozen graph: a Const node for each variable, and some that are none of the model's."""
    parts = []
    for name, array in {**variables, "Preprocessor/mul/x": np.array(0.0078, np.float32)}.items():
        tensor = _number(1, 1) + _text(2, _shape(array.shape)) + _text(4, array.astype("<f4").tobytes())
        attribute = _text(1, b"value") + _text(2, _text(8, tensor))
        parts.append(_text(1, _text(1, name.encode()) + _text(2, b"Const") + _text(5, attribute)))
        parts.append(_text(1, _text(1, f"{name}/read".encode()) + _text(2, b"Identity") + _text(3, name.encode())))
    return b"".join(parts)


def checkpoint(variables: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
    """The index and the data of a checkpoint of version 2."""
    data, entries = b"", [(b"", _number(1, 1))]
    for name in sorted(variables):
        array = variables[name].astype("<f4")
        entry = _number(1, 1) + _text(2, _shape(array.shape)) + _number(4, len(data)) + _number(5, array.nbytes)
        entries.append((name.encode(), entry))
        data += array.tobytes()
    block, handles = _block(entries), b""
    handles = _block([(entries[-1][0], _varint(0) + _varint(len(block)))])
    start = len(block) + 5
    table = block + bytes(5) + handles + bytes(5)
    footer = _varint(0) + _varint(0) + _varint(start) + _varint(len(handles))
    return table + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57), data


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    made, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        made += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return made + struct.pack("<II", 0, 1)


def _shape(shape: tuple[int, ...]) -> bytes:
    return b"".join(_text(2, _number(1, size)) for size in shape)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])
