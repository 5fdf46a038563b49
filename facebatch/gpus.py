"""The GPUs that this process may see, as the driver's own tool tells of them."""

from __future__ import annotations

import csv
import os
import subprocess
from dataclasses import dataclass

from facebatch.errors import FacebatchError

_FIELDS = ("index", "uuid", "name", "memory.total", "utilization.gpu")
_PATIENCE = 20
"""Seconds for an answer."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One of them. word: as CUDA_VISIBLE_DEVICES calls it; bytes: its memory, 0 where it is not known, as of a part of
    a GPU; busy: the share of the last moments in which it computed, None where the driver does not tell."""

    word: str
    name: str
    bytes: int = 0
    busy: float | None = None


def visible() -> list[Gpu]:
    """All that CUDA_VISIBLE_DEVICES leaves of this machine's, in its order; none where there is no driver's tool.

    Raises FacebatchError where there is one that does not answer.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and chosen.strip() in ("", "-1"):
        return []
    query = ["nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=_PATIENCE).stdout
    except FileNotFoundError:
        return []
    except (OSError, subprocess.SubprocessError) as error:
        words = (getattr(error, "stdout", None) or str(error)).strip().splitlines()
        raise FacebatchError(f"nvidia-smi does not tell of the GPUs: {words[0] if words else error}") from error
    try:
        rows = [[word.strip() for word in row] for row in csv.reader(told.splitlines()) if row]
        there = [
            (index, uuid, Gpu(index, name, int(mebibytes) << 20, _share(busy)))
            for index, uuid, name, mebibytes, busy in rows
        ]
    except ValueError as error:
        raise FacebatchError(f"nvidia-smi answers {told[:200]!r}, not {', '.join(_FIELDS)} of each GPU") from error
    if chosen is None:
        return [gpu for _, _, gpu in there]
    found = []
    for word in map(str.strip, chosen.split(",")):
        # An index, or the beginning of an identity; of a part of a GPU (MIG-...) the tool does not tell here.
        same = (gpu for index, uuid, gpu in there if word == index or (word and uuid.startswith(word)))
        whole = next(same, Gpu(word, word))
        found.append(Gpu(word, whole.name, whole.bytes, whole.busy))
    return found


def _share(percent: str) -> float | None:
    return int(percent) / 100 if percent.isdecimal() else None
