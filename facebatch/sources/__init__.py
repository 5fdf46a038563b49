"""Inputs: what the user names (`photos/`, `'shards/*.tar'`, `list.csv`, `s3://bucket/prefix`) as a stream of sources.

    inputs -> base, manifest, tables      what an input names: files, containers, the entries of a table
    files, tar, rows, broken              from a planned source to its items

A source is planned, an item is read. Both are defined here, the rest of the package is how.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter

from facebatch.reasons import Reason
from facebatch.storage import Object

Extra = tuple[tuple[str, str], ...]
"""Columns carried along from a table, as pairs of name and text."""


class Kind(StrEnum):
    """What a shard is made of."""

    FILES = "files"
    TAR = "tar"
    ROWS = "rows"
    """A row group of a Parquet file whose rows hold images."""
    BROKEN = "broken"
    """What was named and cannot be opened, as its listing showed already: a row that tells why."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a Parquet file hold what. Paths with dots lead into structs."""

    image: str
    key: str | None = None
    """Its values name the rows; their numbers do where there is none."""
    carried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One object of the archive, or a part of it, and how it is to be read."""

    kind: Kind
    object: Object
    part: int | None = None
    """The row group, or the line of a manifest that makes no sense."""
    rows: int | None = 1
    """How many items it holds; None for a container that nobody has read to its end."""
    bytes: int = 0
    """What reading it moves; 0 where that is not known."""
    start: int = 0
    """The number in its file that the first row of a row group has."""
    columns: Columns | None = None
    extra: Extra = ()
    trouble: str | None = None
    """Why it is BROKEN."""

    @property
    def key(self) -> str:
        """What it is known by, in all plans of a dataset."""
        return self.object.uri if self.part is None else f"{self.object.uri}\0{self.kind}\0{self.part}"


@dataclass(frozen=True, slots=True)
class Item:
    """One input image as read: its identity, its bytes, or why there are none.

    `index` is its position in the shard, the same in every run. `member` is '' unless the container holds many.
    """

    index: int
    uri: str
    member: str
    size: int
    etag: str | None = None
    mtime_ns: int | None = None
    data: bytes | None = None
    reason: Reason | None = None
    detail: str | None = None
    extra: Extra = ()


Ranges = list[tuple[int, int]]
"""Half-open index ranges, sorted and disjoint."""


def inside(index: int, ranges: Ranges) -> bool:
    """Whether an index lies in one of the ranges, which are sorted and disjoint."""
    at = bisect_right(ranges, index, key=itemgetter(0)) - 1
    return at >= 0 and index < ranges[at][1]


def gaps(ranges: Ranges, end: int = 0) -> Ranges:
    """The holes between ranges, from 0 to the last of them, or to `end` where that is later."""
    holes, reached = [], 0
    for low, high in sorted(ranges):
        if low > reached:
            holes.append((reached, low))
        reached = max(reached, high)
    return [*holes, (reached, end)] if end > reached else holes
