"""`facebatch verify`: proves from the files themselves that a dataset is whole. Reads everything, changes nothing.

Checked: every file is the one its record names (sha256, rows, bytes, contract) and there is no other; the rows of each
shard are exactly its indices, once; the sum law holds, per shard and in total; ids are unique and belong together;
vectors have length one and boxes lie in their pictures.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facebatch import ledger, plan
from facebatch.dataset import Dataset
from facebatch.ids import face_id, image_id
from facebatch.ledger import Record, State
from facebatch.plan import Shard
from facebatch.reasons import Status
from facebatch.schema import FACES, IMAGES
from facebatch.storage import StorageError

_SHOWN = 20
"""Problems of a kind that are listed; the rest are counted."""
_NORM_TOLERANCE = 1e-3


@dataclass(slots=True)
class Report:
    """What was found. `problems` is empty for a dataset that can be trusted."""

    images: int = 0
    faces: int = 0
    files: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    retryable: int = 0
    problems: list[str] = field(default_factory=list)


def verify(dataset: Dataset) -> Report:
    """Check a dataset. Raises UsageError where there is none; everything else is in the report."""
    facts = dataset.facts()
    state = ledger.state(dataset)
    shards = plan.shards(dataset)
    report = Report(retryable=sum(_rows(r) for r in state.records if r.retryable))
    report.problems += _strangers(dataset, state)
    ids = _Ids()
    rows_by_shard: dict[str, list[np.ndarray]] = {}
    for record in state.records:
        try:
            images = _table(dataset, record, "images", report)
            faces = _table(dataset, record, "faces", report)
        except (StorageError, pa.ArrowException, OSError, KeyError, ValueError) as error:  # pyarrow at torn pages
            report.problems.append(f"a file of record {record.name} cannot be read: {error}")
            continue
        report.problems += list(_record_problems(record, images, faces, facts["contract_id"]))
        report.images += images.num_rows
        report.faces += faces.num_rows
        report.files += 2
        for status, n in zip(*_counts(images["status"]), strict=True):
            report.statuses[status] = report.statuses.get(status, 0) + n
        for shard in pc.unique(images["shard_id"]).to_pylist():
            index = images.filter(pc.equal(images["shard_id"], shard))["index"].to_numpy()
            rows_by_shard.setdefault(shard, []).append(index)
        ids.add(images["image_id"])
    report.problems += list(_shard_problems(shards, state, rows_by_shard))
    if repeated := ids.repeated():
        report.problems.append(f"{repeated} image ids stand in more than one row")
    if sum(report.statuses.values()) != report.images or set(report.statuses) - set(Status):
        report.problems.append(f"the statuses {report.statuses} do not add up to {report.images} images")
    return report


def _table(dataset: Dataset, record: Record, folder: str, report: Report) -> pa.Table:
    file = record.images if folder == "images" else record.faces
    data, _ = dataset.storage.read(dataset.path(file.path))
    if (digest := hashlib.sha256(data).hexdigest()) != file.sha256:
        report.problems.append(f"{file.path} is damaged: its sha256 is {digest}, its record says {file.sha256}")
    parquet = pq.ParquetFile(io.BytesIO(data))
    table = parquet.read()
    if (len(data), table.num_rows) != (file.bytes, file.rows):
        report.problems.append(
            f"{file.path} has {len(data)} bytes and {table.num_rows} rows, its record says {file.bytes} and {file.rows}"
        )
    if not table.schema.equals(IMAGES if folder == "images" else FACES):
        report.problems.append(f"{file.path} has another schema than this facebatch writes")
    stamp = json.loads((parquet.schema_arrow.metadata or {}).get(b"facebatch", b"{}"))
    if stamp.get("contract_id") != record.contract:
        report.problems.append(f"{file.path} carries contract {stamp.get('contract_id')}, its record {record.contract}")
    return table


def _record_problems(record: Record, images: pa.Table, faces: pa.Table, contract: str) -> Iterator[str]:
    name = record.name
    if record.contract != contract:
        yield f"record {name} was made under contract {record.contract}, the dataset under {contract}"
    if sum(record.counts.get(status, 0) for status in Status) != images.num_rows:
        yield f"record {name} counts {record.counts} for {images.num_rows} rows"
    wrong = [
        identity
        for identity, uri, member in zip(*(images[c].to_pylist() for c in ("image_id", "uri", "member")), strict=True)
        if image_id(uri, member) != identity
    ]
    if wrong:
        yield f"{len(wrong)} image ids of record {name} are not those of their uri and member, e.g. {wrong[0]}"
    if not faces.num_rows:
        if pc.sum(images["n_faces"]).as_py():
            yield f"record {name} announces faces and has none"
        return
    counted = dict(zip(*_counts(faces["image_id"]), strict=True))
    announced = {i: n for i, n in zip(images["image_id"].to_pylist(), images["n_faces"].to_pylist(), strict=True) if n}
    if counted != announced:
        yield f"the faces of record {name} are not those its images announce in n_faces"
    if foreign := _foreign_faces(images, faces, contract):
        yield f"{foreign} faces of record {name} do not belong to their images (ids, order, uri, member or contract)"
    norms = np.linalg.norm(faces["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 512), axis=1)
    if far := int((~(np.abs(norms - 1) <= _NORM_TOLERANCE)).sum()):  # so that nan is far, too
        yield f"{far} vectors of record {name} do not have length 1"
    sizes = {
        identity: (width, height)
        for identity, width, height in zip(
            *(images[c].to_pylist() for c in ("image_id", "width", "height")), strict=True
        )
    }
    limits = np.array([sizes.get(i, (0, 0)) for i in faces["image_id"].to_pylist()], np.float64)
    boxes = np.stack([faces[c].to_numpy() for c in ("x_min", "y_min", "x_max", "y_max")], axis=1)
    inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, :2] < boxes[:, 2:]).all(1) & (boxes[:, 2:] <= limits).all(1)
    if outside := int((~inside).sum()):
        yield f"{outside} boxes of record {name} do not lie in their pictures"


def _foreign_faces(images: pa.Table, faces: pa.Table, contract: str) -> int:
    """Faces whose id is not that of their image and index, whose indices are not 0, 1, ..., or that carry something
    else than their image."""
    places = {
        identity: (uri, member)
        for identity, uri, member in zip(*(images[c].to_pylist() for c in ("image_id", "uri", "member")), strict=True)
    }
    following: dict[str, int] = {}
    foreign = 0
    for identity, image, index, uri, member, made in zip(
        *(faces[c].to_pylist() for c in ("face_id", "image_id", "face_index", "uri", "member", "contract")), strict=True
    ):
        expected = following.get(image, 0)
        following[image] = expected + 1
        right = (face_id(image, expected), expected, places.get(image), contract)
        foreign += (identity, index, (uri, member), made) != right
    return foreign


def _shard_problems(shards: list[Shard], state: State, rows: dict[str, list[np.ndarray]]) -> Iterator[str]:
    problems = []
    for shard in shards:
        index = np.sort(np.concatenate(rows.pop(shard.shard_id, [np.empty(0, np.int64)])))
        if len(np.unique(index)) != len(index):
            problems.append(f"shard {shard.shard_id} has {len(index) - len(np.unique(index))} rows twice")
        count = state.count(shard)
        if count is None:
            problems.append(f"shard {shard.shard_id} has not been read to its end; run `facebatch index` again")
        elif len(index) != count:
            problems.append(f"shard {shard.shard_id} has {len(index)} rows of {count}; run `facebatch index` again")
        elif not np.array_equal(np.unique(index), _indices(shard, state)):
            problems.append(f"shard {shard.shard_id} has rows of other indices than its own, e.g. {index[-1]}")
    problems += [f"there are rows of shard {name}, which no plan names" for name in rows]
    yield from problems[:_SHOWN]
    if len(problems) > _SHOWN:
        yield f"... and {len(problems) - _SHOWN} more problems of shards"


def _indices(shard: Shard, state: State) -> np.ndarray:
    """The indices that the shard's rows must have: all but what is gone for good."""
    items, gone = state.ends.get(shard.shard_id, (shard.count or 0, []))
    every = np.ones(items if shard.count is None else shard.count, bool)
    for low, high in gone:
        every[low:high] = False
    return np.flatnonzero(every)


def _strangers(dataset: Dataset, state: State) -> list[str]:
    named = {dataset.path(f.path) for r in state.records for f in (r.images, r.faces)}
    found = [f.uri for folder in ("images", "faces") for f in dataset.storage.objects(dataset.path(folder) + "/")]
    strangers = [uri for uri in found if uri not in named]
    problems = [f"{uri} belongs to no record (a run at work, or one that was killed)" for uri in strangers[:_SHOWN]]
    return problems + [f"{uri} is missing" for uri in sorted(named - set(found))[:_SHOWN]]


def _counts(column: pa.ChunkedArray) -> tuple[list[str], list[int]]:
    pairs = column.value_counts().flatten()
    return pairs[0].to_pylist(), pairs[1].to_pylist()


def _rows(record: Record) -> int:
    return sum(n for key, n in record.counts.items() if "/" not in key)


class _Ids:
    """Image ids as eight bytes each, to find repeats among many millions in little memory."""

    def __init__(self) -> None:
        self._seen: list[np.ndarray] = []

    def add(self, ids: pa.ChunkedArray) -> None:
        self._seen.append(np.array([int(i[:16], 16) for i in ids.to_pylist()], np.uint64))

    def repeated(self) -> int:
        every = np.concatenate([np.empty(0, np.uint64), *self._seen])
        return len(every) - len(np.unique(every))
