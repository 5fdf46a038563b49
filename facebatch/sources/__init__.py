"""Inputs: what the user names (`photos/`, `'shards/*.tar'`, `s3://bucket/prefix`) becomes a stream of sources.

A source is a loose file or a container. Which of the two is decided here by name, because a listing shows only names;
what a *file* holds is decided later, by its first bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from fsspec.utils import glob_translate

from facebatch.errors import UsageError
from facebatch.reasons import Reason
from facebatch.storage import Object, Storage, absolute


class Kind(StrEnum):
    """What a shard is made of."""

    FILES = "files"
    TAR = "tar"


@dataclass(frozen=True, slots=True)
class Source:
    """One object of the archive and how it is to be read."""

    kind: Kind
    object: Object


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


Ranges = list[tuple[int, int]]
"""Half-open index ranges, sorted and disjoint."""


def inside(index: int, ranges: Ranges) -> bool:
    """Whether an index lies in one of the ranges."""
    return any(low <= index < high for low, high in ranges)


_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def check(storage: Storage, inputs: Iterable[str]) -> None:
    """Raises UsageError for an input that names nothing at all. Looks at the first object of each."""
    for given in inputs:
        if next(_objects(storage, absolute(given)), None) is None:
            raise UsageError(f"the input {given} names nothing: no such file, folder with files, or match of a pattern")


def expand(storage: Storage, inputs: Iterable[str], output: str) -> Iterator[Source]:
    """Every object that the inputs name, except what lies in the output folder. Streams; may repeat what overlaps."""
    inside_output = absolute(output).rstrip("/") + "/"
    for given in inputs:
        for found in _objects(storage, absolute(given)):
            if not found.uri.startswith(inside_output):
                kind = Kind.TAR if found.uri.lower().endswith(_TAR_SUFFIXES) else Kind.FILES
                yield Source(kind, found)


def _objects(storage: Storage, uri: str) -> Iterator[Object]:
    single = storage.stat(uri.rstrip("/"))
    if single is not None:
        yield single
        return
    found_any = False
    for found in storage.objects(uri.rstrip("/") + "/" if "://" in uri else uri):
        found_any = True
        yield found
    if found_any or not _PATTERN.search(uri):
        return
    literal = uri[: _PATTERN.search(uri).start()]  # type: ignore[union-attr]
    matches = re.compile(glob_translate(uri)).match
    for found in storage.objects(literal.rpartition("/")[0] + "/"):
        if matches(found.uri):
            yield found


_PATTERN = re.compile(r"[*?\[]")
