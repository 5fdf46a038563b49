"""Images in a column of a Parquet file: one item for each row of a row group, in the order of the file.

A row is known by its key column's value, or by its number in the file. The footer says how many rows there are, so that
each has a row in the index whatever becomes of its bytes. A row group is read page by page: memory is bounded by its
pages, which writers make of a megabyte as a rule (pyarrow: of 1,024 rows, unless its `write_batch_size` is lowered).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facebatch.reasons import Reason
from facebatch.sources import Columns, Item, Kind, Ranges, Source, inside
from facebatch.sources.files import changed, failure
from facebatch.sources.names import Names
from facebatch.sources.tables import cells, opened, pairs, texts
from facebatch.storage import Changed, NotFound, Object, Storage, StorageError

_NUMBERED = re.compile(r"row \d+")
_DAMAGE = (pa.ArrowException, OSError, LookupError, ValueError)
"""What pyarrow raises at bad data. Errors of the storage are StorageErrors."""
_ROWS_A_BYTE, _ROWS_ANYWAY = 8, 1_000_000
"""Rows that a file may have: each would get a row of ours. Runs of nulls take next to nothing."""
_BATCH_BYTES = 8 << 20
"""Bytes of rows decoded at once, by the average that the footer gives."""


def row_groups(file: pq.ParquetFile, found: Object, columns: Columns) -> Iterator[Source]:
    """A source for each row group that has rows. Its bytes are those of all columns, since images are nearly all of
    them: of one column the footer tells more, but pyarrow ends the process where that makes no sense."""
    groups = [file.metadata.row_group(part) for part in range(file.metadata.num_row_groups)]
    counts = [group.num_rows for group in groups]
    most = found.size if found.size >= 0 else None
    if min(counts, default=0) < 0 or sum(counts) != file.metadata.num_rows:
        raise pa.ArrowInvalid(f"its footer tells of {counts[:9]} rows in its groups and of {file.metadata.num_rows}")
    if most is not None and sum(counts) > _ROWS_A_BYTE * most + _ROWS_ANYWAY:
        raise pa.ArrowInvalid(f"its footer tells of {sum(counts)} rows in {most} bytes")
    start = 0
    for part, group in enumerate(groups):
        size = max(group.total_byte_size, 0)
        size = size if most is None else min(size, most)
        if group.num_rows:
            yield Source(Kind.ROWS, found, part, group.num_rows, size, start, columns)
        start += group.num_rows


def read_rows(storage: Storage, planned: Source, done: Ranges, max_bytes: int) -> Iterator[Item]:
    """The items of one row group, without those whose index is done already.

    Where reading fails, every row that is left has its item with the reason: of the storage (to be tried again), of a
    damaged file, of one that is not the file that was planned.
    """
    found, count, index = planned.object, planned.rows or 0, 0
    try:
        now = storage.stat(found.uri, found.raw)
        if now is None:
            raise NotFound(f"{found.uri}: there is no such object")
        if change := changed(found, now):
            raise Changed(change)
        with opened(storage, found) as file:
            for size in (_batch(file, planned), 1):  # one by one where a batch fails: its first rows may be sound
                try:
                    for member, cell, carried in islice(_rows(file, planned, size), index, None):
                        if not inside(index, done):
                            yield _item(planned, index, member, cell, max_bytes, carried)
                        index += 1
                    break
                except _DAMAGE:
                    if size == 1:
                        raise
        if index != count:
            raise pa.ArrowInvalid(f"the row group {planned.part} has {index} rows where {count} were planned")
    except Exception as error:  # noqa: BLE001 - whatever a table or its storage does costs its own rows
        reason, detail = _told(error, index)
        for rest in range(index, count):
            if not inside(rest, done):
                yield _empty(planned, rest, _by_number(planned, planned.start + rest), reason, detail)


def _batch(file: pq.ParquetFile, planned: Source) -> int:
    """Rows decoded at once."""
    group = file.metadata.row_group(planned.part or 0)
    return int(max(2, min(256, _BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1))))


def _rows(file: pq.ParquetFile, planned: Source, size: int) -> Iterator[tuple[str, Any, Any]]:
    """Member, cell, and carried columns of each row."""
    columns, part, number = planned.columns, planned.part or 0, planned.start
    assert columns is not None, "a row group is planned with its columns"
    names = Names()
    for before in _keys(file, columns, number):
        names.unique(before)
    wanted = [columns.image, *([columns.key] if columns.key else []), *columns.carried]
    batches = file.iter_batches(batch_size=size, row_groups=[part], columns=wanted, use_threads=False)
    for batch in batches:
        keys = texts(batch, columns.key) if columns.key else [None] * batch.num_rows
        carried = [texts(batch, name) for name in columns.carried]
        for k, (key, cell) in enumerate(zip(keys, cells(batch, columns.image), strict=True)):
            member = _by_key(key, number) if columns.key else str(number)
            number += 1
            extra = pairs(columns.carried, [values[k] for values in carried])
            yield names.unique(member) if columns.key else member, cell, extra


def _keys(file: pq.ParquetFile, columns: Columns, number: int) -> Iterator[str]:
    """The keys of the rows before this number: repeats of a key are counted through the whole file."""
    if not columns.key or not number:
        return
    batches = file.iter_batches(columns=[columns.key], use_threads=False)
    keys = (key for batch in batches for key in texts(batch, columns.key or ""))
    for k, key in enumerate(islice(keys, number)):
        yield _by_key(key, k)


def _by_key(key: str | None, number: int) -> str:
    """The name of a row with this key. Without one it is named by its number, as no key is: a key that looks like that
    is marked as if it were a repeat."""
    if not key:
        return f"row {number}"
    return f"{key}#0" if _NUMBERED.fullmatch(key) else key


def _by_number(planned: Source, number: int) -> str:
    """The name of a row whose key cannot be read."""
    return _by_key(None, number) if planned.columns and planned.columns.key else str(number)


def _item(planned: Source, index: int, member: str, cell: Any, max_bytes: int, extra: Any) -> Item:
    if cell is None:
        return _empty(planned, index, member, Reason.EMPTY, "the cell is null", extra)
    data = bytes(cell)
    if len(data) > max_bytes:
        detail = f"{len(data)} bytes, at most {max_bytes} are read (decode.max_bytes)"
        return _empty(planned, index, member, Reason.TOO_MANY_BYTES, detail, extra, len(data))
    found = planned.object
    return Item(index, found.uri, member, len(data), found.etag, found.mtime_ns, data, extra=extra)


def _empty(
    planned: Source, index: int, member: str, reason: Reason, detail: str, extra: Any = (), size: int = 0
) -> Item:
    found = planned.object
    return Item(index, found.uri, member, size, found.etag, found.mtime_ns, None, reason, detail, extra)


def _told(error: Exception, index: int) -> tuple[Reason, str]:
    if isinstance(error, Changed):
        return Reason.SOURCE_CHANGED, str(error)
    if isinstance(error, StorageError | MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        return failure(error)  # pyarrow's OSErrors at bad pages have no number, those of a disk do
    return Reason.BROKEN_CONTAINER, f"after {index} rows of its row group: {error}"[:300]
