"""What an evaluation of detectors leaves: a table, figures as JSON, plots, and sheets of the worst to look at."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from facebatch.errors import FacebatchError
from facebatch.evaluation import plots
from facebatch.evaluation.detecting import OURS, PUBLISHED, Data, Result
from facebatch.evaluation.precision import Curve, Rule, Spot, worst
from facebatch.evaluation.sheet import Tile, contact_sheet
from facebatch.summary import versions

_TILES = 40
Results = Mapping[str, Result]
"""Of one detector, by setting."""


def table(results: Sequence[Results], subsets: Sequence[str] = ()) -> tuple[list[str], Iterator[list[str]]]:
    """Titles and rows. AP published and ours; ours by size of face; recall, and the threshold of the best F1."""
    titles = ["detector", "AP published", "AP ours", "small", "medium", "large", "recall", "best F1", "at score"]
    titles += [f"{subset} {setting}" for subset in subsets for setting in (PUBLISHED, OURS)]
    return [*titles, "ms published", "ms ours"], (_row(one, subsets) for one in results)


def write(
    folder: Path, data: Data, results: Sequence[Results], protocol: str, rule: Rule, said: Sequence[str]
) -> list[Path]:
    """All files of an evaluation. said: the words of the command. Returns their paths. Raises FacebatchError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / name for name in ("detection.json", "detection-precision-recall.png", "detection-plane.png")]
        files[0].write_text(json.dumps(_record(data, results, protocol, rule, said), indent=1), encoding="utf-8")
    except OSError as error:
        raise FacebatchError(f"the evaluation cannot be written to {folder}: {error}") from error
    ours = [one[OURS] for one in results]
    plots.precision_recall(files[1], {r.name: (r.curve.recall, r.curve.precision, r.curve.ap) for r in ours})
    both = [one[setting] for one in results for setting in (PUBLISHED, OURS)]
    plots.plane(files[2], [(r.name, r.measured.milliseconds, r.curve.ap, r.measured.setting) for r in both])
    for result in ours:
        score = result.measured.entry.pack.score
        missed, alarms = worst(data.truths, result.measured.found, score, rule)
        for kind, spots in (("misses", missed), ("alarms", alarms)):
            if spots:
                files.append(folder / f"{kind}-{result.name}.png")
                contact_sheet(files[-1], [_tile(data, spot) for spot in spots[:_TILES]])
    return files


def _row(one: Results, subsets: Sequence[str]) -> list[str]:
    published, ours = one[PUBLISHED], one[OURS]
    f1, score = ours.curve.best_f1
    cells = [published.curve.ap, ours.curve.ap, *(c.ap for c in ours.sizes.values()), ours.curve.final_recall, f1]
    written = [_said(cell) for cell in cells] + [_said(score, 2)]
    written += [_said(one[setting].wider[subset].ap) for subset in subsets for setting in (PUBLISHED, OURS)]
    return [ours.name, *written, *(_said(one[s].measured.milliseconds, 0) for s in (PUBLISHED, OURS))]


def _said(figure: float, digits: int = 3) -> str:
    return f"{figure:.{digits}f}" if math.isfinite(figure) else "-"


def _tile(data: Data, spot: Spot) -> Tile:
    path = data.truths[spot.image].path
    x_min, y_min, x_max, y_max = map(float, spot.box)
    what = f"{spot.score:.2f}" if spot.score is not None else f"{x_max - x_min:.0f}x{y_max - y_min:.0f}"
    return Tile(path, (x_min, y_min, x_max, y_max), f"{what} {Path(path).name}")


def _record(data: Data, results: Sequence[Results], protocol: str, rule: Rule, said: Sequence[str]) -> dict[str, Any]:
    return {
        "command": list(said),
        "date": dt.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "versions": versions(),
        "data": data.name,
        "images": len(data.truths),
        "protocol": protocol,
        "rule": {key: value if value != float("inf") else None for key, value in asdict(rule).items()},
        "detectors": {one[OURS].name: {name: _figures(result) for name, result in one.items()} for one in results},
    }


def _figures(result: Result) -> dict[str, Any]:
    return {
        **_of(result.curve),
        "sizes": {name: _of(one) for name, one in result.sizes.items()},
        "wider": {name: _of(one) for name, one in result.wider.items()},
        "milliseconds": round(result.measured.milliseconds, 2),
        "unread": result.measured.unread,
        "settings": result.measured.settings.terms(),
    }


def _of(curve: Curve) -> dict[str, Any]:
    f1, score = curve.best_f1
    plain = {"ap": curve.ap, "recall": curve.final_recall, "best_f1": f1, "at_score": score}
    return {name: round(value, 5) if abs(value) < float("inf") else None for name, value in plain.items()} | {
        "truths": curve.truths
    }
