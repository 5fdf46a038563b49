"""What an input names: a folder or prefix, a file, a pattern, a tar, a table; and which of it is picked.

Whether something is a loose file or a container is decided by its name, because a listing shows only names; what a
*file* holds is decided later, by its first bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from fsspec.utils import glob_translate

from facebatch.config import Config, Rows
from facebatch.errors import FacebatchError, UsageError
from facebatch.ids import printable
from facebatch.sources import Kind, Source
from facebatch.sources.base import Base, is_absolute
from facebatch.sources.manifest import MANIFESTS, entries, file_name, parquet_entries
from facebatch.sources.rows import row_groups
from facebatch.sources.tables import NoColumn, look, opened
from facebatch.storage import UNKNOWN, UNSIZED, Object, Storage, StorageError, absolute

Listing = Callable[[Storage, str], Iterator[Object]]
"""Lists what lies below a folder or prefix."""
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_PARQUETS = (".parquet", ".pq")
_TABLES = (*_PARQUETS, *MANIFESTS)
"""Opened where they are named themselves, or by a pattern that ends like this. Below a prefix they are files like any
other, because tables of metadata often lie beside the photos."""


def check(storage: Storage, config: Config) -> None:
    """Raises UsageError for an input that names nothing at all, for a table without a column of images or URIs, and
    for what cannot have an identity below the base. Looks at the first object of each input."""
    base = Base.at(config.base_uri)
    for given in config.inputs:
        first = next(_objects(storage, absolute(given)), None)
        if first is None:
            raise UsageError(f"the input {given} names nothing: no such file, folder with files, or match of a pattern")
        if _is_table(given) and _is_table(first.uri):
            next(_of_table(storage, first, base, config.rows, strict=True), None)
        elif base.uri and not _is_table(given) and not base.holds(absolute(given).rstrip("/") + "/"):
            raise UsageError(f"the input {given} does not lie below the base URI {base.uri}; name another --base-uri")


def expand(storage: Storage, config: Config, below: Listing = Storage.objects) -> Iterator[Source]:
    """Every source that the inputs name and the patterns pick, except what lies in the output folder. Streams; may
    repeat what overlaps. URIs are identities: relative to the base, if there is one.

    below: lists what lies below a folder or prefix.
    """
    base = Base.at(config.base_uri)
    picked = Picks.of(config)
    for given in config.inputs:
        for found in _objects(storage, absolute(given), below):
            table = _is_table(given) and _is_table(found.uri)  # Spark's `rows.parquet` is a folder, with markers in it
            named = _of_table(storage, found, base, config.rows) if table else [_by_name(found)]
            for source in named:
                if picked(source):
                    yield replace(source, object=base.identified(source.object))


def _of_table(storage: Storage, found: Object, base: Base, wanted: Rows, strict: bool = False) -> Iterator[Source]:
    """What a table holds or names. One that cannot be used is a broken source, unless `strict`: then it is an error."""
    try:
        if file_name(found.uri).endswith(_PARQUETS):
            with opened(storage, found) as file:
                columns = look(file.schema_arrow, wanted, found.uri)
                if columns.holds_images:
                    yield from row_groups(file, found, columns.columns)
                    return
                named = parquet_entries(file, found, base, columns.columns)
                yield from (_asked_for(storage, source) for source in named)
        else:
            yield from (_asked_for(storage, source) for source in entries(storage, found, base, wanted))
    except (StorageError, MemoryError):
        raise
    except Exception as error:
        if strict:
            raise UsageError(str(error) if isinstance(error, NoColumn) else f"{found.uri}: {error}") from error
        yield Source(Kind.BROKEN, found, trouble=printable(str(error) or type(error).__name__)[:300])


def _by_name(found: Object) -> Source:
    """An object of a listing as a source."""
    size = max(found.size, 0)
    if file_name(found.uri).endswith(_TARS):
        return Source(Kind.TAR, found, rows=None, bytes=size)
    return Source(Kind.FILES, found, bytes=size)


def _asked_for(storage: Storage, source: Source) -> Source:
    """A tar that a manifest names is planned with its size and version, which are asked for where the manifest does not
    tell them: what it holds must not change between two attempts at it."""
    found = source.object
    if source.kind is not Kind.FILES or not file_name(found.uri).endswith(_TARS):
        return source
    if found.version == UNKNOWN or found.size == UNSIZED:
        with suppress(FacebatchError):  # the run that reads it says why it cannot, in its row
            found = storage.stat(found.uri, found.raw) or found
    return replace(_by_name(found), extra=source.extra)


@dataclass(frozen=True)
class Picks:
    """The patterns of `include` and `exclude`, and the output folder, which is never an input.

    A pattern is matched against the end of a URI, at a slash: `*.jpg`, `thumbs/**`, `2020/*/raw/*`. Members of
    containers are never picked among: what a shard holds must not depend on a setting.
    """

    include: tuple[re.Pattern[str], ...]
    exclude: tuple[re.Pattern[str], ...]
    output: str

    @classmethod
    def of(cls, config: Config) -> Picks:
        """The compiled patterns of a configuration."""
        output = absolute(config.output).rstrip("/") + "/" if config.output else "\0"
        return cls(_compiled(config.include), _compiled(config.exclude), output)

    def __call__(self, source: Source) -> bool:
        uri = source.object.uri
        if uri.startswith(self.output) or any(pattern.match(uri) for pattern in self.exclude):
            return False
        return not self.include or source.kind is not Kind.FILES or any(p.match(uri) for p in self.include)


def _compiled(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(
        re.compile(glob_translate(absolute(pattern)) if is_absolute(pattern) else "(?s:.*/)?" + glob_translate(pattern))
        for pattern in patterns
    )


def _is_table(given: str) -> bool:
    return file_name(given.rstrip("/")).endswith(_TABLES)


def _objects(storage: Storage, uri: str, below: Listing = Storage.objects) -> Iterator[Object]:
    single = None if uri.endswith("/") else storage.stat(uri)  # `photos/` beside an object `photos` is the prefix
    if single is not None:
        yield single
        return
    found_any = False
    for found in below(storage, uri.rstrip("/") + "/" if "://" in uri else uri):
        found_any = True
        yield found
    if found_any or not _PATTERN.search(uri):
        return
    literal = uri[: _PATTERN.search(uri).start()]  # type: ignore[union-attr]
    matches = re.compile(glob_translate(uri)).match
    for found in below(storage, literal.rpartition("/")[0] + "/"):
        if matches(found.uri):
            yield found


_PATTERN = re.compile(r"[*?\[]")
