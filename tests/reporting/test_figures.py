"""All that a report says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from facebatch import ledger
from facebatch.dataset import Dataset
from facebatch.errors import UsageError
from facebatch.reporting.figures import Report, gather
from facebatch.sink import Writer
from facebatch.storage import Storage
from tests.reporting.conftest import HOSTILE, empty, images, rows, written
from tests.test_epochs import killed_run, owned_by_a_dead_process
from tests.test_sink import FACTS, Guard


def _found(query: str) -> list[Any]:
    return duckdb.connect().execute(query).fetchall()


def _report(dataset: Dataset) -> Report:
    return gather(dataset, ledger.state(dataset))


def test_the_numbers_are_those_that_a_query_finds(local: Dataset) -> None:
    told = _report(local).as_json()["tables"]
    every = {name: f"'{local.path(name)}/*.parquet'" for name in ("images", "faces")}
    found = dict(_found(f"SELECT status, count(*) FROM {every['images']} GROUP BY 1"))
    assert {row["status"]: row["images"] for row in told["images"]} == {**found, "all": 60}
    failed = _found(f"SELECT reason, status, count(*) FROM {every['images']} WHERE reason IS NOT NULL GROUP BY 1, 2")
    assert {(row["reason"], row["status"], row["images"]) for row in told["reasons"]} == set(failed)
    words = _found(f"SELECT unnest(quality_reasons) AS w, count(*) FROM {every['faces']} GROUP BY 1")
    assert {(row["reason"], row["faces"]) for row in told["quality_reasons"]} == set(words)
    for name, column in (("face_px", "face_px"), ("score", "score"), ("quality", "quality")):
        for row in told[name]:
            below = "" if row["below"] is None else f"AND {column} < {row['below']}::FLOAT"
            query = f"SELECT count(*) FROM {every['faces']} WHERE {column} >= {row['from']}::FLOAT {below}"
            assert _found(query) == [(row["faces"],)], query
    assert told["faces"]["faces"] == _found(f"SELECT count(*) FROM {every['faces']}")[0][0]


def test_rankings_begin_with_the_most_frequent(local: Dataset) -> None:
    told = _report(local)
    for name in ("reasons", "formats", "quality_reasons"):
        table = told.table(name)
        counts = table.column(table.plot.value if table.plot else "")
        assert counts == sorted(counts, key=lambda n: -int(n or 0))
        assert len(counts) > 1


def test_a_reason_is_explained(local: Dataset) -> None:
    (corrupt,) = (row for row in _report(local).as_json()["tables"]["reasons"] if row["reason"] == "CORRUPT")
    assert corrupt["meaning"] == "the decoder refused the file"


def test_it_tells_what_the_dataset_is_and_how_it_stands(dataset: Dataset) -> None:
    told = _report(dataset).as_json()["tables"]["identity"]
    lost = Counter(row["reason"] for row in rows(dataset, "images"))["NOT_FOUND"]
    assert lost > 0
    assert told["output"] == dataset.root
    assert (told["detector"], told["embedder"], told["contract"]) == ("yunet-n", "edgeface-xs", "c1")
    assert (told["run"], told["planned"], told["left"]) == (1, 60, lost)
    assert told["standing"] == "it came to its end; run `facebatch index` again to go on"


def test_a_run_that_was_killed_is_told_of(tmp_path: Path) -> None:
    dataset = empty(Storage(), str(tmp_path / "out"))
    written(dataset, images(20))
    killed_run(dataset)
    owned_by_a_dead_process(dataset, 2)
    told = _report(dataset).as_json()
    assert told["tables"]["identity"]["run"] == 2
    assert told["tables"]["identity"]["standing"].startswith("it stopped without an end (process ")
    assert sum(row["images"] for row in told["tables"]["images"]) == 2 * 20
    assert told["remarks"]["stages"] == "No run has noted anything."


def test_an_empty_dataset_is_reported_with_zeros_and_sentences(tmp_path: Path) -> None:
    fresh = empty(Storage(), str(tmp_path / "fresh"))
    nothing = empty(Storage(), str(tmp_path / "nothing"))
    Writer(nothing, Guard(), FACTS).write_empty()
    for dataset in (fresh, nothing):
        told = _report(dataset).as_json()
        assert {row["images"] for row in told["tables"]["images"]} == {0}
        assert told["tables"]["faces"] == {"faces": 0, "looked_at": 0}
        assert told["tables"]["identity"]["standing"] == "no run has begun"
        for name, table in told["tables"].items():
            assert table or told["remarks"][name], name


def test_json_holds_every_hostile_name_and_no_letter_that_is_none(local: Dataset) -> None:
    told = json.dumps(_report(local).as_json())
    assert told.isascii()
    assert told.isprintable()
    names = [row["uri"] for row in json.loads(told)["tables"]["slowest"]]
    assert names[: len(HOSTILE)] == [f"/photos/{name}" for name in HOSTILE]


def test_where_there_is_no_dataset_it_says_so(tmp_path: Path) -> None:
    nowhere = Dataset.at(Storage(), str(tmp_path))
    with pytest.raises(UsageError, match="is no facebatch dataset"):
        _report(nowhere)
