"""How a run ended: the closing table for people, and the run's record for machines."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from rich.console import Console

import facebatch
from facebatch.config import Config, as_dict
from facebatch.forecast import Sample
from facebatch.progress import clock
from facebatch.reasons import Status
from facebatch.slowest import Slow
from facebatch.storage import absolute
from facebatch.timeline import Point

COMPUTING = (
    "onnxruntime-gpu",
    "onnxruntime",
    "numpy",
    "pillow",
    "pillow-heif",
    "pillow-jxl-plugin",
    "rawpy",
    "simplejpeg",
    "opencv-python-headless",
)
"""Packages another version of which may move a pixel, and the last digits of a vector."""
_PROVENANCE = ("ray", "pyarrow", *COMPUTING)


@dataclass(frozen=True, slots=True)
class Spared:
    """What a gate has saved a run, in seconds of all workers together.

    looked: images that it saw; nobody: those of them that the detector was spared; gate, detector: seconds that each
    took for all the images that it saw.
    """

    looked: int
    nobody: int
    gate: float
    detector: float

    @classmethod
    def of(cls, counts: dict[str, int]) -> Spared | None:
        """From the counters of a run (`facebatch.pipeline.desk.counted`); None where there was no gate."""
        looked, detected = counts.get("gate", 0), counts.get("detector", 0)
        seconds = counts.get("gate_micros", 0) / 1e6, counts.get("detector_micros", 0) / 1e6
        return cls(looked, looked - detected, *seconds) if looked else None

    @property
    def seconds(self) -> float | None:
        """Saved in all, less than nothing where the gate cost more; None where the detector was never measured."""
        seen = self.looked - self.nobody
        return self.nobody * self.detector / seen - self.gate if seen else None

    @property
    def row(self) -> Row:
        """For the closing table."""
        seen = self.looked - self.nobody
        if self.seconds is None:
            return "gate", str(self.nobody), f"of {self.looked} images show nobody; the detector never ran"
        each = f"{1000 * self.gate / self.looked:.1f} ms an image, the detector {1000 * self.detector / seen:.1f}"
        verdict = f"{self.seconds:.1f} s of work saved" if self.seconds >= 0 else f"{-self.seconds:.1f} s of work lost"
        return "gate", str(self.nobody), f"of {self.looked} images show nobody: {verdict} ({each})"


Row = tuple[str, str, str]
"""What, how many, remark."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of a run and of the dataset after it.

    totals: rows by status and by status/reason in the whole dataset, and `faces`. new_images: written by this run, in
    `seconds` from the first read to the last commit. whole_seconds: with everything around that.
    """

    totals: dict[str, int]
    planned: int
    new_images: int
    seconds: float
    whole_seconds: float
    peak_bytes: int
    output: str
    seats: dict[str, list[str]] = field(default_factory=dict)
    """For each stage the GPUs that its workers saw."""
    provider: str | None = None
    """On which the networks ran; None where nothing was computed."""
    spared: Spared | None = None
    spent: dict[str, float] = field(default_factory=dict)
    """Seconds that all workers together spent reading, in each stage, and writing."""
    moved: int = 0
    """Bytes that went through Ray's object store."""
    planning_seconds: float = 0.0
    """Until it was known what there is to do."""
    pools: dict[str, dict[str, float]] = field(default_factory=dict)
    """How many actors each pool had, and the threads, CPUs and GPUs of each."""
    sample: Sample | None = None
    layout: tuple[str, ...] = ()
    """What some of its images took before it was laid out, and each decision with its reason."""
    timeline: tuple[Point, ...] = ()
    slowest: tuple[Slow, ...] = ()
    """What was done when, since the first byte, and which images took longest."""


def show(console: Console, rows: Iterable[Row]) -> None:
    """A table without lines. Its last column is never broken: it may hold a command or a path to be copied."""
    table = list(rows)
    first, second = (max((len(row[k]) for row in table), default=0) for k in (0, 1))
    for title, number, remark in table:
        line = f"{title:<{first}}  {number:<{second}}  {remark}".rstrip()
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def accounted(totals: dict[str, int], planned: str) -> Iterator[Row]:
    """What became of the images. totals: rows by status and by status/reason, and `faces`."""
    yield "images", str(sum(totals.get(status, 0) for status in Status)), f"of {planned} planned"
    for status in Status:
        prefix = f"{status}/"
        reasons = {key.removeprefix(prefix): n for key, n in totals.items() if key.startswith(prefix)}
        most_first = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        yield f"  {status}", str(totals.get(status, 0)), ", ".join(f"{reason} {n}" for reason, n in most_first)
    yield "faces", str(totals.get("faces", 0)), ""


def rows(summary: Summary) -> Iterator[Row]:
    """The closing table of a run."""
    yield from accounted(summary.totals, str(summary.planned))
    if summary.new_images:
        rate = summary.new_images / max(summary.seconds, 1e-9)
        yield "rate", f"{rate:.1f}", f"images/s: {summary.new_images} in {clock(summary.seconds)}"
        if summary.spared:
            yield summary.spared.row
        yield "memory", f"{summary.peak_bytes / 2**30:.2f}", "GiB at most, all processes on this machine together"
    yield "time", clock(summary.whole_seconds), "in all" if summary.new_images else "in all, nothing new"
    yield "tables", "", f"{summary.output}/images/*.parquet  {summary.output}/faces/*.parquet"


def begun(config: Config, provider: str | None = None) -> dict[str, Any]:
    """The record of a run that has begun: how it is configured, on what it computes, with which versions.

    Of how storage is reached it names the settings and leaves out their values, so that no credential can end up in a
    dataset.
    """
    settings = as_dict(config)
    storage, defaults = settings.pop("storage"), as_dict(config.__class__())["storage"]
    settings["inputs"] = [absolute(given) for given in config.inputs]
    settings["output"] = absolute(config.output)
    settings["base_uri"] = absolute(config.base_uri) if config.base_uri else None
    return {
        "facebatch": facebatch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "provider": provider,
        "versions": versions(),
        "config": settings,
        "storage": sorted(key for key, value in storage.items() if value != defaults[key]),
    }


def versions() -> dict[str, str]:
    """The packages that results may depend on, with their versions here; without those that are not installed."""
    installed = {package.metadata["Name"].lower(): package.version for package in metadata.distributions()}
    return {name: installed[name] for name in _PROVENANCE if name in installed}


def report(config: Config, summary: Summary) -> dict[str, Any]:
    """The record of a run that came to its end: the same, and what it cost."""
    return begun(config, summary.provider) | {
        "images": summary.new_images,
        "seconds": round(summary.seconds, 3),
        "whole_seconds": round(summary.whole_seconds, 3),
        "planning_seconds": round(summary.planning_seconds, 3),
        "spent": summary.spent,
        "moved_bytes": summary.moved,
        "peak_bytes": summary.peak_bytes,
        "totals": summary.totals,
        "seats": summary.seats,
        "pools": summary.pools,
        "layout": summary.layout,
        "calibration": asdict(summary.sample) if summary.sample else None,
        "spared": asdict(summary.spared) if summary.spared else None,
        "timeline": summary.timeline,
        "slowest": [asdict(slow) for slow in summary.slowest],
    }
