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
from facebatch.ids import face_id, image_id
from facebatch.reasons import Reason
from facebatch.sink import Writer
from facebatch.sources import Kind, Source
from facebatch.storage import Object, Storage
from facebatch.verify import verify
from facebatch.work import Work
from tests.test_sink import FACTS, work

Change = Callable[[pa.Table], pa.Table]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Ten images of one shard in two commits, with up to two faces; two more are to be tried again."""
    made = Dataset.at(Storage(), str(tmp_path))
    made.open({**FACTS, "contract": {}})
    sources = [Source(Kind.FILES, Object(f"/photos/{i}.jpg", 10, None, 1)) for i in range(12)]
    plan.freeze(made, 0, sources, config.Shards())
    shard = plan.shards(made)[0].shard_id
    with epochs.taken(made) as epoch:
        ledger.settle(made, epoch.number)
        writer = Writer(made, epoch.guard, FACTS)
        writer.write([_decoded(i, i % 3, shard) for i in range(6)])
        writer.write([_decoded(i, i % 3, shard) for i in range(6, 9)] + [work(9, 0, shard, Reason.CORRUPT)])
        writer.write([work(i, 0, shard, Reason.NOT_FOUND) for i in (10, 11)])
    return made


def _decoded(index: int, faces: int, shard: str) -> Work:
    """A work as the stages leave it."""
    done = work(index, faces, shard)
    done.content_sha256, done.phash, done.format, done.orientation = f"{index:064x}", index, "JPEG", 1
    return done


def _problems(dataset: Dataset) -> list[str]:
    return verify(dataset).problems


def _only(dataset: Dataset, *expected: str) -> None:
    """There are problems of each of these kinds, and of no other."""
    found = _problems(dataset)
    assert [kind for kind in expected if not any(kind in problem for problem in found)] == [], "missed"
    assert [problem for problem in found if not any(kind in problem for kind in expected)] == [], "not expected"


def test_a_whole_dataset_has_no_problems(dataset: Dataset) -> None:
    report = verify(dataset)
    assert report.problems == []
    assert (report.images, report.faces, report.files, report.retryable) == (12, 9, 6, 2)
    assert report.statuses == {"no_face": 3, "ok": 6, "failed": 3}


def test_missing_rows_are_found(dataset: Dataset) -> None:
    record = sorted(Path(dataset.internal("records")).glob("*.json"))[0]
    record.unlink()
    _only(dataset, "rows of 12; run `facebatch index` again", "belongs to no record")


def test_a_missing_file_is_found(dataset: Dataset) -> None:
    next(Path(dataset.path("faces")).glob("*.parquet")).unlink()
    _only(dataset, "is missing")


def test_a_stranger_is_found(dataset: Dataset) -> None:
    stranger = Path(dataset.path("images")) / "copy.parquet"
    stranger.write_bytes(next(Path(dataset.path("images")).glob("*.parquet")).read_bytes())
    _only(dataset, "copy.parquet belongs to no record")


def test_a_torn_file_is_found(dataset: Dataset) -> None:
    file = next(Path(dataset.path("images")).glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    _only(dataset, f"{file.name} is damaged: it has")


def test_a_file_that_was_torn_before_its_record_was_written_is_found(dataset: Dataset) -> None:
    record = next(Path(dataset.internal("records")).glob("*.json"))
    content: dict[str, Any] = json.loads(record.read_text())
    file = Path(dataset.path(content["images"]["path"]))
    _replaced(record, "images", file.read_bytes()[:-20], content["images"]["rows"])
    _only(dataset, f"{file.name} cannot be read")


def _replaced(record: Path, folder: str, data: bytes, rows: int) -> None:
    """Write another file, and into the record what it says of the file, as a bug would."""
    content: dict[str, Any] = json.loads(record.read_text())
    (record.parents[2] / content[folder]["path"]).write_bytes(data)
    content[folder] |= {"rows": rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    record.write_text(json.dumps(content))


def rewritten(root: str | Path, folder: str, change: Change, stamp: dict[str, Any] | None = None) -> None:
    """Change the tables of all commits that have rows."""
    for record in sorted(Path(root, "_facebatch", "records").glob("*.json")):
        parquet = pq.ParquetFile(Path(root, json.loads(record.read_text())[folder]["path"]))
        table = parquet.read()
        if table.num_rows:
            table = change(table)
        metadata = parquet.schema_arrow.metadata if stamp is None else {b"facebatch": json.dumps(stamp).encode()}
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), sink)
        _replaced(record, folder, sink.getvalue(), table.num_rows)


def having(table: pa.Table, column: str, values: Any) -> pa.Table:
    """With other values in a column: a list of them, or one for all rows."""
    index, field = table.schema.get_field_index(column), table.schema.field(column)
    values = values if isinstance(values, list) else [values] * table.num_rows
    return table.set_column(index, field, pa.array(values, field.type))


def _first(table: pa.Table, column: str, value: Any) -> pa.Table:
    """With another value in the first row of a column."""
    return having(table, column, [value, *table[column].to_pylist()[1:]])


def _filled(table: pa.Table, column: str, value: Any) -> pa.Table:
    """With another value wherever there is one."""
    return having(table, column, [None if old is None else value for old in table[column].to_pylist()])


def _turned(table: pa.Table, column: str) -> pa.Table:
    """With the words of a column read backwards."""
    return having(table, column, [word[::-1] for word in table[column].to_pylist()])


def _all_ok(table: pa.Table) -> pa.Table:
    """With every picture that was decoded as one with faces."""
    return having(table, "status", [s.replace("no_face", "ok") for s in table["status"].to_pylist()])


IDS = "are not those of their uri and member"
NOT_ANNOUNCED = "not those its images announce"
FOREIGN = "do not belong to their images"
CONTRADICTION = "contradict themselves"
COUNTS = "its rows are"
RANGES = "than its ranges say, e.g. index"


@pytest.mark.parametrize(
    ("folder", "change", "problems"),
    [
        ("images", lambda t: t.slice(2), ["rows of 12", COUNTS, RANGES, NOT_ANNOUNCED, FOREIGN, "in their pictures"]),
        (
            "images",
            lambda t: pa.concat_tables([t, t.slice(0, 1)]),
            ["rows of 12", COUNTS, "stand twice in record", "3 image ids stand in more than one row"],
        ),
        ("images", lambda t: having(t, "index", pc.add(t["index"], 100).to_pylist()), [RANGES]),
        ("images", lambda t: _first(t, "index", t["index"][1].as_py()), [RANGES, "stand twice in record"]),
        (
            "images",
            lambda t: having(t, "shard_id", "other"),
            ["of 12", RANGES, "shard other, which no plan names"],
        ),
        ("images", lambda t: having(t, "uri", "/x"), [IDS, FOREIGN]),
        ("images", lambda t: _turned(t, "image_id"), [IDS, NOT_ANNOUNCED, FOREIGN, "in their pictures"]),
        ("images", lambda t: having(t, "n_faces", 7), [NOT_ANNOUNCED, CONTRADICTION]),
        ("images", lambda t: _first(t, "status", "fine"), [COUNTS, CONTRADICTION, "is to be tried again, and 1 of"]),
        ("images", _all_ok, [COUNTS, CONTRADICTION]),
        ("images", lambda t: _filled(t, "reason", "EMPTY"), [COUNTS]),
        ("images", lambda t: _filled(t, "reason", "NOT_AN_IMAGE"), [COUNTS, CONTRADICTION]),
        ("images", lambda t: _filled(t, "reason", "NOT_FOUND"), [COUNTS, "is final, and 1 of its rows are not"]),
        ("images", lambda t: having(t, "reason", None), [COUNTS, CONTRADICTION]),
        ("images", lambda t: having(t, "content_sha256", None), ["lack what is known then"]),
        ("images", lambda t: having(t, "phash", None), ["lack what is known then"]),
        ("faces", lambda t: t.slice(1), [NOT_ANNOUNCED]),
        ("faces", lambda t: t.filter(pc.not_equal(t["face_index"], 0)), [NOT_ANNOUNCED, FOREIGN]),
        ("faces", lambda t: _turned(t, "face_id"), [FOREIGN]),
        ("faces", lambda t: having(t, "face_index", 0), [FOREIGN]),
        ("faces", lambda t: _first(t, "uri", "/x"), [FOREIGN]),
        ("faces", lambda t: _first(t, "member", "x"), [FOREIGN]),
        ("faces", lambda t: _first(t, "contract", "c2"), ["1 faces", "c2, yunet-n, edgeface-xs"]),
        ("faces", lambda t: _first(t, "detector", "other"), ["c1, other, edgeface-xs"]),
        ("faces", lambda t: _first(t, "embedder", "other"), ["c1, yunet-n, other"]),
        (
            "faces",
            lambda t: having(t, "score", [0.1 + 0.01 * i for i in range(t.num_rows)]),
            ["stand before better ones"],
        ),
        (
            "faces",
            lambda t: having(t, "x_min", [20.0 - i for i in range(t.num_rows)]),
            ["before better", "face_px"],
        ),
        (
            "faces",
            lambda t: having(t, "y_min", [20.0 - i for i in range(t.num_rows)]),
            ["before better", "face_px"],
        ),
        ("faces", lambda t: _first(t, "x_max", 1e6), ["1 boxes", "face_px"]),
        ("faces", lambda t: _first(t, "y_max", 480.5), ["1 boxes"]),
        ("faces", lambda t: _first(t, "x_min", -0.5), ["1 boxes", "face_px"]),
        ("faces", lambda t: _first(t, "y_min", float("nan")), ["1 boxes", "face_px"]),
        ("faces", lambda t: having(t, "x_max", pc.subtract(t["x_min"], 1).to_pylist()), ["boxes", "face_px"]),
        ("faces", lambda t: _first(t, "face_px", 41.0), ["1 faces", "is not the shorter side"]),
        ("faces", lambda t: having(t, "score", 1.1), ["value in score that is not between 0 and 1"]),
        ("faces", lambda t: having(t, "quality", 1.1), ["value in quality that is not between 0 and 1"]),
        ("faces", lambda t: having(t, "quality", -0.1), ["value in quality that is not between 0 and 1"]),
        ("faces", lambda t: having(t, "quality", float("nan")), ["value in quality that is not between 0 and 1"]),
        ("faces", lambda t: having(t, "brightness", 2.0), ["value in brightness that is not between 0 and 1"]),
        (
            "faces",
            lambda t: having(t, "sharpness", float("inf")),
            ["value in sharpness that is not between 0 and"],
        ),
        ("faces", lambda t: having(t, "embedding_norm", -1.0), ["value in embedding_norm that is not between"]),
        ("faces", lambda t: having(t, "yaw", 181.0), ["value in yaw that is not between -180 and 180"]),
        ("faces", lambda t: having(t, "landmarks", None), ["do not fit to landmark_source and alignment"]),
        ("faces", lambda t: having(t, "alignment", "box"), ["do not fit to landmark_source and alignment"]),
        (
            "faces",
            lambda t: having(t, "landmarks", [[np.nan] * 10] * t.num_rows),
            ["do not fit to landmark_source"],
        ),
        (
            "faces",
            lambda t: having(t, "embedding", np.full((t.num_rows, 512), np.nan).tolist()),
            ["have length 1"],
        ),
        ("faces", lambda t: having(t, "embedding", np.ones((t.num_rows, 512)).tolist()), ["have length 1"]),
        ("faces", lambda t: t.drop_columns(["quality"]), ["another schema"]),
        ("images", lambda t: t.drop_columns(["status"]), ["another schema"]),
    ],
)
def test_each_kind_of_damage_is_found_and_nothing_else(
    dataset: Dataset, folder: str, change: Change, problems: list[str]
) -> None:
    rewritten(dataset.root, folder, change)
    _only(dataset, *problems)


def test_a_single_flipped_bit_is_found_wherever_it_is(dataset: Dataset) -> None:
    """Parquet has no checksums by default, and damaged pages make its readers do strange things: none is asked."""
    file = next(Path(dataset.path("faces")).glob("*.parquet"))
    whole, random = file.read_bytes(), np.random.default_rng(0)
    for _ in range(50):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << int(random.integers(8))
        file.write_bytes(bytes(damaged))
        _only(dataset, f"{file.name} is damaged: it has")


@pytest.mark.parametrize("word", ["format", "contract_id", "detector", "embedder"])
def test_a_file_that_carries_another_fact_than_the_dataset_is_found(dataset: Dataset, word: str) -> None:
    rewritten(dataset.root, "faces", lambda t: t, {**FACTS, "format": 1, word: "other"})
    _only(dataset, f"carries {word} other, the dataset")


@pytest.mark.parametrize("what", ["rows", "bytes"])
def test_a_file_of_another_size_than_its_record_says_is_found(dataset: Dataset, what: str) -> None:
    record = next(Path(dataset.internal("records")).glob("*.json"))
    content: dict[str, Any] = json.loads(record.read_text())
    content["faces"][what] += 1
    record.write_text(json.dumps(content))
    _only(dataset, "rows, its record says")


def test_what_a_record_counts_besides_outcomes_is_its_own_affair(dataset: Dataset) -> None:
    record = next(Path(dataset.internal("records")).glob("*.json"))
    content: dict[str, Any] = json.loads(record.read_text())
    content["counts"]["absent/HEIF"] = 1
    record.write_text(json.dumps(content))
    assert _problems(dataset) == []


def test_a_record_of_another_contract_is_found(dataset: Dataset) -> None:
    record = next(Path(dataset.internal("records")).glob("*.json"))
    record.write_text(record.read_text().replace('"c1"', '"c2"'))
    _only(dataset, "was made under contract c2, the dataset under c1")


def test_commits_that_leave_an_image_out_and_hold_one_too_many_are_found(dataset: Dataset) -> None:
    """Rows, ranges and sums agree in every commit, and still the shard's indices are not its own."""
    shard = plan.shards(dataset)[0].shard_id
    for record in Path(dataset.internal("records")).glob("*.json"):
        content: dict[str, Any] = json.loads(record.read_text())
        if content["retryable"]:
            content["ranges"] = {shard: [[11, 13]]}
            record.write_text(json.dumps(content))
    rewritten(dataset.root, "images", lambda t: having(t, "index", [i + (i >= 10) for i in t["index"].to_pylist()]))
    _only(dataset, f"shard {shard} has rows of other indices than its own: [(0, 10), (11, 13)]")


def test_an_image_that_two_commits_hold_is_found_by_its_id_and_those_of_its_faces(dataset: Dataset) -> None:
    """Places, ranges and sums are right: it was planned under two indices."""

    def again(table: pa.Table) -> pa.Table:
        old, new = work(8), work(2)
        names = {old.uri: new.uri, image_id(old.uri, ""): image_id(new.uri, "")}
        names |= {face_id(image_id(old.uri, ""), k): face_id(image_id(new.uri, ""), k) for k in range(2)}
        for column in {"uri", "image_id", "face_id"} & set(table.schema.names):
            table = having(table, column, [names.get(value, value) for value in table[column].to_pylist()])
        return table

    rewritten(dataset.root, "images", again)
    rewritten(dataset.root, "faces", again)
    assert _problems(dataset) == [
        "1 image ids stand in more than one row",
        "2 face ids stand in more than one row",
    ]


def test_another_contract_is_found(dataset: Dataset) -> None:
    facts = Path(dataset.internal("dataset.json"))
    facts.write_text(facts.read_text().replace('"c1"', '"c2"'))
    expected = ["under contract c1, the dataset under c2", "carries contract_id c1, the dataset c2", "c1, yunet-n"]
    _only(dataset, *expected)


def test_a_container_that_was_not_read_to_its_end_is_found(dataset: Dataset) -> None:
    plan.freeze(dataset, 1, [Source(Kind.TAR, Object("/0.tar", 10, None, 1), rows=None)], config.Shards())
    _only(dataset, "has not been read to its end")


def test_many_problems_of_a_kind_are_counted(dataset: Dataset) -> None:
    for i in range(25):
        (Path(dataset.path("images")) / f"copy{i:02}.parquet").write_bytes(b"")
    assert len(_problems(dataset)) == 21
    assert _problems(dataset)[-1] == "... and 5 more files of no record"


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
