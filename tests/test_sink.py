"""Writing: two objects and a record, in this order."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from facebatch import epochs, ledger, logs
from facebatch.dataset import Dataset
from facebatch.epochs import Superseded
from facebatch.ids import image_id
from facebatch.quality import Pose, Quality
from facebatch.reasons import QualityReason, Reason, Status
from facebatch.schema import FACES, IMAGES
from facebatch.sink import Writer, commit_images, committed, encoded, faces_table, images_table
from facebatch.storage import Storage
from facebatch.work import Face, Work

FACTS = {"contract_id": "c1", "detector": "yunet-n", "embedder": "edgeface-xs"}


class Guard:
    """A guard that notes when it is asked, and what was there then."""

    def __init__(self, epoch: int = 1, superseded_at: int | None = None) -> None:
        self.epoch, self.asked, self._superseded_at = epoch, 0, superseded_at

    def check(self) -> None:
        self.asked += 1
        if self.asked == self._superseded_at:
            raise Superseded("run 2 has taken over")


def face(x: float = 1, landmarks: bool = True, seed: int = 0) -> Face:
    vector = np.random.default_rng(seed).normal(size=512).astype(np.float32)
    return Face(
        np.array([x, 2, x + 40, 52], np.float32),
        0.9,
        np.arange(10, dtype=np.float32).reshape(5, 2) if landmarks else None,
        quality=Quality(100.0, 0.5, Pose(1, 2, 3) if landmarks else None, 0.8, (QualityReason.LOW_SHARPNESS,)),
        embedding=vector / np.linalg.norm(vector),
        embedding_norm=2.0,
    )


def work(index: int, faces: int = 0, shard: str = "s1", reason: Reason | None = None) -> Work:
    made = Work(shard, index, f"/photos/{index}.jpg", "", 10, width=640, height=480)
    if reason:
        made.end(reason, "because")
        return made
    made.content_sha256, made.phash, made.format, made.orientation = f"{index:064x}", index, "JPEG", 1
    made.faces = [face(x=i, seed=index * 10 + i) for i in range(faces)]
    made.status = Status.OK if faces else Status.NO_FACE
    return made


@pytest.fixture
def writer(place: tuple[Storage, str]) -> Writer:
    return Writer(Dataset.at(*place), Guard(), FACTS)


def _read(writer: Writer, path: str) -> pq.ParquetFile:
    return pq.ParquetFile(io.BytesIO(writer.dataset.storage.read(writer.dataset.path(path))[0]))


def test_a_commit_is_two_files_and_a_record_that_names_them(writer: Writer) -> None:
    works = [work(1, 2), work(0), work(5, 1, "s0"), work(2, reason=Reason.CORRUPT)]
    (record,) = writer.write(works)
    assert record.ranges == {"s0": [(5, 6)], "s1": [(0, 3)]}
    assert record.counts == {"ok": 2, "no_face": 1, "failed": 1, "skipped": 0, "failed/CORRUPT": 1}
    assert (record.images.rows, record.faces.rows, record.epoch, record.retryable) == (4, 3, 1, False)
    images, faces = _read(writer, record.images.path), _read(writer, record.faces.path)
    assert (images.metadata.num_rows, faces.metadata.num_rows) == (4, 3)
    assert writer.dataset.storage.stat(writer.dataset.path(record.images.path)).size == record.images.bytes  # type: ignore[union-attr]
    assert ledger.state(writer.dataset).records == []  # no run has begun, so nothing counts yet


def test_rows_say_what_the_works_said(writer: Writer) -> None:
    (image,) = images_table([work(3, 2)]).to_pylist()
    assert image["image_id"] == image_id("/photos/3.jpg", "")
    assert (image["status"], image["n_faces"], image["n_persons"], image["extra"]) == ("ok", 2, None, None)
    first, second = faces_table([work(3, 2)], FACTS).to_pylist()
    assert second["face_id"] == f"{image['image_id']}-1"
    assert (second["x_min"], second["y_max"], second["face_px"]) == (1, 52, 40)
    assert (first["alignment"], first["landmark_source"], first["landmarks"]) == (
        "landmarks",
        "yunet-n",
        list(range(10)),
    )
    assert (first["yaw"], first["quality_reasons"], first["contract"]) == (1, ["LOW_SHARPNESS"], "c1")
    boxed = work(4)
    boxed.faces = [face(landmarks=False)]
    (row,) = faces_table([boxed], FACTS).to_pylist()
    assert (row["alignment"], row["landmark_source"], row["landmarks"], row["yaw"]) == ("box", None, None, None)


def test_vectors_are_stored_exactly_and_small() -> None:
    works = [work(i, 20) for i in range(50)]
    table = faces_table(works, FACTS)
    data = encoded(table)
    file = pq.ParquetFile(io.BytesIO(data))
    back = file.read()["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 512)
    assert np.array_equal(back, np.stack([f.embedding for w in works for f in w.faces]))  # type: ignore[misc]
    assert len(data) < 1000 * 1850, "2,678 bytes a vector with Parquet's defaults"


def test_files_without_faces_have_the_schema_of_files_with_faces(writer: Writer) -> None:
    (record,) = writer.write([work(0)])
    assert _read(writer, record.faces.path).schema_arrow.equals(FACES)
    assert _read(writer, record.images.path).schema_arrow.equals(IMAGES)
    empty = writer.write_empty()
    assert empty is not None
    assert _read(writer, empty.faces.path).schema_arrow.equals(FACES)
    assert (empty.images.rows, empty.ranges) == (0, {})


def test_every_file_carries_the_datasets_facts(writer: Writer) -> None:
    (record,) = writer.write([work(0)])
    for file in (record.images, record.faces):
        stamp = json.loads(_read(writer, file.path).schema_arrow.metadata[b"facebatch"])
        assert stamp == {"format": 1, **FACTS}


def test_rows_to_be_tried_again_are_committed_apart(writer: Writer) -> None:
    final, retry = writer.write([work(0, 1), work(1, reason=Reason.ACCESS_DENIED), work(2)])
    assert (final.retryable, final.ranges) == (False, {"s1": [(0, 1), (2, 3)]})
    assert (retry.retryable, retry.ranges) == (True, {"s1": [(1, 2)]})


def test_a_second_attempt_at_the_same_rows_writes_nothing(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(writer.write([work(0, 1), work(1)])) == 1

    def no_put(*_: object) -> None:
        raise AssertionError("a file was written again")

    monkeypatch.setattr(Storage, "put", no_put)
    assert writer.write([work(1), work(0, 1)]) == []


def test_of_two_attempts_at_once_one_stands_whole(place: tuple[Storage, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that Ray took for dead writes on, and what it has computed differs in the last bit."""
    dataset = Dataset.at(*place)
    with epochs.taken(dataset) as epoch:
        ledger.settle(dataset, epoch.number)
        writer = Writer(dataset, epoch.guard, FACTS)
        (first,) = writer.write([work(0, 3), work(1)])
        look = Storage.stat
        with monkeypatch.context() as patch:  # both looked before either was there
            patch.setattr(Storage, "stat", lambda s, u, raw=None: None if "/records/" in u else look(s, u, raw))
            assert writer.write([work(0, 2), work(1)]) == []
        assert ledger.state(dataset).records == [first]
        assert _read(writer, first.faces.path).metadata.num_rows == 3
        assert {o.uri for o in dataset.storage.objects(dataset.path("faces") + "/")} == {dataset.path(first.faces.path)}


def test_the_same_rows_get_the_same_names_whatever_their_order(writer: Writer) -> None:
    (one,) = writer.write([work(0), work(1)])
    other = Writer(writer.dataset, Guard(2), FACTS).write([work(1), work(0)])[0]
    assert one.name == other.name.replace("00002", "00001")


def test_the_record_is_written_last(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    put, create = Storage.put, Storage.create

    def noted_put(storage: Storage, uri: str, data: bytes) -> None:
        seen.append(uri)
        put(storage, uri, data)

    def noted_create(storage: Storage, uri: str, data: bytes) -> bool:
        seen.append(uri)
        return create(storage, uri, data)

    monkeypatch.setattr(Storage, "put", noted_put)
    monkeypatch.setattr(Storage, "create", noted_create)
    writer.write([work(0, 1)])
    assert [uri.removeprefix(writer.dataset.root).split("/")[1] for uri in seen] == ["images", "faces", "_facebatch"]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_run_that_was_taken_over_writes_no_further(writer: Writer, at: int) -> None:
    guard = Guard(superseded_at=at)
    with pytest.raises(Superseded):
        Writer(writer.dataset, guard, FACTS).write([work(0, 1)])
    assert guard.asked == at
    assert list(writer.dataset.storage.objects(writer.dataset.root + "/")) == [], "it removes what it has put"


def test_many_faces_make_several_files(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facebatch.sink.FACES_A_FILE", 5)
    records = writer.write([work(i, 3) for i in range(4)])
    assert [r.faces.rows for r in records] == [3, 3, 3, 3]
    records = writer.write([work(10 + i, 2) for i in range(4)])
    assert [r.faces.rows for r in records] == [4, 4]


@pytest.mark.parametrize(
    ("asked", "images", "commit"),
    [(0, 20, 128), (0, 2048, 128), (0, 16_000, 1000), (0, 10**9, 2048), (50, 10**9, 50)],
)
def test_a_large_run_commits_in_large_bundles(asked: int, images: int, commit: int) -> None:
    assert commit_images(asked, images) == commit


def test_what_a_write_has_committed_is_counted_by_its_records(writer: Writer) -> None:
    gone = work(3, reason=Reason.NOT_FOUND)
    gone.size_bytes = -1
    works = [work(1, 2), work(0), work(5, 1, "s0"), work(2, reason=Reason.CORRUPT), gone]
    assert committed(works, writer.write(works)) == {
        "commits": 2,
        "committed/ok/": 2,
        "committed/no_face/": 1,
        "committed/failed/CORRUPT": 1,
        "committed/failed/NOT_FOUND": 1,
        "committed_faces": 3,
        "committed_bytes": 40,
    }
    assert committed(works, writer.write(works)) == {}, "an attempt that comes late has committed nothing"


def test_a_commit_and_the_images_that_failed_in_it_are_logged_and_a_late_attempt_is_not(writer: Writer) -> None:
    told = io.StringIO()
    logs.to(told)
    works = [work(1, 2), work(0), work(5, 1, "s0"), work(2, reason=Reason.CORRUPT), work(3, reason=Reason.NOT_AN_IMAGE)]
    (record,) = writer.write(works)
    writer.write(works)
    commit, failed = map(json.loads, told.getvalue().splitlines())
    assert (commit["record"], commit["shards"], commit["shard_ids"]) == (record.name, 2, ["s0", "s1"])
    assert (commit["images"], commit["faces"]) == (5, 3)
    assert 0 < commit["seconds"] < 60
    assert (failed["level"], failed["shard_id"], failed["index"], failed["reason"]) == ("warning", "s1", 2, "CORRUPT")
    assert "photos" not in told.getvalue()
