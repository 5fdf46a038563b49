"""What a measurement says: rows for people, JSON for whoever compares, and pictures. With the hardware, always."""

from __future__ import annotations

import datetime as dt
import json
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from facebatch.bench.archive import Archive
from facebatch.bench.contest import Lap, Standing, ratios
from facebatch.bench.growth import Size
from facebatch.bench.rivals import FACEBATCH, FLOOR
from facebatch.errors import UsageError
from facebatch.evaluation import plots
from facebatch.family import cores
from facebatch.scale import PARTS
from facebatch.summary import versions

GROWN = ("images", "ms an image", "planning s", "again s", "driver MiB", "all GiB")


def titles(standings: Sequence[Standing]) -> list[str]:
    """Of the columns; one for the GPUs where these were looked at."""
    told = ["", "images/s", "of floor", "with start", "faces/s", "cores", "GiB", "moved MB"]
    return [*told, "GPU busy"] if _on_gpus(standings) else told


def rows(standings: Sequence[Standing]) -> Iterator[list[str]]:
    """A row for each contestant, by the medians of its laps."""
    share = ratios(standings, FLOOR)
    for one in standings:
        yield [
            one.name,
            f"{one.median(lambda lap: lap.rate):.1f}",
            f"{100 * share[one.name]:.0f} %",
            f"{one.median(lambda lap: lap.whole_rate):.1f}",
            f"{one.median(lambda lap: lap.told.faces / lap.told.seconds):.1f}",
            f"{one.median(lambda lap: lap.cores):.2f}",
            f"{one.median(lambda lap: lap.peak_bytes) / 2**30:.2f}",
            "" if one.middle.told.moved is None else f"{one.middle.told.moved / 1e6:.0f}",
            *([_busy(one)] if _on_gpus(standings) else []),
        ]


def part_rows(standings: Sequence[Standing]) -> Iterator[list[str]]:
    """Milliseconds of a worker for an image by part, of those that tell, in the lap of the median rate."""
    for one in standings:
        if one.middle.told.spent:
            yield [one.name, *(_milliseconds(one.middle, part) for part in part_titles(standings)[1:])]


def part_titles(standings: Sequence[Standing]) -> list[str]:
    """The parts that any of them tells of."""
    return ["ms of a core", *(part for part in PARTS if part in _told(standings))]


def grown_rows(sizes: Sequence[Size]) -> Iterator[list[str]]:
    """A row for each size."""
    for size in sizes:
        yield [
            f"{size.images:,}",
            f"{size.milliseconds:.2f}",
            f"{size.planning_seconds:.1f}",
            f"{size.again.whole_seconds:.1f}",
            f"{size.first.own_bytes / 2**20:.0f}",
            f"{size.first.peak_bytes / 2**30:.2f}",
        ]


def check(standings: Sequence[Standing]) -> str | None:
    """What is wrong with the comparison, in words: facebatch and the floor must have seen as many images, and found as
    many faces."""
    equal = [one for one in standings if one.name in (FLOOR, FACEBATCH)]
    for what in ("images", "faces"):
        found = {one.name: {getattr(lap.told, what) for lap in one.laps} for one in equal}
        if len(set().union(*found.values())) > 1:
            counts = ", ".join(f"{name} {' or '.join(map(str, sorted(n)))}" for name, n in found.items())
            return f"the work was not equal, {what}: {counts}"
    return None


def write(
    folder: Path,
    command: Sequence[str],
    settings: Sequence[str],
    archive: Archive,
    standings: Sequence[Standing],
    gpus: Sequence[str] = (),
) -> list[Path]:
    """bench.json and bench.png; returns their paths. gpus: the names of those that it ran on. Raises UsageError where
    they cannot be written."""
    facts = _facts(command, settings, gpus) | {
        "archive": {
            "images": archive.images,
            "photos": len(archive.photos),
            "megabytes": round(archive.bytes / 1e6, 1),
            "megapixels_an_image": round(archive.megapixels, 3),
        },
        "of_floor": {name: round(ratio, 4) for name, ratio in ratios(standings, FLOOR).items()},
        "contestants": {one.name: [_lap(lap) for lap in one.laps] for one in standings},
    }
    picture = folder / "bench.png"
    path = _write_json(folder / "bench.json", facts)
    rates = {one.name: [lap.rate for lap in one.laps] for one in standings}
    plots.bars(picture, "Images a second, from the first byte to the last record", rates)
    return [path, picture]


def write_growth(
    folder: Path, command: Sequence[str], settings: Sequence[str], sizes: Sequence[Size], gpus: Sequence[str] = ()
) -> list[Path]:
    """growth.json and growth.png."""
    facts = _facts(command, settings, gpus) | {
        "sizes": [
            {
                "images": size.images,
                "milliseconds_an_image": round(size.milliseconds, 3),
                "planning_seconds": size.planning_seconds,
                "first": _lap(size.first),
                "again_seconds": round(size.again.whole_seconds, 2),
                "again_driver_bytes": size.again.own_bytes,
            }
            for size in sizes
        ]
    }
    picture = folder / "growth.png"
    path = _write_json(folder / "growth.json", facts)
    images = [size.images for size in sizes]
    curves = [
        ("Milliseconds an image", [size.milliseconds for size in sizes]),
        ("Memory of the driver, MiB", [size.first.own_bytes / 2**20 for size in sizes]),
        ("Seconds to find nothing to do", [size.again.whole_seconds for size in sizes]),
    ]
    plots.panels(picture, "Images", [(name, (images, values)) for name, values in curves])
    return [path, picture]


def _facts(command: Sequence[str], settings: Sequence[str], gpus: Sequence[str]) -> dict[str, Any]:
    return {
        "command": " ".join(command),
        "date": dt.date.today().isoformat(),
        "settings": list(settings),
        "hardware": {
            "processor": _processor(),
            "cores": cores(),
            "gibibytes": round(psutil.virtual_memory().total / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
            "gpus": list(gpus),
        },
        "python": platform.python_version(),
        "versions": versions(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _lap(lap: Lap) -> dict[str, Any]:
    return {**asdict(lap), "rate": round(lap.rate, 3) if lap.told.images else None}


def _on_gpus(standings: Sequence[Standing]) -> bool:
    return any(lap.gpu_busy is not None for one in standings for lap in one.laps)


def _busy(one: Standing) -> str:
    looked = [lap.gpu_busy for lap in one.laps if lap.gpu_busy is not None]
    return f"{100 * statistics.median(looked):.0f} %" if looked else ""


def _told(standings: Sequence[Standing]) -> set[str]:
    return {part for one in standings for part in one.middle.told.spent}


def _milliseconds(lap: Lap, part: str) -> str:
    return f"{1000 * lap.told.spent.get(part, 0.0) / lap.told.images:.2f}"


def _write_json(path: Path, facts: dict[str, Any]) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    return path
