"""A manifest made of a listing: `facebatch plan --list-to`. Listing a large prefix takes hours, a manifest minutes.

Its columns are those by which facebatch knows an object (`facebatch.sources.tables.FACTS`), so that a run that is given
the manifest notices what changed since it was made.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facebatch.errors import UsageError
from facebatch.sources import Kind, Source
from facebatch.sources.base import Base
from facebatch.sources.tables import FACTS
from facebatch.storage import UNSIZED, Storage, absolute

SCHEMA = pa.schema([pa.field("uri", pa.string(), nullable=False), *FACTS.items()])
_ROWS = 65_536


class ManifestWriter:
    """Writes a Parquet manifest while sources stream by. It appears when it is closed, whole."""

    def __init__(self, storage: Storage, uri: str, base: Base) -> None:
        if not uri.lower().endswith(".parquet"):
            raise UsageError(f"the manifest {uri} is a Parquet file; give it the ending .parquet")
        self._storage, self._uri, self._base = storage, absolute(uri), base
        storage.check_writable(self._uri)
        self._rows: list[dict[str, Any]] = []
        self._written = 0
        self._others: Counter[Kind] = Counter()
        self._aside = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the writer
        self._writer = pq.ParquetWriter(self._aside, SCHEMA, compression="zstd")

    def passing(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The same stream; on its way files and tars are written down."""
        for source in sources:
            if source.kind in (Kind.FILES, Kind.TAR):
                found = self._base.located(source.object)
                size = None if found.size == UNSIZED else found.size
                facts = {"size_bytes": size, "etag": found.etag, "mtime_ns": found.mtime_ns, "raw": found.raw}
                self._rows.append({"uri": found.uri, **facts})
                if len(self._rows) == _ROWS:
                    self._flush()
            else:
                self._others[source.kind] += 1
            yield source

    def close(self) -> int:
        """Put the manifest in its place. Returns how many files it names."""
        self._flush()
        self._writer.close()
        self._aside.seek(0)
        self._storage.put(self._uri, self._aside.read())
        self._aside.close()
        return self._written

    def remark(self) -> str:
        """What is not in it."""
        n = sum(self._others.values())
        return f"; {n} row groups or broken entries of tables are none, name their tables as inputs beside it" * bool(n)

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
            self._written += len(self._rows)
            self._rows = []
