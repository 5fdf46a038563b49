"""Contestants in turn, several rounds, each in processes of its own: what one disturbs, it disturbs for all."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facebatch import gpus
from facebatch.errors import FacebatchError
from facebatch.family import Family

_EVERY = 2.0
"""Seconds between looks at a contestant's processes."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a contestant says of its run. seconds: from the first byte to the last record. spent: seconds that its
    workers together took for each part; moved: bytes that went from process to process, None where that is not told."""

    images: int
    faces: int
    seconds: float
    spent: dict[str, float] = field(default_factory=dict)
    moved: int | None = None


@dataclass(frozen=True, slots=True)
class Lap:
    """One run of one contestant. whole_seconds: from the start of its process to its end; cpu_seconds: of all cores;
    own_bytes: memory of its first process, peak_bytes: of all. gpu_busy: how busy the GPUs were, the mean of looks
    at all of them over the whole run; None where none was looked at."""

    told: Told
    whole_seconds: float
    cpu_seconds: float
    peak_bytes: int
    own_bytes: int
    gpu_busy: float | None = None

    @property
    def rate(self) -> float:
        """Images a second, from the first byte to the last record."""
        return self.told.images / self.told.seconds

    @property
    def whole_rate(self) -> float:
        """Images a second with start-up and end."""
        return self.told.images / self.whole_seconds

    @property
    def cores(self) -> float:
        """Busy on average, start-up and end included."""
        return self.cpu_seconds / self.whole_seconds


@dataclass(frozen=True)
class Contestant:
    """A program to be measured. command: its words, given a folder that it may write to and that is empty. told: what
    it says of its run, from that folder and its standard output."""

    name: str
    command: Callable[[Path], list[str]]
    told: Callable[[Path, str], Told]


@dataclass(frozen=True)
class Standing:
    """The laps of one contestant."""

    name: str
    laps: tuple[Lap, ...]

    def median(self, of: Callable[[Lap], float]) -> float:
        return statistics.median(map(of, self.laps))

    @property
    def middle(self) -> Lap:
        """The lap with the median rate, the lower of two."""
        return sorted(self.laps, key=lambda lap: lap.rate)[(len(self.laps) - 1) // 2]


def contest(
    contestants: list[Contestant], rounds: int, say: Callable[[str], None], on_gpus: bool = False
) -> list[Standing]:
    """So many rounds in which each contestant runs once, in turn. on_gpus: whether these are looked at, too.

    Raises FacebatchError when one fails, with its last words.
    """
    laps: dict[str, list[Lap]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            lap = run(contestant, on_gpus=on_gpus)
            laps[contestant.name].append(lap)
            say(f"round {number + 1} of {rounds}: {contestant.name} {lap.rate:.1f} images/s, {lap.told.faces} faces")
    return [Standing(name, tuple(each)) for name, each in laps.items()]


def run(contestant: Contestant, output: Path | None = None, on_gpus: bool = False) -> Lap:
    """One lap. output: where it may write; without it, somewhere that is gone afterwards.

    Raises FacebatchError when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="facebatch-bench-") as folder:
        out, words = Path(folder) / "stdout", Path(folder) / "stderr"
        output = output or Path(folder) / "output"
        with out.open("wb") as stdout, words.open("wb") as stderr:
            started = time.monotonic()
            process = subprocess.Popen(contestant.command(output), stdout=stdout, stderr=stderr)
            family = Family(process.pid)
            with Gauge(on_gpus) as gauge:
                for _ in _while_running(process):
                    family.sample()
                whole = time.monotonic() - started
        if process.returncode:
            last = words.read_text(errors="replace").strip().splitlines()[-3:]
            raise FacebatchError(f"{contestant.name} ended with exit code {process.returncode}: {' / '.join(last)}")
        told = contestant.told(output, out.read_text())
        return Lap(told, whole, family.cpu_seconds, family.peak_bytes, family.own_peak_bytes, gauge.mean)


def said(output: Path, stdout: str) -> Told:
    """What a contestant of ours prints as its last line."""
    return Told(**json.loads(stdout.strip().splitlines()[-1]))


def of_facebatch(output: Path, stdout: str) -> Told:
    """What the record of facebatch's last run over a dataset says."""
    runs = [json.loads(path.read_text()) for path in sorted((output / "_facebatch" / "runs").glob("*.json"))]
    last: dict[str, Any] = runs[-1]
    return Told(last["images"], last["totals"].get("faces", 0), last["seconds"], last["spent"], last["moved_bytes"])


def ratios(standings: Iterable[Standing], to: str) -> dict[str, float]:
    """Of each contestant's median rate to that of the one named."""
    rates = {standing.name: standing.median(lambda lap: lap.rate) for standing in standings}
    return {name: rate / rates[to] for name, rate in rates.items()}


class Gauge:
    """Looks how busy the GPUs are while the block runs, beside it: an answer of the driver's may take its time."""

    def __init__(self, on_gpus: bool) -> None:
        self._shares: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="gauge", daemon=True) if on_gpus else None

    def __enter__(self) -> Gauge:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()

    @property
    def mean(self) -> float | None:
        """Of all looks and all GPUs; None where there was none."""
        return statistics.fmean(self._shares) if self._shares else None

    def _look(self) -> None:
        while not self._end.wait(_EVERY):  # what the one before has left behind is over then
            with suppress(FacebatchError):  # a look that fails is none; a measurement does not end for it
                self._shares += [gpu.busy for gpu in gpus.visible() if gpu.busy is not None]


def _while_running(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Now and then, until the process has ended; the wait ends with it."""
    while True:
        yield
        try:
            process.wait(_EVERY)
            return
        except subprocess.TimeoutExpired:
            continue
