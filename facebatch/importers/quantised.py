"""Networks in eight bits, as `facebatch models quantize` leaves them: how they are marked, and known again.

They are graphs already: the importer that their pack's published files need has nothing more to do.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import onnx

from facebatch.errors import FacebatchError

_KEY = "facebatch.int8"


@dataclass(frozen=True, slots=True)
class Mark:
    """pack: whose network it is. source: sha256 of the float weights it was made of. photos: how many it was calibrated
    on."""

    pack: str
    source: str
    photos: int


def marked(model: onnx.ModelProto, mark: Mark) -> bytes:
    """The file of a quantised network that says what it is."""
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
        return Mark(**json.loads(said))
    except (TypeError, ValueError) as error:
        raise FacebatchError(
            f"the file says that facebatch has quantised it, and in words of another version ({error}): make it again "
            "with `facebatch models quantize`"
        ) from error
