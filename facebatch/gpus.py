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
    """One of them. word: one that CUDA_VISIBLE_DEVICES takes for it; bytes: its memory, 0 where it is not known, as of
    a part of a GPU; busy: the share of the last moments in which it computed, None where the driver does not tell."""

    word: str
    name: str
    bytes: int = 0
    busy: float | None = None


def visible() -> list[Gpu]:
    """All that CUDA_VISIBLE_DEVICES leaves of this machine's, in its order; none where there is no driver's tool. An
    index there is taken as the tool counts; where GPUs differ, CUDA counts so with CUDA_DEVICE_ORDER=PCI_BUS_ID.

    Raises FacebatchError where there is one that does not answer.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and chosen.strip() in ("", "-1"):
        return []
    query = ["nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False)
    except FileNotFoundError:
        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FacebatchError(f"nvidia-smi does not tell of the GPUs: {error}") from error
    words = done.stdout.strip().splitlines() or [f"exit status {done.returncode}"]
    if done.returncode:
        raise FacebatchError(f"nvidia-smi does not tell of the GPUs: {words[0]}")
    rows = [[word.strip() for word in row] for row in csv.reader(done.stdout.splitlines()) if row]
    if odd := [row for row in rows if len(row) != len(_FIELDS)]:
        raise FacebatchError(f"nvidia-smi answers {', '.join(odd[0])[:200]!r}, not {', '.join(_FIELDS)}")
    there = [
        (index, uuid, Gpu(uuid, name, (_number(mebibytes) or 0) << 20, _share(busy)))
        for index, uuid, name, mebibytes, busy in rows
    ]
    if chosen is None:
        return [gpu for _, _, gpu in there]
    found: list[Gpu] = []
    for word in map(str.strip, chosen.split(",")):
        # An index, or the beginning of an identity; of a part of a GPU (MIG-...) the tool does not tell here.
        same = [gpu for index, uuid, gpu in there if word == index or (word and uuid.startswith(word))]
        if not same and not word.startswith("MIG-"):
            break  # CUDA, too, sees those before the first word that it does not know
        whole = same[0] if same else Gpu(word, word)
        found.append(Gpu(word, whole.name, whole.bytes, whole.busy))
    return found


def _number(word: str) -> int | None:
    """None for `[N/A]` and `[Insufficient Permissions]`, as in a container with a part of a GPU."""
    return int(word) if word.isdecimal() else None


def _share(percent: str) -> float | None:
    number = _number(percent)
    return None if number is None else number / 100
