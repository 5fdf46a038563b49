"""The GPUs that this process may see, as the driver's own tool tells of them."""

from __future__ import annotations

import csv
import os
import subprocess
from dataclasses import dataclass

from facebatch.errors import FacebatchError

_FIELDS = ("name", "memory.total", "utilization.gpu")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One of them. bytes: its memory; busy: the share of the last moments in which it computed, None where the driver
    does not tell, as of a part of a GPU."""

    name: str
    bytes: int
    busy: float | None


def visible() -> list[Gpu]:
    """All that CUDA_VISIBLE_DEVICES leaves of this machine's; none where there is no driver.

    Raises FacebatchError where there is one that does not answer.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and (chosen.strip() in ("", "-1")):
        return []
    query = ["nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(
            [*query, *([f"--id={chosen}"] if chosen else [])], capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError:
        return []
    except (OSError, subprocess.CalledProcessError) as error:
        words = (getattr(error, "stdout", "") or str(error)).strip().splitlines()
        raise FacebatchError(f"nvidia-smi does not tell of the GPUs: {words[0] if words else error}") from error
    try:
        rows = [[word.strip() for word in row] for row in csv.reader(told.splitlines()) if row]
        return [Gpu(name, int(mebibytes) << 20, _share(busy)) for name, mebibytes, busy in rows]
    except ValueError as error:
        raise FacebatchError(f"nvidia-smi answers {told[:200]!r}, not {', '.join(_FIELDS)} of each GPU") from error


def _share(percent: str) -> float | None:
    return int(percent) / 100 if percent.isdecimal() else None
