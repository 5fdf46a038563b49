"""What the two tables of a dataset add up to: counters and histograms. No row is kept, so it may have any size.

Only accepted records count, as for every reader that asks the ledger. Their files are read in parallel, a few columns
of one commit at a time in each thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import add

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.ledger import File, Record
from facebatch.reasons import Status
from facebatch.storage import StorageError

_THREADS = 16
"""Records that are read at a time: the wait is the round trip."""
PER_IMAGE = (0, 1, 2, 3, 4, 5, 10, 20, 50, 100)
PIXELS = (0, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
SHARES = tuple(step / 20 for step in range(20))
"""Where the bins of histograms begin. The last one is open; what is below the first counts as in it."""
_IMAGES = ("status", "reason", "format", "size_bytes", "n_faces")
_FACES = ("face_px", "score", "quality", "quality_reasons")


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values are in each bin. starts: where bins begin, rising; counts: as many."""

    starts: tuple[float, ...]
    counts: tuple[int, ...]

    def of(self, values: pa.ChunkedArray) -> Histogram:
        """The same bins, of a column of numbers without nulls. Compared as the column's own type: a float32 of 0.95 is
        in the bin that begins there."""
        numbers = values.to_numpy()
        bins = np.searchsorted(np.array(self.starts, numbers.dtype), numbers, side="right") - 1
        return Histogram(self.starts, tuple(np.bincount(bins.clip(0), minlength=len(self.starts)).tolist()))

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.starts, tuple(map(add, self.counts, other.counts)))


def _empty(starts: tuple[float, ...]) -> Histogram:
    return Histogram(starts, (0,) * len(starts))


_NONE_PER_IMAGE, _NO_PIXELS, _NO_SHARES = map(_empty, (PER_IMAGE, PIXELS, SHARES))


@dataclass(frozen=True, slots=True)
class Tally:
    """Of images: how many by status, by status and reason, by format, and their bytes. Of faces: how many, how many in
    each image that was looked at, sizes in pixels, scores, quality, and words of `quality_reasons`."""

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0
    per_image: Histogram = _NONE_PER_IMAGE
    faces: int = 0
    face_px: Histogram = _NO_PIXELS
    score: Histogram = _NO_SHARES
    quality: Histogram = _NO_SHARES
    quality_reasons: Counter[str] = field(default_factory=Counter)

    @property
    def images(self) -> int:
        return self.statuses.total()

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def tally(dataset: Dataset, records: Iterable[Record]) -> Tally:
    """Read the tables of these records. Raises FacebatchError where one cannot be read."""
    some = list(records)
    shares = [some[k::_THREADS] for k in range(_THREADS)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="report") as threads:
        return sum(threads.map(partial(_share, dataset), shares), Tally())


def _share(dataset: Dataset, records: list[Record]) -> Tally:
    """One thread's records, one after the other."""
    return reduce(lambda before, record: before + _record(dataset, record), records, Tally())


def _record(dataset: Dataset, record: Record) -> Tally:
    images, faces = read_columns(dataset, record.images, _IMAGES), read_columns(dataset, record.faces, _FACES)
    looked = images.filter(pc.is_in(images["status"], pa.array([Status.OK, Status.NO_FACE], pa.string())))
    by_reason = images.group_by(["status", "reason"], use_threads=False).aggregate([([], "count_all")])
    pairs = zip(*(by_reason[name].to_pylist() for name in ("status", "reason", "count_all")), strict=True)
    return Tally(
        statuses=_counted(images["status"]),
        reasons=Counter({(status, reason): n for status, reason, n in pairs if reason is not None}),
        formats=_counted(images["format"]),
        size_bytes=pc.sum(images["size_bytes"]).as_py() or 0,
        per_image=_NONE_PER_IMAGE.of(looked["n_faces"]),
        faces=faces.num_rows,
        face_px=_NO_PIXELS.of(faces["face_px"]),
        score=_NO_SHARES.of(faces["score"]),
        quality=_NO_SHARES.of(faces["quality"]),
        quality_reasons=_counted(pc.list_flatten(faces["quality_reasons"])),
    )


def read_columns(dataset: Dataset, file: File, columns: tuple[str, ...]) -> pa.Table:
    """These columns of a committed file. Raises FacebatchError where it cannot be read."""
    path = dataset.path(file.path)
    try:
        with dataset.storage.open(path) as stream:
            table = pq.ParquetFile(stream).read(columns=list(columns))
        if absent := sorted(set(columns) - set(table.column_names)):
            raise ValueError(f"it has no column {absent[0]}")
        return table
    except (pa.ArrowException, OSError, ValueError, StorageError) as error:
        raise FacebatchError(
            f"{path} cannot be read, so there is no report: {error}. If a run is at work, try again; else run "
            f"`facebatch verify {dataset.root}`"
        ) from error


def _counted(words: pa.ChunkedArray) -> Counter[str]:
    """How often each stands there, nulls left out."""
    return Counter({pair["values"]: pair["counts"] for pair in pc.value_counts(words.drop_null()).to_pylist()})
