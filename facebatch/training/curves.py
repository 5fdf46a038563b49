"""The log of a training run: a line of JSON for each entry, and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from facebatch.evaluation import plots
from facebatch.training import checkpoint


class Log:
    """Entries by step. A run that goes on from an earlier checkpoint drops what was logged behind it."""

    def __init__(self, file: Path, step: int) -> None:
        self._file = file
        kept = [entry for entry in read(file) if entry["step"] <= step]
        checkpoint.write(file, "".join(json.dumps(entry) + "\n" for entry in kept).encode())

    def add(self, step: int, values: Mapping[str, float]) -> None:
        with open(self._file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step} | {key: round(value, 6) for key, value in values.items()}) + "\n")


def read(file: Path) -> list[dict[str, float]]:
    """All entries. A last line that a kill cut off is left out."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def plot(file: Path, entries: Sequence[Mapping[str, float]]) -> None:
    """Each figure over the steps, in a panel of its own. Raises UsageError where matplotlib is absent."""
    names = [name for name in (entries[-1] if entries else {}) if name != "step"]
    if not names:
        return
    plots.panels(file, "Step", [(name, _series(entries, name)) for name in names])


def _series(entries: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    shown = [entry for entry in entries if name in entry]
    return [entry["step"] for entry in shown], [entry[name] for entry in shown]
