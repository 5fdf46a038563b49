"""Verify finds whatever is wrong with a dataset, and nothing in one that is whole."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from facebatch import config, epochs, ledger, plan
from facebatch.dataset import Dataset
from facebatch.schema import FACES
from facebatch.sink import Writer
from facebatch.sources import Kind, Source
from facebatch.storage import Object, Storage
from facebatch.verify import verify
from facebatch.work import Work
from tests.test_sink import FACTS, work


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Ten images of one shard in two commits, with faces."""
    made = Dataset.at(Storage(), str(tmp_path))
    made.open({**FACTS, "contract": {}})
    sources = [Source(Kind.FILES, Object(f"/photos/{i}.jpg", 10, None, 1)) for i in range(10)]
    plan.freeze(made, 0, sources, config.Shards())
    shard = plan.shards(made)[0].shard_id
    with epochs.taken(made) as epoch:
        ledger.settle(made, epoch.number)
        writer = Writer(made, epoch.guard, FACTS)
        for indices in (range(6), range(6, 10)):
            writer.write([work(i, i % 3, shard) for i in indices])
    return made


def _problems(dataset: Dataset) -> str:
    return "\n".join(verify(dataset).problems)


def test_a_whole_dataset_has_no_problems(dataset: Dataset) -> None:
    report = verify(dataset)
    assert report.problems == []
    assert (report.images, report.faces, report.files) == (10, 9, 4)
    assert report.statuses == {"no_face": 4, "ok": 6}


def test_missing_rows_are_found(dataset: Dataset) -> None:
    record = sorted(Path(dataset.internal("records")).glob("*.json"))[0]
    record.unlink()
    assert "rows of 10; run `facebatch index` again" in _problems(dataset)
    assert "belongs to no record" in _problems(dataset)


def test_a_missing_file_is_found(dataset: Dataset) -> None:
    next(Path(dataset.path("faces")).glob("*.parquet")).unlink()
    assert "is missing" in _problems(dataset)


def test_a_stranger_is_found(dataset: Dataset) -> None:
    stranger = Path(dataset.path("images")) / "copy.parquet"
    stranger.write_bytes(next(Path(dataset.path("images")).glob("*.parquet")).read_bytes())
    assert "copy.parquet belongs to no record" in _problems(dataset)


def test_a_torn_file_is_found(dataset: Dataset) -> None:
    file = next(Path(dataset.path("images")).glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    assert "cannot be read" in _problems(dataset)


def _rewritten(dataset: Dataset, folder: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a table on the disk, and what its record says of the file with it, as a bug would."""
    for record in Path(dataset.internal("records")).glob("*.json"):
        content: dict[str, Any] = json.loads(record.read_text())
        file = Path(dataset.path(content[folder]["path"]))
        parquet = pq.ParquetFile(file)
        table = change(parquet.read())
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(parquet.schema_arrow.metadata), sink)
        file.write_bytes(sink.getvalue())
        digest = hashlib.sha256(sink.getvalue()).hexdigest()
        content[folder] |= {"rows": table.num_rows, "bytes": len(sink.getvalue()), "sha256": digest}
        record.write_text(json.dumps(content))


def _with(table: pa.Table, column: str, values: Any) -> pa.Table:
    index = table.schema.get_field_index(column)
    return table.set_column(index, table.schema.field(column), pa.array(values, table.schema.field(column).type))


@pytest.mark.parametrize(
    ("folder", "change", "problem"),
    [
        ("images", lambda t: t.slice(1), "rows of 10"),
        ("images", lambda t: pa.concat_tables([t, t.slice(0, 1)]), "rows twice"),
        ("images", lambda t: pa.concat_tables([t, t.slice(0, 1)]), "image ids stand in more than one row"),
        ("images", lambda t: _with(t, "uri", ["/x"] * t.num_rows), "are not those of their uri and member"),
        ("images", lambda t: _with(t, "n_faces", [7] * t.num_rows), "not those its images announce"),
        ("images", lambda t: _with(t, "status", ["fine"] * t.num_rows), "do not add up"),
        ("images", lambda t: _with(t, "shard_id", ["other"] * t.num_rows), "which no plan names"),
        ("faces", lambda t: t.slice(1), "not those its images announce"),
        ("faces", lambda t: _with(t, "face_id", ["a"] * t.num_rows), "do not belong to their images"),
        ("faces", lambda t: _with(t, "face_index", [0] * t.num_rows), "do not belong to their images"),
        ("faces", lambda t: _with(t, "uri", ["/x"] * t.num_rows), "do not belong to their images"),
        ("faces", lambda t: _with(t, "contract", ["c2"] * t.num_rows), "do not belong to their images"),
        ("faces", lambda t: _with(t, "embedding", np.full((t.num_rows, 512), np.nan).tolist()), "do not have length 1"),
        ("images", lambda t: _with(t, "index", pc.add(t["index"], 100).to_pylist()), "rows of other indices"),
        ("faces", lambda t: _with(t, "x_max", [1e6] * t.num_rows), "do not lie in their pictures"),
        ("faces", lambda t: _with(t, "x_min", pc.add(t["x_max"], 1).to_pylist()), "do not lie in their pictures"),
        ("faces", lambda t: _with(t, "embedding", np.ones((t.num_rows, 512)).tolist()), "do not have length 1"),
        ("faces", lambda t: t.drop_columns(["quality"]), "another schema"),
    ],
)
def test_each_kind_of_damage_is_found(
    dataset: Dataset, folder: str, change: Callable[[pa.Table], pa.Table], problem: str
) -> None:
    _rewritten(dataset, folder, change)
    assert problem in _problems(dataset)


def test_a_single_flipped_bit_is_found_wherever_it_is(dataset: Dataset) -> None:
    """Parquet has no checksums by default; torn pages make pyarrow raise errors of many kinds."""
    file = next(Path(dataset.path("faces")).glob("*.parquet"))
    whole, random = file.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << int(random.integers(8))
        file.write_bytes(bytes(damaged))
        assert f"{file.name} is damaged: its sha256 is" in _problems(dataset)


def test_a_file_that_is_not_the_one_of_its_record_is_found(dataset: Dataset) -> None:
    file = next(Path(dataset.path("faces")).glob("*.parquet"))
    pq.write_table(FACES.empty_table(), file)
    assert "its record says" in _problems(dataset)
    assert "carries contract None" in _problems(dataset)


def test_another_contract_is_found(dataset: Dataset) -> None:
    facts = Path(dataset.internal("dataset.json"))
    facts.write_text(facts.read_text().replace('"c1"', '"c2"'))
    assert "under contract c1, the dataset under c2" in _problems(dataset)


def test_a_container_that_was_not_read_to_its_end_is_found(dataset: Dataset) -> None:
    plan.freeze(dataset, 1, [Source(Kind.TAR, Object("/0.tar", 10, None, 1), rows=None)], config.Shards())
    assert "has not been read to its end" in _problems(dataset)


def test_an_empty_dataset_is_whole(tmp_path: Path) -> None:
    empty = Dataset.at(Storage(), str(tmp_path))
    empty.open({**FACTS, "contract": {}})
    with epochs.taken(empty) as epoch:
        ledger.settle(empty, epoch.number)
        Writer(empty, epoch.guard, FACTS).write_empty()
    assert verify(empty).problems == []
    assert verify(empty).images == 0


def test_the_works_of_these_tests_are_real(dataset: Dataset) -> None:
    assert isinstance(work(0), Work)
