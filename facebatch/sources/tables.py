"""Tables as inputs: which column holds the image or its URI, which one names a row, and which are carried along."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facebatch.config import Rows
from facebatch.errors import FacebatchError
from facebatch.ids import printable
from facebatch.sources import Columns, Extra
from facebatch.storage import Object, Storage, without_secrets

IMAGES = ("image", "bytes", "jpg", "jpeg", "png", "img", "photo", "image_bytes", "data", "content")
"""Names under which files of images hold them, as Hugging Face's datasets and WebDataset's tools write them."""
URIS = ("uri", "url", "path", "file", "file_name", "filename", "image_uri", "image_url", "image_path", "image")
FACTS = {"size_bytes": pa.int64(), "etag": pa.string(), "mtime_ns": pa.int64(), "raw": pa.binary()}
"""What a Parquet manifest may tell about its objects, as `facebatch plan --list-to` writes it: then it is checked when
they are read."""
_BUFFER = 1 << 20
"""Bytes read at once from a column: without it pyarrow reads the whole column of a row group, however large."""


class NoColumn(FacebatchError):
    """A table has no column of images or URIs, or not the one that was asked for."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Found:
    """What a table holds: images, or the URIs of some."""

    columns: Columns
    holds_images: bool


@contextmanager
def opened(storage: Storage, found: Object) -> Iterator[pq.ParquetFile]:
    """A Parquet file by its footer. Raises StorageError, or pa.ArrowException where it is none."""
    with storage.open(found.uri, found.raw) as stream:
        yield pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False)


def look(schema: pa.Schema, wanted: Rows, name: str) -> Found:
    """Which columns of a Parquet file to read. Raises NoColumn, with the columns there are."""
    # Names that stand twice name nothing.
    schema = pa.schema([field for field in schema if schema.names.count(field.name) == 1])
    columns = list(_leaves(schema))
    images = {path: type for path, type in columns if _is_bytes(type)}
    uris = {path: type for path, type in columns if _is_text(type)}
    if wanted.column:
        paths = [wanted.column, f"{wanted.column}.bytes"]
    else:
        paths = [*(p for c in IMAGES for p in (c, f"{c}.bytes") if p in images), *(c for c in URIS if c in uris)]
    image = next((path for path in paths if path in images or path in uris), None)
    if image is None:
        asked = f"no column {wanted.column!r} of bytes or text" if wanted.column else "no column known to hold images"
        there = ", ".join(f"{path} ({type})" for path, type in columns[:20])
        raise NoColumn(f"{name} has {asked}; it has {there}. Name the right one with rows.column=...")
    if wanted.key and wanted.key not in schema.names:
        raise NoColumn(f"{name} has no column {wanted.key!r} (rows.key); it has {', '.join(schema.names)}")
    holds_images = image in images
    head = image if image in schema.names else image.split(".")[0]
    taken = {head, wanted.key, *(() if holds_images else told(schema))}
    return Found(Columns(image, wanted.key, carried(schema, wanted, taken, name)), holds_images)


def told(schema: pa.Schema) -> list[str]:
    """Which facts about its objects a Parquet manifest tells."""
    return [name for name, type in FACTS.items() if name in schema.names and schema.field(name).type == type]


def carried(schema: pa.Schema, wanted: Rows, taken: Iterable[str | None], name: str) -> tuple[str, ...]:
    """The columns that go into `extra`: those asked for, or all of plain types that have no other meaning."""
    if wanted.extra is None:
        return tuple(f.name for f in schema if f.name not in taken and _is_plain(f.type))
    if missing := [column for column in wanted.extra if column not in schema.names]:
        raise NoColumn(f"{name} has no column {missing[0]!r} (rows.extra); it has {', '.join(schema.names)}")
    return wanted.extra


def pairs(names: Sequence[str], values: Sequence[Any]) -> Extra:
    """Columns as `extra` holds them: text, without nulls, and without the secrets that URIs may have in them."""
    named = zip(names, values, strict=True)
    return tuple((printable(name), without_secrets(text(value))) for name, value in named if value is not None)


def text(value: Any) -> str:
    """A value of a manifest as text: as it is, or as JSON writes it."""
    return printable(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))


def texts(batch: pa.RecordBatch, name: str) -> list[str | None]:
    """A column of a Parquet file as text. Bytes that are no UTF-8 are kept as Python keeps those of paths.

    Nothing that stands in it fails: times beyond Python's calendar are Arrow's to write down.
    """
    column = batch.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type):
        values = column.cast(pa.string()).cast(pa.binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]
    if _is_plain(column.type):
        return _written(column)
    return [None if value is None else text(value) for value in cells(batch, name)]


def _written(column: pa.Array) -> list[str | None]:
    """Numbers and times as Arrow writes them; those that it cannot write, as the numbers that they are stored as."""
    try:
        written: list[str | None] = column.cast(pa.string()).to_pylist()
    except pa.ArrowException:
        if len(column) == 1:
            return [str(column.view(pa.int64() if column.type.bit_width == 64 else pa.int32())[0].as_py())]
        return [one for k in range(len(column)) for one in _written(column.slice(k, 1))]
    return written


def cells(batch: pa.RecordBatch, path: str) -> list[Any]:
    """The values of a column, also of one inside structs; null where a struct around it is.

    Raises pa.ArrowInvalid for extension types: what a value of one becomes is up to whoever registered it. Ray
    registers one whose values are unpickled, and a table may come from anybody.
    """
    head, *inner = [path] if path in batch.schema.names else path.split(".")
    if _is_extension(batch.column(head).type):
        raise pa.ArrowInvalid(f"the column {head} has the extension type {batch.column(head).type}, which is not read")
    values: list[Any] = batch.column(head).to_pylist()
    for name in inner:
        values = [None if value is None else value[name] for value in values]
    return values


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    for field in schema:
        if pa.types.is_struct(field.type):
            yield from ((f"{field.name}.{inner.name}", inner.type) for inner in field.type)
        else:
            yield field.name, field.type


def _is_extension(type: pa.DataType) -> bool:
    """Whether it is one, or holds one inside."""
    if isinstance(type, pa.BaseExtensionType):
        return True
    if pa.types.is_dictionary(type):
        return _is_extension(type.value_type)
    return any(_is_extension(type.field(k).type) for k in range(type.num_fields))


def _is_bytes(type: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type) or pa.types.is_large_binary(type) or pa.types.is_binary_view(type))


def _is_text(type: pa.DataType) -> bool:
    inner = type.value_type if pa.types.is_dictionary(type) else type
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner))


def _is_plain(type: pa.DataType) -> bool:
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_temporal, pa.types.is_decimal)
    return _is_text(type) or any(test(type) for test in plain)
