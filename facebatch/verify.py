"""`facebatch verify`: proves from the files themselves that a dataset is whole. Reads everything, changes nothing.

Checked: every file is the one its record names (sha256, rows, bytes, schema, contract, models) and there is no other;
the rows of each commit agree with its record and with each other (`facebatch.consistency`); the commits together hold
every image of every shard once, so that the sum law holds, per shard and in total; no id stands twice.

One commit is in memory at a time, and of the whole dataset eight bytes for each image and each face, to find repeated
ids: so many that, among a billion, two different ones are taken for the same with a chance of 3 %.
"""

from __future__ import annotations

import hashlib
import io
import json
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facebatch import consistency, ledger, plan
from facebatch.consistency import Commit
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.ledger import File, State, merged
from facebatch.plan import Shard
from facebatch.schema import FACES, IMAGES
from facebatch.sources import Ranges, gaps
from facebatch.storage import NotFound, StorageError

_SHOWN = 20
"""Problems of a kind that are listed; the rest are counted."""
_STAMPED = ("format", "contract_id", "detector", "embedder")
"""The dataset's facts that every file must carry in its metadata."""


@dataclass(slots=True)
class Report:
    """What was found. `problems` is empty for a dataset that can be trusted."""

    images: int = 0
    faces: int = 0
    files: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    retryable: int = 0
    problems: list[str] = field(default_factory=list)


def verify(dataset: Dataset) -> Report:
    """Check a dataset. Raises UsageError where there is none; everything else is in the report."""
    facts = dataset.facts()
    state = ledger.state(dataset)
    shards = plan.shards(dataset)
    report = Report(retryable=sum(record.images.rows for record in state.records if record.retryable))
    report.problems += _strangers(dataset, state)
    image_ids, face_ids = _Ids(), _Ids()
    rows: Counter[str] = Counter()
    unread: set[str] = set()
    for record in state.records:
        images = _table(dataset, record.images, IMAGES, facts, report)
        faces = _table(dataset, record.faces, FACES, facts, report)
        if images is None or faces is None:
            unread.update(record.ranges)
            continue
        report.problems += consistency.problems(Commit(record, images, faces, facts))
        report.images += images.num_rows
        report.faces += faces.num_rows
        report.files += 2
        for status, n in Counter(images["status"].to_pylist()).items():
            report.statuses[status] = report.statuses.get(status, 0) + n
        rows.update(images["shard_id"].to_pylist())
        image_ids.add(images["image_id"].to_pylist())
        face_ids.add(faces["face_id"].to_pylist())
    report.problems += _shard_problems(shards, state, rows, unread)
    for ids, what in ((image_ids, "image"), (face_ids, "face")):
        if repeated := ids.repeated():
            report.problems.append(f"{repeated} {what} ids stand in more than one row")
    return report


def _table(dataset: Dataset, file: File, schema: pa.Schema, facts: dict[str, Any], report: Report) -> pa.Table | None:
    """The rows of a file; None, and the report says why, where they are not worth a look."""
    try:
        table = read_table(dataset, file)
    except Damaged as error:
        report.problems.append(str(error))
        return None
    stamp = json.loads((table.schema.metadata or {}).get(b"facebatch", b"{}"))
    for word in _STAMPED:
        if stamp.get(word) != facts[word]:
            report.problems.append(f"{file.path} carries {word} {stamp.get(word)}, the dataset {facts[word]}")
    if not table.schema.equals(schema):
        report.problems.append(f"{file.path} has another schema than this facebatch writes")
        return None
    return table


class Damaged(FacebatchError):
    """A file of the dataset is not the one that its record names."""


def read_table(dataset: Dataset, file: File) -> pa.Table:
    """The rows of a file, if its bytes are those that were committed. Raises Damaged, in a sentence for the report."""
    try:
        data, _ = dataset.storage.read(dataset.path(file.path))
        if (digest := hashlib.sha256(data).hexdigest()) != file.sha256:
            raise Damaged(
                f"{file.path} is damaged: it has {len(data)} bytes with sha256 {digest}, its record says {file.bytes} "
                f"with {file.sha256}"
            )
        table = pq.ParquetFile(io.BytesIO(data)).read()
        table.validate(full=True)
    except NotFound:
        raise Damaged(f"{file.path} is missing") from None
    except (StorageError, pa.ArrowException, OSError, ValueError) as error:  # pyarrow at torn pages
        raise Damaged(f"{file.path} cannot be read: {error}") from error
    if (len(data), table.num_rows) != (file.bytes, file.rows):
        raise Damaged(
            f"{file.path} has {len(data)} bytes and {table.num_rows} rows, its record says {file.bytes} and {file.rows}"
        )
    return table


def _shard_problems(shards: list[Shard], state: State, rows: Counter[str], unread: set[str]) -> list[str]:
    """rows: of each shard, counted in the tables. unread: shards whose tables could not all be read."""
    claimed: dict[str, list[tuple[int, int]]] = {}
    for record in state.records:
        for name, ranges in record.ranges.items():
            claimed.setdefault(name, []).extend(ranges)
    problems = []
    for shard in shards:
        name, count = shard.shard_id, state.count(shard)
        found = merged(claimed.pop(name, []))
        if count is None:
            problems.append(f"shard {name} has not been read to its end; run `facebatch index` again")
        elif name not in unread and rows[name] != count:
            problems.append(f"shard {name} has {rows[name]} rows of {count}; run `facebatch index` again")
        elif name not in unread and found != _indices(shard, state):
            problems.append(f"shard {name} has rows of other indices than its own: {found[:3]}")
    known = {shard.shard_id for shard in shards}
    problems += [f"there are rows of shard {name}, which no plan names" for name in sorted({*rows, *claimed} - known)]
    return few(problems, "problems of shards")


def _indices(shard: Shard, state: State) -> Ranges:
    """The indices that the shard's rows must have: all but what is gone for good."""
    items, gone = state.ends.get(shard.shard_id, (shard.count or 0, []))
    return gaps(gone, items if shard.count is None else shard.count)


def _strangers(dataset: Dataset, state: State) -> list[str]:
    named = {dataset.path(f.path) for r in state.records for f in (r.images, r.faces)}
    named |= {ledger.record_path(dataset, r.name) for r in state.records}
    folders = (dataset.path("images"), dataset.path("faces"), dataset.internal("records"))
    found = {f.uri for folder in folders for f in dataset.storage.objects(folder + "/")}
    strangers = [f"{uri} belongs to no record (a run at work, or one that was killed)" for uri in sorted(found - named)]
    return few(strangers, "files of no record")


def few(problems: list[str], what: str) -> list[str]:
    """The first of them, and how many more there are."""
    rest = len(problems) - _SHOWN
    return problems if rest <= 0 else [*problems[:_SHOWN], f"... and {rest} more {what}"]


class _Ids:
    """Ids as eight bytes of their hash, to find repeats among many millions in little memory."""

    def __init__(self) -> None:
        self._seen = array("Q")

    def add(self, ids: Iterable[str]) -> None:
        for name in ids:
            self._seen.frombytes(hashlib.blake2b(name.encode(), digest_size=8).digest())

    def repeated(self) -> int:
        """How many rows have the id of another one before them. Sorts what is kept, so nothing is added after it."""
        every = np.frombuffer(self._seen, np.uint64) if self._seen else np.empty(0, np.uint64)
        every.sort()
        return int((every[1:] == every[:-1]).sum())
