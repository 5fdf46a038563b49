"""What the tables add up to, counted once more row by row."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from facebatch import epochs, ledger
from facebatch.dataset import Dataset
from facebatch.erase import erase
from facebatch.errors import FacebatchError
from facebatch.ledger import File, Record
from facebatch.reporting import tally as tallies
from facebatch.reporting.tally import PER_IMAGE, PIXELS, SHARES, Tally, tally
from tests.reporting.conftest import rows


def binned(values: list[float], starts: tuple[float, ...]) -> list[int]:
    """As a reader would count them, one by one."""
    counts = [0] * len(starts)
    for value in values:
        counts[max(k for k, start in enumerate(starts) if k == 0 or value >= np.float32(start))] += 1
    return counts


def assert_equals_the_tables(told: Tally, images: list[dict[str, Any]], faces: list[dict[str, Any]]) -> None:
    assert told.images == len(images)
    assert told.faces == len(faces)
    assert told.statuses == Counter(row["status"] for row in images)
    assert told.reasons == Counter((row["status"], row["reason"]) for row in images if row["reason"])
    assert told.formats == Counter(row["format"] for row in images if row["format"])
    assert told.size_bytes == sum(row["size_bytes"] for row in images)
    looked = [row["n_faces"] for row in images if row["status"] in ("ok", "no_face")]
    assert list(told.per_image.counts) == binned(looked, PER_IMAGE)
    assert list(told.face_px.counts) == binned([row["face_px"] for row in faces], PIXELS)
    assert list(told.score.counts) == binned([row["score"] for row in faces], SHARES)
    assert list(told.quality.counts) == binned([row["quality"] for row in faces], SHARES)
    assert told.quality_reasons == Counter(word for row in faces for word in row["quality_reasons"])


def test_the_numbers_are_those_of_the_tables(dataset: Dataset) -> None:
    told = tally(dataset, ledger.state(dataset).records)
    assert_equals_the_tables(told, rows(dataset, "images"), rows(dataset, "faces"))
    assert (told.images, len(told.reasons), len(told.formats), len(told.quality_reasons)) == (60, 4, 3, 5)
    assert sum(n > 0 for n in told.face_px.counts) == 6, "31.9 and 32.0 are apart"
    assert (told.score.counts[18], told.score.counts[19]) == (
        sum(row["score"] == np.float32(0.9499) for row in rows(dataset, "faces")),
        sum(row["score"] >= np.float32(0.95) for row in rows(dataset, "faces")),
    )


def test_what_no_record_names_does_not_count(local: Dataset) -> None:
    """As a killed run leaves it behind."""
    state = ledger.state(local)
    before = tally(local, state.records)
    for table in ("images", "faces"):
        (first, *_) = sorted(Path(local.path(table)).glob("*.parquet"))
        first.with_name(f"00009-{'0' * 16}-{'1' * 8}.parquet").write_bytes(first.read_bytes())
    assert tally(local, ledger.state(local).records) == before


def test_behind_an_erase_the_numbers_are_again_those_of_the_tables(local: Dataset) -> None:
    name = next(row["uri"] for row in rows(local, "images") if row["n_faces"] == 12)
    with epochs.taken(local) as epoch:
        erase(local, epoch.guard, ledger.settle(local, epoch.number), [name])
    told = tally(local, ledger.state(local).records)
    assert told.reasons["skipped", "ERASED"] == 1
    assert_equals_the_tables(told, rows(local, "images"), rows(local, "faces"))


def test_no_records_add_up_to_nothing(local: Dataset) -> None:
    assert tally(local, []) == Tally()
    assert (Tally().images, sum(Tally().score.counts), len(Tally().score.counts)) == (0, 0, 20)


@pytest.mark.parametrize("damage", ["gone", "cut", "no column"])
def test_a_table_that_cannot_be_read_is_one_sentence(local: Dataset, damage: str) -> None:
    record = ledger.state(local).records[0]
    file = Path(local.path(record.faces.path))
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"PAR1" if damage == "cut" else Path(local.path(record.images.path)).read_bytes())
    with pytest.raises(FacebatchError, match=rf"{file} cannot be read, so there is no report: .*facebatch verify"):
        tally(local, ledger.state(local).records)


def test_memory_holds_a_few_columns_of_a_few_records_however_many_there_are(
    local: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 commits of 20,000 faces and 2,048 images, as large ones are: 8 million faces."""
    state = ledger.state(local)
    real = {
        "images": _like(local, state.records[0].images, 2048),
        "faces": _like(local, state.records[0].faces, 20_000),
    }
    lock, held = threading.Lock(), [0]
    asked: set[str] = set()
    before = pa.total_allocated_bytes()

    def read(dataset: Dataset, file: File, columns: tuple[str, ...]) -> pa.Table:
        table = real[file.path.partition("/")[0]].select(columns)
        copy = pa.ipc.open_stream(_buffer(table)).read_all()
        with lock:
            asked.update(columns)
            held[0] = max(held[0], pa.total_allocated_bytes() - before)
        return copy

    monkeypatch.setattr(tallies, "read_columns", read)
    few, many = [_record(k) for k in range(20)], [_record(k) for k in range(400)]
    assert tally(local, few).faces == 400_000
    first, held[0] = held[0], 0
    told = tally(local, many)
    assert (told.images, told.faces, sum(told.score.counts)) == (400 * 2048, 8_000_000, 8_000_000)
    assert held[0] < 4 * first, "of twenty times as many"
    assert not {"embedding", "landmarks", "uri", "member", "detail", "extra"} & asked


def _like(dataset: Dataset, file: File, size: int) -> pa.Table:
    table = tallies.read_columns(dataset, file, tuple(_columns(file)))
    return table.take(pa.array(np.arange(size) % len(table)))


def _columns(file: File) -> tuple[str, ...]:
    return tallies._IMAGES if file.path.startswith("images") else tallies._FACES


def _buffer(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _record(number: int) -> Record:
    images, faces = File("images/x", 2048, 0, ""), File("faces/x", 20_000, 0, "")
    return Record(1, str(number), "c1", images, faces, {}, {})
