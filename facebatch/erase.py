"""Erasing: a person asks that the faces of a photo leave the index, and no later run may bring them back.

Every record that holds such an image is replaced (`facebatch.rewrite`) by one whose faces lack those of the image, and
whose row of it says ERASED and nothing else: its name and place stay, or the sums would not add up and the next run
would index it again. The old objects are deleted before the command ends.

What has no faces yet is refused, because a later run would compute it: rows that are to be tried again, and containers
that are not indexed to their end.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facebatch import ledger, plan
from facebatch.dataset import Dataset
from facebatch.epochs import Guard
from facebatch.errors import FacebatchError, UsageError
from facebatch.ledger import ABSENT, File, Record, State
from facebatch.plugins import is_absent
from facebatch.reasons import Reason, Status
from facebatch.rewrite import carried, rewrite
from facebatch.sources import Kind
from facebatch.storage import StorageError

_KEPT = ("image_id", "uri", "member", "shard_id", "index", "size_bytes")
"""Of an erased image: its name and its place. An etag may be the photo's own digest."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How many images and faces were erased, and how many images had been before."""

    images: int
    faces: int
    before: int


def erase(dataset: Dataset, guard: Guard, state: State, names: Collection[str]) -> Erased:
    """Erase the images of these names: values of the column `image_id`, or of `uri`, which in a tar or table are many.

    One record is in memory at a time. Raises UsageError, before anything is changed, where a name stands in no row, or
    has faces that are not computed yet; Superseded when another run has taken over; FacebatchError where a file is not
    the one that its record names: the records before that one are replaced then, the others stay.
    """
    wanted = pa.array(sorted(set(names)), pa.string())
    hit, before = _found(dataset, state, wanted)
    images = faces = 0
    try:
        for record in hit:
            n_images, n_faces = _without(dataset, guard, record, wanted)
            images, faces = images + n_images, faces + n_faces
    finally:
        if hit:  # whatever was counted: of a commit the answer may be lost
            ledger.sweep(dataset, guard, ledger.state(dataset))
    return Erased(images, faces, before)


def _found(dataset: Dataset, state: State, wanted: pa.Array) -> tuple[list[Record], int]:
    """The records that hold something to erase, and how many of these images are erased already."""
    missing, hit, before = set(wanted.to_pylist()), [], 0
    unread: list[str] = []
    with ThreadPoolExecutor(16, thread_name_prefix="erase") as threads:  # small reads: the wait is the round trip
        looks = threads.map(partial(_look, dataset, wanted), state.records)
        for record, rows in zip(state.records, looks, strict=True):
            missing -= {*rows["image_id"].to_pylist(), *rows["uri"].to_pylist()}
            unread += rows["uri"].to_pylist() if record.retryable else []
            erased = rows["reason"].to_pylist().count(Reason.ERASED)
            before += erased
            if rows.num_rows > erased:
                hit.append(record)
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(wanted)} names stand in no row of {dataset.root}, e.g. {min(missing)!r}, so "
            "nothing was erased. A name is what the column image_id or uri of the images table has. What is planned "
            "and has no row yet is indexed first, then erased; what no plan names is kept out by --exclude"
        )
    if unread:
        raise UsageError(
            f"{len(unread)} of these images are to be tried again and have no faces yet, e.g. {unread[0]!r}, so "
            "nothing was erased: name them when a run of `facebatch index` has computed them"
        )
    if left := sorted(_unfinished(dataset, state) & set(wanted.to_pylist())):
        raise UsageError(
            f"{left[0]!r} is not indexed to its end, and a later run would index the rest, so nothing was erased: run "
            "`facebatch index` first, or name images in it by their image_id"
        )
    return hit, before


def _unfinished(dataset: Dataset, state: State) -> set[str]:
    """The tars and tables of which a run still has to read something."""
    todo = [s for s in plan.shards(dataset) if s.kind in (Kind.TAR, Kind.ROWS) and state.missing(s)]
    return {source.object.uri for shard in todo for source in plan.sources(dataset, shard)}


def _look(dataset: Dataset, wanted: pa.Array, record: Record) -> pa.Table:
    """The rows of a record that are wanted, as far as it takes to know them."""
    path = dataset.path(record.images.path)
    try:
        with dataset.storage.open(path) as stream:
            table = pq.ParquetFile(stream).read(columns=["image_id", "uri", "reason"])
    except (pa.ArrowException, OSError, ValueError, StorageError) as error:
        raise FacebatchError(
            f"{path} cannot be read, so nothing was erased: {error}; run `facebatch verify {dataset.root}`"
        ) from error
    return table.filter(_named(table, wanted))


def _without(dataset: Dataset, guard: Guard, old: Record, wanted: pa.Array) -> tuple[int, int]:
    """Replace a record. Returns how many images and faces were erased."""
    images, faces = _table(dataset, old.images), _table(dataset, old.faces)
    named = _named(images, wanted)
    going = images.filter(pc.and_(named, pc.invert(_is_erased(images))))
    rows = [_emptied(images.filter(named)), images.filter(pc.invert(named))]
    left = faces.filter(pc.invert(pc.is_in(faces["image_id"], going["image_id"].combine_chunks())))
    table = pa.concat_tables(rows).sort_by([("shard_id", "ascending"), ("index", "ascending")])
    rewrite(dataset, guard, old, [old.name], table, left, _counts(table))
    return going.num_rows, faces.num_rows - left.num_rows


def _table(dataset: Dataset, file: File) -> pa.Table:
    return pq.ParquetFile(io.BytesIO(carried(dataset, file))).read()


def _named(images: pa.Table, wanted: pa.Array) -> pa.ChunkedArray:
    return pc.or_(pc.is_in(images["image_id"], wanted), pc.is_in(images["uri"], wanted))


def _is_erased(images: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(images["reason"], str(Reason.ERASED)), False)


def _emptied(images: pa.Table) -> pa.Table:
    """The same rows, of which only names and places are left."""
    said = {"status": str(Status.SKIPPED), "reason": str(Reason.ERASED), "n_faces": 0}
    columns = [
        images[f.name]
        if f.name in _KEPT
        else pa.repeat(pa.scalar(said[f.name], f.type), len(images))
        if f.name in said
        else pa.nulls(len(images), f.type)
        for f in images.schema
    ]
    return pa.table(columns, schema=images.schema)


def _counts(images: pa.Table) -> dict[str, int]:
    """As a record has them (`facebatch.ledger.Record`)."""
    counts = Counter(dict.fromkeys(map(str, Status), 0))
    words: Sequence[str] = ("status", "reason", "format", "detail")
    for status, reason, format, detail in zip(*(images[word].to_pylist() for word in words), strict=True):
        counts[status] += 1
        if reason:
            counts[f"{status}/{reason}"] += 1
        if is_absent(format, detail):
            counts[f"{ABSENT}{format}"] += 1
    return dict(counts)
