"""The plan: which sources there are and how they are grouped into shards, frozen before anything is computed.

`_facebatch/plan/00000.parquet` is written once, if absent, and never changes; a later run adds files with the sources
that no earlier one names. So every shard, and every index in it, means the same in every run. A listing streams through
here: what is held of it is a plan file's encoded rows and 24 bytes for each source (`facebatch.seen`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facebatch import config
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.failpoints import failpoint
from facebatch.ids import shard_id
from facebatch.schema import PLAN
from facebatch.seen import Seen
from facebatch.sources import Columns, Kind, Source
from facebatch.storage import Object

_ROW_GROUP = 8192
"""Rows of a plan file read at once: enough for a shard, few enough to read a shard of a million-object plan in 5 ms."""
PLAN_ROWS = 1 << 20
"""Sources in one plan file, about: some 50 MB, encoded in memory and written by a single conditional create."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Shard:
    """A unit of planning. Its sources are `rows` rows of plan file `plan`, from row `first` on.

    count: how many images it holds; None for a container that nobody has read to its end yet.
    """

    shard_id: str
    kind: Kind
    plan: int
    first: int
    rows: int
    bytes: int
    count: int | None


@dataclass(slots=True)
class Listing:
    """What listing the inputs gave, compared with the plans there are. Filled while the sources stream through."""

    fresh: int = 0
    changed: int = 0
    """Objects that were planned as another version. They stay as indexed; the user is told."""
    examples: list[str] = field(default_factory=list)

    def note(self, uri: str) -> None:
        """One more object that changed; the parts of a file come one behind the other and count once."""
        if uri != self._last:
            self.changed += 1
            self.examples += [uri] if self.changed <= _SHOWN else []
        self._last = uri

    _last: str = ""


def compare(sources: Iterable[Source], seen: Seen, listing: Listing) -> Iterator[Source]:
    """The sources that are new. What overlapping inputs name twice counts once.

    A part of a file is new only if the file has the version under which its other parts were planned: row numbers of
    two versions would collide.
    """
    stream = iter(sources)
    while batch := list(islice(stream, 4096)):
        fresh: dict[str, Source] = {}
        versions = [_version(source) for source in batch]
        known = seen.find([_keys(source)[0] for source in batch], versions)
        known_files = seen.find([_keys(source)[-1] for source in batch], versions)
        new: dict[str, str] = {}
        for source, version, here, file in zip(batch, versions, known, known_files, strict=True):
            if file is False and not (source.kind is Kind.BROKEN and source.part is not None):
                listing.note(source.object.uri)
            elif here is None:
                fresh.setdefault(source.key, source)
                new |= dict.fromkeys(_keys(source) if file is None else [source.key], version)
        listing.fresh += len(fresh)
        yield from fresh.values()
        seen.add(list(new), list(new.values()))


def freeze(
    dataset: Dataset,
    number: int,
    sources: Iterable[Source],
    limits: config.Shards,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Write plan files from `number` on with the sources grouped into shards. Returns how many.

    check: called before each write, raises where the run has lost its right. A run that is killed between two files
    leaves the first: the next run finds the rest as new. Raises FacebatchError if another run was first.
    """
    written = 0
    shards = grouped(sources, limits)
    while first := next(shards, None):
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, PLAN, compression="zstd") as writer:
            rows: list[tuple[Any, ...]] = []
            total = 0
            shard: list[Source] | None = first
            while shard is not None:
                name = shard_id(shard[0].kind, ((s.key, s.object.size, s.object.version) for s in shard))
                rows += [_row(name, source) for source in shard]
                total += len(shard)
                while len(rows) >= _ROW_GROUP:
                    writer.write_table(_table(rows[:_ROW_GROUP]), row_group_size=_ROW_GROUP)
                    del rows[:_ROW_GROUP]
                shard = next(shards, None) if total < PLAN_ROWS else None
            if rows:
                writer.write_table(_table(rows), row_group_size=_ROW_GROUP)
        check()
        if not dataset.storage.create(_path(dataset, number + written), sink.getvalue()):
            raise FacebatchError(
                f"{_path(dataset, number + written)} was written by another run; run the same command again"
            )
        failpoint("planned")
        written += 1
    return written


def grouped(sources: Iterable[Source], limits: config.Shards) -> Iterator[list[Source]]:
    """Shards: a container alone, loose files in the order of the listing up to so many files or bytes."""
    groups: dict[Kind, list[Source]] = {Kind.FILES: [], Kind.BROKEN: []}
    sizes = dict.fromkeys(groups, 0)
    for source in sources:
        kind = source.kind
        if kind not in groups:
            yield [source]
            continue
        if groups[kind] and (len(groups[kind]) >= limits.files or sizes[kind] + source.bytes > limits.bytes):
            yield groups[kind]
            groups[kind], sizes[kind] = [], 0
        groups[kind].append(source)
        sizes[kind] += source.bytes
    yield from (group for group in groups.values() if group)


def shards(dataset: Dataset, plans: int | None = None) -> list[Shard]:
    """All shards of the first so many plans (of all by default)."""
    found: list[Shard] = []
    for number in range(count(dataset) if plans is None else plans):
        with dataset.storage.open(_path(dataset, number)) as stream:
            found += _shards(pq.ParquetFile(stream), number)
    return found


def planned(dataset: Dataset, plans: int) -> Seen:
    """Every source of the first so many plans, with the version it was planned as."""
    seen = Seen()
    for number in range(plans):
        with dataset.storage.open(_path(dataset, number)) as stream:
            file = pq.ParquetFile(stream)
            wanted = ["kind", "uri", "size", "etag", "mtime_ns", "part"]
            for batch in file.iter_batches(batch_size=65_536, columns=wanted):
                versions: dict[str, str] = {}
                for row in batch.to_pylist():
                    found = Object(row["uri"], row["size"], row["etag"], row["mtime_ns"])
                    source = Source(Kind(row["kind"]), found, row["part"])
                    versions |= dict.fromkeys(_keys(source), _version(source))
                known = seen.find(list(versions), list(versions.values()))
                new = [key for key, here in zip(versions, known, strict=True) if here is None]
                seen.add(new, [versions[key] for key in new])
    return seen


def count(dataset: Dataset) -> int:
    """How many plan files there are; they are numbered without a gap."""
    return sum(1 for found in dataset.storage.objects(dataset.internal("plan/")) if found.uri.endswith(".parquet"))


def sources(dataset: Dataset, shard: Shard) -> list[Source]:
    """The planned sources of one shard, read from the row groups that hold them."""
    with dataset.storage.open(_path(dataset, shard.plan)) as stream:
        file = pq.ParquetFile(stream)
        first, last = shard.first // _ROW_GROUP, (shard.first + shard.rows - 1) // _ROW_GROUP
        table = file.read_row_groups(list(range(first, last + 1)))
    return [_source(row) for row in table.slice(shard.first - first * _ROW_GROUP, shard.rows).to_pylist()]


def _row(name: str, source: Source) -> tuple[Any, ...]:
    found = source.object
    columns = asdict(source.columns) if source.columns else None
    facts = (found.uri, found.size, found.etag, found.mtime_ns, found.raw)
    read = (source.part, source.rows, source.start, source.bytes, columns, source.extra or None, source.trouble)
    return name, source.kind.value, *facts, *read


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), PLAN, strict=True)], schema=PLAN
    )


def _source(row: dict[str, Any]) -> Source:
    columns = row["columns"]
    return Source(
        Kind(row["kind"]),
        Object(row["uri"], row["size"], row["etag"], row["mtime_ns"], row["raw"]),
        row["part"],
        row["rows"],
        row["bytes"],
        row["start"] or 0,
        columns and Columns(columns["image"], columns["key"], tuple(columns["carried"] or ())),
        tuple(row["extra"] or ()),
        row["trouble"],
    )


def _shards(file: pq.ParquetFile, number: int) -> Iterator[Shard]:
    """Runs of rows with one shard_id; a run may go on in the next batch."""
    name, kind, first, rows, size, images, row = "", Kind.FILES, 0, 0, 0, 0, 0
    open_end = False
    for batch in file.iter_batches(batch_size=65_536, columns=["shard_id", "kind", "bytes", "rows"]):
        for this, of, moved, held in zip(*(batch.column(k).to_pylist() for k in range(4)), strict=True):
            if this != name:
                if rows:
                    yield Shard(name, kind, number, first, rows, size, None if open_end else images)
                name, kind, first, rows, size, images, open_end = this, Kind(of), row, 0, 0, 0, False
            row += 1
            rows += 1
            size += moved
            images += held or 0
            open_end |= held is None
    if rows:
        yield Shard(name, kind, number, first, rows, size, None if open_end else images)


def _keys(source: Source) -> list[str]:
    """What a source is known by, and then, for a part of a file, the file. A broken line is known by its number alone:
    a manifest may grow, and what it names are files of their own."""
    return [source.key, source.object.uri] if source.kind is Kind.ROWS else [source.key]


def _version(source: Source) -> str:
    return f"{source.object.size}-{source.object.version}"


def _path(dataset: Dataset, number: int) -> str:
    return dataset.internal("plan", f"{number:05d}.parquet")
