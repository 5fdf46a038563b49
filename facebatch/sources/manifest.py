"""Tables that name files: a CSV, JSON lines, plain lines, or a Parquet file with a column of URIs.

A manifest is a listing that somebody made before. Its entries are files like those of a prefix, each known by its own
URI; relative ones begin at the base URI, else at the manifest's folder. What it says besides is carried into `extra`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import posixpath
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, BinaryIO, TextIO, cast

import pyarrow.parquet as pq

from facebatch.config import Rows
from facebatch.errors import FacebatchError, UsageError
from facebatch.ids import printable
from facebatch.sources import Columns, Extra, Kind, Source
from facebatch.sources.base import Base, is_absolute
from facebatch.sources.tables import URIS, NoColumn, cells, pairs, texts, told
from facebatch.storage import UNSIZED, Object, Storage, absolute, join, refuse_unknown, scheme

_PLAIN = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt")
MANIFESTS = (*_PLAIN, *(f"{suffix}.gz" for suffix in _PLAIN))
"""How manifests that are no Parquet files are called."""
_LONGEST = 1 << 20
"""Characters of a line. Few bytes of a packed manifest could else ask for gigabytes."""
_LONGEST_URI = 1 << 14
_TOO_LONG = f"is longer than {_LONGEST} characters"


class Unreadable(FacebatchError):
    """A manifest that is damaged as a whole."""


def entries(storage: Storage, found: Object, base: Base, wanted: Rows) -> Iterator[Source]:
    """What a CSV, JSONL or text manifest names. Raises NoColumn where it has no column of URIs,
    Unreadable, StorageError."""
    name = file_name(found.uri).removesuffix(".gz")
    folder = _folder(found, base)
    with _lines(storage, found) as lines:
        if name.endswith(".txt"):
            rows = _of_text(lines)
        elif name.endswith((".jsonl", ".ndjson")):
            rows = _of_json(lines, found.uri, wanted)
        else:
            rows = _of_csv(lines, found.uri, wanted, "\t" if name.endswith(".tsv") else ",")
        try:
            for number, uri, extra, trouble in rows:
                yield _source(found, folder, number, uri and uri.strip(), extra, trouble)
        except (EOFError, zlib.error, OSError) as error:
            raise Unreadable(f"it cannot be read as a manifest: {error or 'it ends early'}") from error


def parquet_entries(file: pq.ParquetFile, found: Object, base: Base, columns: Columns) -> Iterator[Source]:
    """What a Parquet manifest names. Sizes and versions that it tells are checked when the objects are read."""
    folder = _folder(found, base)
    facts = told(file.schema_arrow)
    number = 0
    for batch in file.iter_batches(
        batch_size=8192, columns=[columns.image, *facts, *columns.carried], use_threads=False
    ):
        uris = texts(batch, columns.image)
        known = {name: cells(batch, name) for name in facts}
        carried = [texts(batch, name) for name in columns.carried]
        for k, uri in enumerate(uris):
            extra = pairs(columns.carried, [values[k] for values in carried])
            source = _source(found, folder, number, uri, extra, None)
            number += 1
            if source.kind is Kind.FILES and known:
                facts_of = {name: values[k] for name, values in known.items()}
                size = facts_of.pop("size_bytes", None)
                size = UNSIZED if size is None or size < 0 else size
                told_object = Object(source.object.uri, size, **facts_of)
                source = replace(source, object=told_object, bytes=max(size, 0))
            yield source


Row = tuple[int, str | None, Extra, str | None]
"""Number of the line, URI, carried columns, and what is wrong with it."""


def file_name(uri: str) -> str:
    """The last segment of a URI in lower case, by which it is known what it is; without a query behind it."""
    if scheme(uri) in ("http", "https"):
        uri = uri.partition("#")[0].partition("?")[0]
    return uri.rpartition("/")[2].lower()


def _folder(found: Object, base: Base) -> str:
    """Where relative entries begin."""
    path = found.uri[: len(found.uri.partition("?")[0])] if scheme(found.uri) in ("http", "https") else found.uri
    return base.uri or path.rpartition("/")[0]


def _of_text(lines: TextIO) -> Iterator[Row]:
    for number, line in _bounded(lines):
        if line is None:
            yield number, None, (), _TOO_LONG
        elif entry := line.rstrip("\r\n"):
            yield number, entry, (), None


def _bounded(lines: TextIO) -> Iterator[tuple[int, str | None]]:
    """Lines by their numbers; None for one that is too long, of which no more than a megabyte is ever held."""
    number, whole = 1, True
    while line := lines.readline(_LONGEST):
        ends = line.endswith(("\n", "\r")) or len(line) < _LONGEST
        if whole:
            yield number, line if ends else None
        number, whole = number + ends, ends


def _of_csv(lines: TextIO, name: str, wanted: Rows, comma: str) -> Iterator[Row]:
    records = _records(lines, comma)
    header = next((row for _, row in records if isinstance(row, list) and row), [])
    at, carried = _columns(header, wanted, name)
    for number, row in records:
        if isinstance(row, str):
            yield number, None, (), row
        elif not any(field.strip() for field in row):
            continue
        elif len(row) == len(header):
            values = [row[k] or None for k in carried]
            yield number, row[at], pairs([header[k] for k in carried], values), None
        else:
            yield number, None, (), f"has {len(row)} fields where the header has {len(header)}"


def _records(lines: TextIO, comma: str) -> Iterator[tuple[int, list[str] | str]]:
    """The records of a CSV by the number of their first line, or what is wrong there.

    A quote that is never closed would swallow all lines behind it. So a record that is no record costs its first line,
    and what it has swallowed is read again.
    """
    csv.field_size_limit(_LONGEST)
    source = _bounded(lines)
    again: deque[tuple[int, str | None]] = deque()
    width = 0
    while True:
        taken: list[tuple[int, str | None]] = []

        def following(taken: list[tuple[int, str | None]] = taken) -> Iterator[str]:
            while (line := again.popleft() if again else next(source, None)) is not None:
                taken.append(line)
                if line[1] is None:
                    return
                yield line[1]

        try:
            row: list[str] | str | None = next(csv.reader(following(), delimiter=comma, strict=True), None)
        except csv.Error as error:
            row = f"is no CSV: {error}"
        if not taken:
            return
        number = taken[0][0]
        if taken[-1][1] is None:
            row = _TOO_LONG
        swallowed = len(taken) > 1 and (not isinstance(row, list) or (width and len(row) != width))
        if swallowed:
            again.extendleft(reversed(taken[1:]))
            row = "has a quote that is not closed, or holds lines that are no part of it"
        if isinstance(row, list) and row and not width:
            width = len(row)
        yield number, row if row is not None else []


def _of_json(lines: TextIO, name: str, wanted: Rows) -> Iterator[Row]:
    for number, line in _bounded(lines):
        if line is None:
            yield number, None, (), _TOO_LONG
            continue
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, None, (), f"is no JSON: {error}"
            continue
        if isinstance(row, str):
            yield number, row, (), None
            continue
        if not isinstance(row, dict):
            yield number, None, (), f"is no object, and no text, but {type(row).__name__}"
            continue
        column = wanted.column or next((c for c in URIS if isinstance(row.get(c), str)), None)
        uri = row.get(column or "")
        if not isinstance(uri, str):
            yield number, None, (), f"has no text under {column or ', '.join(URIS)} (rows.column)"
            continue
        chosen = [c for c in row if c != column] if wanted.extra is None else [c for c in wanted.extra if c in row]
        yield number, uri, pairs(chosen, [row[c] for c in chosen]), None


def _columns(header: list[str], wanted: Rows, name: str) -> tuple[int, list[int]]:
    """Where in a CSV the URI stands, and the columns that are carried."""
    column = wanted.column or next((c for c in URIS if c in header), None)
    if column not in header:
        there = ", ".join(header) or "nothing"
        raise NoColumn(
            f"{name} has no column {wanted.column or 'of URIs'} in its first line, which holds: {there[:200]}. Name "
            f"the right one with rows.column=..., or give a plain list of URIs the ending .txt"
        )
    if missing := [c for c in wanted.extra or () if c not in header]:
        raise NoColumn(f"{name} has no column {missing[0]!r} (rows.extra); it has {', '.join(header)}")
    at = header.index(column)
    return at, [k for k, c in enumerate(header) if k != at and (wanted.extra is None or c in wanted.extra)]


def _source(found: Object, folder: str, number: int, uri: str | None, extra: Extra, trouble: str | None) -> Source:
    """The file that an entry names; an entry that names none is a broken source, which gets its row, too."""
    if trouble is None and not (uri or "").strip():
        trouble = "names nothing: its URI is empty"
    if trouble is None and uri is not None:
        try:
            return Source(Kind.FILES, _object(uri, folder), extra=extra)
        except (UsageError, ValueError) as error:
            trouble = f"names what cannot be a URI: {error}"
    return Source(Kind.BROKEN, found, number, extra=extra, trouble=printable(f"line {number} {trouble}")[:300])


def _object(uri: str, folder: str) -> Object:
    """The object of an entry, under the one URI that it has however it was written (`./a.jpg`, `b/../a.jpg`)."""
    if "\0" in uri or len(uri) > _LONGEST_URI:
        raise ValueError("there is a NUL in it" if "\0" in uri else f"it has {len(uri)} characters")
    uri.encode("utf-8", "surrogateescape")  # half a surrogate pair is a ValueError
    if not is_absolute(uri):
        remote, path = scheme(folder), posixpath.normpath(uri)
        uri = join(folder, path) if remote and not path.startswith("..") else join(folder, uri)
    path = absolute(uri)
    refuse_unknown(path)
    shown = printable(path)
    raw = None if shown == path or scheme(path) else os.fsencode(path)
    return Object(shown, UNSIZED, raw=raw)


@contextmanager
def _lines(storage: Storage, found: Object) -> Iterator[TextIO]:
    """Its lines as text. Bytes that are no UTF-8 are kept: they may be those of a path."""
    with storage.open(found.uri, found.raw) as stream:
        inner = cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if file_name(found.uri).endswith(".gz") else stream
        yield io.TextIOWrapper(inner, encoding="utf-8-sig", errors="surrogateescape", newline="")
