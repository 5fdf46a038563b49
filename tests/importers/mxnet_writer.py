"""MXNet files for tests: .params from arrays, symbols from a few lines, random weights for any symbol."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

_TYPES = {"<f4": 0, "<f8": 1, "<f2": 2, "|u1": 3, "<i4": 4, "|i1": 5, "<i8": 6}
Operator = tuple[str, str, dict[str, object], str]
"""Operator, name, attributes, and the names of its inputs with spaces between."""


def params(arrays: Mapping[str, np.ndarray], layout: str = "V2") -> bytes:
    """A .params file. The names are those of the file: with `arg:` or `aux:`. layout: V2, V1, or `legacy`."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        dims = "I" if layout == "legacy" else "q"
        magic = {"V2": struct.pack("<Ii", 0xF993FAC9, 0), "V1": struct.pack("<I", 0xF993FAC8), "legacy": b""}[layout]
        shape = struct.pack(f"<I{array.ndim}{dims}", array.ndim, *array.shape)
        parts += [magic, shape, struct.pack("<iii", 1, 0, _TYPES[array.dtype.str]), array.tobytes()]
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        parts.append(struct.pack("<Q", len(name.encode())) + name.encode())
    return b"".join(parts)


def saved(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A .params file as MXNet names its arrays: statistics of batch norms are `aux:`, all else is `arg:`."""
    return params({("aux:" if "_moving_" in name else "arg:") + name: array for name, array in arrays.items()})


def weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights that keep activations in range: He's for layers, near the identity for batch norms."""
    random = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        if name.endswith("_weight"):
            array = random.standard_normal(shape, np.float32) * np.float32((2 / prod(shape[1:])) ** 0.5)
        elif name.endswith(("_gamma", "_moving_var")):
            low, high = (0.1, 0.4) if "relu" in name else (0.5, 1.5)  # MXNet calls PReLU's slopes gamma, too
            array = random.uniform(low, high, shape).astype(np.float32)
        else:
            array = random.normal(0, 0.2, shape).astype(np.float32)
        made[name] = array
    return made


def symbol(operators: Sequence[Operator], heads: str) -> bytes:
    """A symbol. Names that no operator has are variables."""
    nodes: list[dict[str, object]] = []
    places: dict[str, int] = {}
    for op, name, attributes, inputs in operators:
        for source in inputs.split():
            if source not in places:
                places[source] = len(nodes)
                nodes.append({"op": "null", "name": source, "inputs": []})
        places[name] = len(nodes)
        sources = [[places[source], 0, 0] for source in inputs.split()]
        nodes.append({"op": op, "name": name, "attrs": {k: str(v) for k, v in attributes.items()}, "inputs": sources})
    found = [[places[head], 0, 0] for head in heads.split()]
    return json.dumps({"nodes": nodes, "arg_nodes": [], "heads": found}).encode()
