"""Importers: from a checkpoint as it was published to an ONNX graph with a dynamic batch axis, without its framework.

Each builds the published architecture and fills it; a file of another model is refused in one sentence. Which importer
a pack needs, and with which options, stands in the pack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from pydantic import ValidationError

from facebatch.errors import UsageError


@dataclass(frozen=True, slots=True)
class Given:
    """A file as it was found. Importers tell what it is by its content; the name is for messages."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Imported:
    """graph: an ONNX file. parameters: as the paper counts them (trainable, batch norms not folded), where that is
    known."""

    graph: bytes = field(repr=False)
    parameters: int | None = None


class Importer(Protocol):
    """Raises FacebatchError, in one sentence, for files that are not the model: wrong, truncated, hostile, or merely
    different."""

    def __call__(self, files: Sequence[Given], options: Mapping[str, Any]) -> Imported: ...


_REVISIONS = {
    "edgenext": 1,
    "extd": 1,
    "mxnet": 1,
    "onet": 1,
    "onnx": 1,
    "retinaface": 1,
    "slim": 1,
    "ssdlite": 1,
}
"""Importers by name, each a module of this package. The number is raised when an importer's graphs change on purpose:
it is part of the contract."""
_MODULES = {"onnx": "onnx_file"}


def run(name: str, files: Sequence[Given], options: Mapping[str, Any]) -> Imported:
    """The graph of a checkpoint. Raises FacebatchError for a file of another model, UsageError for unknown options."""
    if name not in _REVISIONS:
        raise UsageError(f"there is no importer {name!r}; there are {', '.join(_REVISIONS)}")
    importer: Importer = import_module(f"facebatch.importers.{_MODULES.get(name, name)}").convert
    try:
        return importer(files, options)
    except ValidationError as error:
        what = error.errors()[0]
        raise UsageError(f"importer {name}, option {'.'.join(map(str, what['loc']))}: {what['msg']}") from None


def revision(name: str) -> str:
    """What the contract says of an importer, as in `extd-1`."""
    return f"{name}-{_REVISIONS[name]}"
