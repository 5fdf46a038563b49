"""The plan: which objects there are and how they are grouped into shards, frozen before anything is computed.

`_facebatch/plan/00000.parquet` is written once, if absent, and never changes; a later run adds a file with the objects
that no earlier one names. So every shard, and every index in it, means the same in every run.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facebatch import config
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.ids import shard_id
from facebatch.schema import PLAN
from facebatch.sources import Kind, Source
from facebatch.storage import UNKNOWN, Object

_ROW_GROUP = 8192
"""Rows of a plan file read at once: enough for a shard, few enough to read a shard of a million-object plan in 5 ms."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A unit of planning. Its objects are `rows` rows of plan file `plan`, from row `first` on.

    count: how many images it holds; None for a container that nobody has read to its end yet.
    """

    shard_id: str
    kind: Kind
    plan: int
    first: int
    rows: int
    bytes: int
    count: int | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What listing the inputs gave, compared with the plans there are."""

    fresh: list[Source]
    changed: list[str]
    """Objects that were planned as another version. They stay as indexed; the user is told."""


def compare(sources: Iterable[Source], planned: dict[str, str]) -> Listing:
    """Which sources are new. planned: version by URI. What overlapping inputs name twice counts once."""
    fresh: dict[str, Source] = {}
    changed = []
    for source in sources:
        uri = source.object.uri
        if uri not in planned:
            fresh.setdefault(uri, source)
        elif planned[uri] != _version(source.object) and not planned[uri].endswith(UNKNOWN):
            changed.append(uri)
    return Listing(list(fresh.values()), changed)


def freeze(dataset: Dataset, number: int, sources: list[Source], limits: config.Shards) -> None:
    """Write plan file `number` with the sources grouped into shards. Raises FacebatchError if another run was first."""
    rows = [
        (name, shard[0].kind.value, s.object.uri, s.object.size, s.object.etag, s.object.mtime_ns, s.object.raw)
        for shard in grouped(sources, limits)
        for name in [shard_id(shard[0].kind, ((s.object.uri, s.object.size, s.object.version) for s in shard))]
        for s in shard
    ]
    table = pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), PLAN, strict=True)], schema=PLAN
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP)
    if not dataset.storage.create(_path(dataset, number), sink.getvalue()):
        raise FacebatchError(f"{_path(dataset, number)} was written by another run; run the same command again")


def grouped(sources: Iterable[Source], limits: config.Shards) -> Iterator[list[Source]]:
    """Shards: a tar alone, loose files in the order of the listing up to so many files or bytes."""
    files: list[Source] = []
    size = 0
    for source in sources:
        if source.kind is not Kind.FILES:
            yield [source]
            continue
        if files and (len(files) >= limits.files or size + source.object.size > limits.bytes):
            yield files
            files, size = [], 0
        files.append(source)
        size += source.object.size
    if files:
        yield files


def load(dataset: Dataset, plans: int | None = None) -> tuple[list[Shard], dict[str, str]]:
    """All shards of the first so many plans (of all by default), and the planned version of every object by URI."""
    shards: list[Shard] = []
    versions: dict[str, str] = {}
    for number in range(count(dataset) if plans is None else plans):
        with dataset.storage.open(_path(dataset, number)) as stream:
            table = pq.ParquetFile(stream).read()
        for uri, size, etag, mtime in zip(
            *(table[c].to_pylist() for c in ("uri", "size", "etag", "mtime_ns")), strict=True
        ):
            versions[uri] = _version(Object(uri, size, etag, mtime))
        shards += _shards(table, number)
    return shards, versions


def count(dataset: Dataset) -> int:
    """How many plan files there are; they are numbered without a gap."""
    return sum(1 for found in dataset.storage.objects(dataset.internal("plan/")) if found.uri.endswith(".parquet"))


def objects(dataset: Dataset, shard: Shard) -> list[Object]:
    """The planned objects of one shard, read from the row groups that hold them."""
    with dataset.storage.open(_path(dataset, shard.plan)) as stream:
        file = pq.ParquetFile(stream)
        first, last = shard.first // _ROW_GROUP, (shard.first + shard.rows - 1) // _ROW_GROUP
        table = file.read_row_groups(list(range(first, last + 1)))
    rows = table.slice(shard.first - first * _ROW_GROUP, shard.rows).to_pylist()
    return [Object(r["uri"], r["size"], r["etag"], r["mtime_ns"], r["raw"]) for r in rows]


def _shards(table: pa.Table, number: int) -> Iterator[Shard]:
    ends = pc.run_end_encode(table["shard_id"].combine_chunks())
    sizes = table["size"].to_numpy()
    first = 0
    for name, end in zip(ends.values.to_pylist(), ends.run_ends.to_pylist(), strict=True):
        kind = Kind(table["kind"][first].as_py())
        rows = end - first
        yield Shard(name, kind, number, first, rows, int(sizes[first:end].sum()), rows if kind is Kind.FILES else None)
        first = end


def _version(found: Object) -> str:
    return f"{found.size}-{found.version}"


def _path(dataset: Dataset, number: int) -> str:
    return dataset.internal("plan", f"{number:05d}.parquet")
