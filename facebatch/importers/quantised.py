"""Networks in fewer bits, as `facebatch models quantize` and `halve` leave them: how they are marked, and known again.

They are graphs already: the importer that their pack's published files need has nothing more to do.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

import onnx

from facebatch.errors import FacebatchError

_KEY = "facebatch.reduced"


Precision = Literal["int8", "float16"]
WORDS: dict[str, str] = {"int8": "INT8", "float16": "FP16"}


@dataclass(frozen=True, slots=True)
class Mark:
    """pack: whose network it is. source: sha256 of the float weights it was made of. precision: what it was made.
    photos: how many it was calibrated on; none for float16."""

    pack: str
    source: str
    precision: Precision
    photos: int = 0

    @property
    def words(self) -> str:
        return WORDS[self.precision]


def marked(model: onnx.ModelProto, mark: Mark) -> bytes:
    """The file of a reduced network that says what it is."""
    onnx.helper.set_model_props(model, {_KEY: json.dumps(asdict(mark))})
    data: bytes = model.SerializeToString()
    return data


def mark(data: bytes) -> Mark | None:
    """What a file says of itself; None for every other file, ONNX or not."""
    try:
        model = onnx.load_from_string(data)
    except Exception:  # noqa: BLE001 - protobuf's DecodeError, whose module moves: no ONNX, and so not marked
        return None
    said = next((entry.value for entry in model.metadata_props if entry.key == _KEY), None)
    if not said:
        return None
    try:
        found = Mark(**json.loads(said))
        if found.precision not in WORDS:
            raise ValueError(f"precision {found.precision}")
        return found
    except (TypeError, ValueError, RecursionError) as error:
        raise FacebatchError(
            f"the file says that facebatch has reduced it, and in words of another version ({error}): make it again "
            "with `facebatch models quantize` or `halve`"
        ) from error
