"""MXNet symbols: the graph of a checkpoint in JSON, in any dialect since 0.8.

Source: the layout as nnvm's SaveJSON writes it, and the defaults of operators as MXNet 1.x documents them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import isfinite
from typing import Any

from facebatch.errors import FacebatchError
from facebatch.importers import Given

Shape = tuple[int, ...]
VARIABLE = "null"
"""The operator of a node that is no operator: the input, a label, or an array of the checkpoint."""
ADDITIONS = ("elemwise_add", "_Plus", "_plus", "broadcast_add", "broadcast_plus")
SCALARS = {"_plus_scalar": "Add", "_minus_scalar": "Sub", "_mul_scalar": "Mul", "_div_scalar": "Div"}
PASSING = ("_copy", "identity", "Dropout", "BlockGrad", "Flatten")
"""Nodes that change no number in inference."""
EPS, SLOPE = 1e-3, 0.25
"""Defaults of BatchNorm and LeakyReLU."""
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_var")
"""The arrays of a batch norm."""


@dataclass(frozen=True, slots=True)
class Node:
    """An operator or a variable. place: its number; inputs: the numbers of earlier nodes."""

    place: int
    op: str
    name: str
    attributes: dict[str, str]
    inputs: tuple[int, ...]

    def text(self, key: str, default: str = "") -> str:
        return self.attributes.get(key, default)

    def flag(self, key: str, default: bool = False) -> bool:
        return self.text(key, str(default)) in ("True", "true", "1")

    def number(self, key: str, default: float | None = None) -> float:
        value = float(self.attributes[key] if default is None else self.attributes.get(key, default))
        if not isfinite(value):
            raise ValueError(f"{key} is {value}")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        return _checked(int(self.attributes[key] if default is None else self.attributes.get(key, default)))

    def wholes(self, key: str) -> Shape:
        """A tuple as Python prints it. Python 2 wrote `(8L, 3L)`."""
        return tuple(_checked(int(digits)) for digits in re.findall(r"-?\d+", self.text(key)))

    def pair(self, key: str, default: int | None = None) -> tuple[int, int]:
        """Down and across."""
        down, across = self.wholes(key) or (default, default)
        if down is None or across is None:
            raise KeyError(key)
        return down, across

    @property
    def sources(self) -> tuple[int, ...]:
        """The inputs that are computed; the others are arrays of the checkpoint, or labels."""
        return self.inputs if self.op in (*ADDITIONS, "Concat", "Crop", "UpSampling") else self.inputs[:1]


def _checked(value: int) -> int:
    if abs(value) >= 2**31:
        raise ValueError(f"{value} is no size")
    return value


@dataclass(frozen=True, slots=True)
class Symbol:
    """A graph, in an order in which every node comes after its inputs. heads: numbers of the nodes it was saved for;
    file: names it in messages."""

    file: str
    nodes: tuple[Node, ...]
    heads: tuple[int, ...]


def read_symbol(given: Given) -> Symbol:
    """Raises FacebatchError for a file that is no symbol."""
    try:
        content = json.loads(given.data)
        nodes = tuple(_node(number, node) for number, node in enumerate(content["nodes"]))
        heads = tuple(_source(head, len(nodes)) for head in content["heads"])
        if not heads or any(nodes[head].op == VARIABLE for head in heads):
            raise ValueError("its heads are not operators")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        words = f"{type(error).__name__} {error}"
        raise FacebatchError(f"{given.name} is no MXNet symbol that can be read: {words[:200]}") from error
    return Symbol(given.name, nodes, heads)


def _node(number: int, node: dict[str, Any]) -> Node:
    attributes: dict[str, str] = {}
    for key in ("param", "attr", "attrs"):  # up to 0.8 both of the first; 0.9 to 0.12 `attr`; then `attrs`
        attributes |= {str(name): str(value) for name, value in node.get(key, {}).items()}
    inputs = tuple(_source(source, number) for source in node["inputs"])
    return Node(number, str(node["op"]), str(node["name"]), attributes, inputs)


def _source(entry: list[int], before: int) -> int:
    """entry: node, which of its outputs, and in newer files a version."""
    node, output, *_ = entry
    if not isinstance(node, int) or not 0 <= node < before:
        raise ValueError(f"a node refers to node {node}, which is not before it")
    if output != 0:
        raise ValueError(f"a node uses output {output} of node {node}, and only the first is known")
    return node


def arrays_of(symbol: Symbol, node: Node) -> list[str]:
    """The names of a node's arrays, in the order of its operator. Before 0.9 the running statistics of a batch norm
    were not listed."""
    listed = [symbol.nodes[number].name for number in node.inputs[len(node.sources) :]]
    if node.op == "SoftmaxOutput":
        return []  # its second input is a label
    if node.op == "BatchNorm":
        return listed + [f"{node.name}_{name}" for name in BATCH_NORM[len(listed) :]]
    return listed


def kernel_of(node: Node) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride, padding and dilation of a convolution, each down and across."""
    kernel, stride = node.pair("kernel"), node.pair("stride", 1)
    pad, dilate = node.pair("pad", 0), node.pair("dilate", 1)
    if min(*kernel, *stride, *dilate) < 1 or min(pad) < 0:
        raise ValueError(f"kernel {kernel}, stride {stride}, pad {pad}, dilate {dilate}")
    return kernel, stride, pad, dilate


def softmax_axis(node: Node) -> int:
    return node.whole("axis", -1) if node.op == "softmax" else 1
