"""All that a report says of a dataset. Whatever the archive's size, no table has more than a few hundred rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import facebatch
from facebatch import epochs, plan
from facebatch.dataset import Dataset
from facebatch.ledger import State
from facebatch.reasons import Reason, Status
from facebatch.reporting import runs
from facebatch.reporting.table import FACTS, Plot, Table, facts, histogram, ranking
from facebatch.reporting.tally import Tally, tally
from facebatch.reporting.words import Value
from facebatch.status import describe


@dataclass(frozen=True, slots=True)
class Report:
    """Of which dataset, and the tables in the order in which they are read."""

    output: str
    tables: tuple[Table, ...]

    def table(self, name: str) -> Table:
        """The one of this name, which there must be."""
        return next(table for table in self.tables if table.name == name)

    def as_json(self) -> dict[str, Any]:
        """Each table as a list of its rows, one of single facts as an object; of one without rows, its remark tells
        why."""
        told = {table.name: _plain(table) for table in self.tables}
        return {"output": self.output, "tables": told, "remarks": {t.name: t.remark for t in self.tables if t.remark}}


def gather(dataset: Dataset, state: State) -> Report:
    """Everything that is known of a dataset with this state. Raises UsageError where there is none, FacebatchError
    where one of its tables cannot be read."""
    own = dataset.facts()
    told = tally(dataset, state.records)
    noted = runs.noted(dataset)
    return Report(
        dataset.root,
        (
            facts("identity", "What this is", _identity(dataset, own, state, noted)),
            *_images(told),
            *_faces(told),
            *runs.tables(noted),
        ),
    )


def _identity(
    dataset: Dataset, own: dict[str, Any], state: State, noted: list[runs.Run]
) -> Iterator[tuple[str, Value, str]]:
    shards = plan.shards(dataset)
    counts = [state.count(shard) for shard in shards]
    finished = bool(shards) and not any(map(state.missing, shards))
    last, run = epochs.standing(dataset), runs.chosen(noted)
    yield "output", dataset.root, "where it lies"
    yield "detector", own["detector"], ""
    yield "embedder", own["embedder"], ""
    yield "landmarks", own.get("landmarks"), "what has found them"
    yield "contract", own["contract_id"], "of everything that changes a box or a vector"
    yield "run", last.epoch if last else None, "the last one"
    yield "standing", f"it {describe(last, finished)}" if last else "no run has begun", ""
    yield "planned", sum(count or 0 for count in counts), "images"
    yield "unread", counts.count(None), "containers that are not read to their end, and hold more"
    yield "left", sum(state.left(shard) or 0 for shard in shards), "images to do, those among them that are tried again"
    yield "facebatch", run.record.get("facebatch") if run else None, "that ran"
    yield "reporter", facebatch.__version__, "the facebatch that wrote this report"
    yield "reported", f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC", ""


def _images(told: Tally) -> Iterable[Table]:
    statuses = [(str(status), told.statuses[status]) for status in Status]
    size = f"{told.size_bytes / 1e6:,.1f} MB of files."
    yield Table("images", "Images", ("status", "images"), (*statuses, ("all", told.images)), size)
    reasons = sorted(told.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    yield Table(
        "reasons",
        "Images without faces, by reason",
        ("reason", "status", "images", "meaning"),
        tuple((reason, status, n, _meaning(reason)) for (status, reason), n in reasons),
        "" if reasons else "No image has a reason: none has failed, and none was skipped.",
        Plot("bars", "images", ("reason",)),
    )
    yield ranking("formats", "Formats", "format", "images", told.formats, "", "No image is of a known format.")


def _faces(told: Tally) -> Iterable[Table]:
    looked = told.statuses[Status.OK] + told.statuses[Status.NO_FACE]
    rows: list[tuple[str, Value, str]] = [
        ("faces", told.faces, ""),
        ("looked_at", looked, "images: those that are ok or no_face"),
        ("each", told.faces / looked if looked else None, "faces in an image that was looked at"),
    ]
    yield facts("faces", "Faces", rows)
    yield histogram(
        "faces_per_image", "Faces in an image", "images", told.per_image, "Of the images that were looked at."
    )
    yield histogram("face_px", "Sizes of faces", "faces", told.face_px, "The shorter side of the box, in pixels.")
    yield histogram("score", "Scores", "faces", told.score, "Of the detector.")
    yield histogram(
        "quality",
        "Quality",
        "faces",
        told.quality,
        "Geometric mean of size, sharpness, brightness, pose and score.",
    )
    yield ranking(
        "quality_reasons",
        "What speaks against a face",
        "reason",
        "faces",
        told.quality_reasons,
        "The words of quality_reasons; a face may have several.",
        "No face has a quality reason.",
    )


def _plain(table: Table) -> object:
    if table.columns == FACTS:
        return {str(name): value for name, value, _ in table.rows}
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _meaning(reason: str) -> str:
    """Of a word that this facebatch knows."""
    return Reason(reason).meaning if reason in set(Reason) else ""
