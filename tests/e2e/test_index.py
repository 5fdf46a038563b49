"""The main job on real photographs: the same faces whatever the input, the layout and the batch size."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facebatch import plan
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError, UsageError
from facebatch.storage import Storage
from facebatch.verify import verify
from tests.conftest import encode, lying
from tests.e2e.conftest import Run, assert_same_faces, run, table, vectors
from tests.s3 import S3

pytestmark = pytest.mark.usefixtures("a_ray")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, group: np.ndarray, astronaut: bytes, hopper: bytes) -> Path:
    """Thirty pictures in folders, with and without faces, in several formats; and files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    (folder / "a" / "deep").mkdir(parents=True)
    (folder / "b").mkdir()
    (folder / "a" / "astronaut.png").write_bytes(astronaut)
    (folder / "b" / "astronaut.png").write_bytes(astronaut)
    (folder / "a" / "IMG.1234.jpg").write_bytes(hopper)
    formats = [("JPEG", {"quality": 92}), ("PNG", {}), ("WEBP", {"quality": 95}), ("BMP", {}), ("TIFF", {})]
    for i in range(20):
        format, options = formats[i % len(formats)]
        moved = np.roll(group, random.integers(0, 600, 2), axis=(0, 1))
        (folder / "a" / "deep" / f"{i:02d}.img").write_bytes(encode(moved, format, **options))
    (folder / "b" / "large.jpg").write_bytes(encode(np.tile(group, (5, 4, 1)), "JPEG", quality=90))
    for i in range(3):
        (folder / "b" / f"empty-{i}.png").write_bytes(encode(np.full((300, 400, 3), 60 * i, np.uint8)))
    (folder / "b" / "cut.jpg").write_bytes(hopper[: len(hopper) // 2])
    (folder / "b" / "notes.txt").write_text("no picture")
    (folder / "b" / "nothing.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def indexed(a_ray: None, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run([photos], tmp_path_factory.mktemp("indexed"))


def test_every_file_has_one_row_and_the_dataset_is_whole(indexed: Run, photos: Path) -> None:
    files = sorted(str(p) for p in photos.rglob("*") if p.is_file())
    rows = indexed.images()
    assert sorted(row["uri"] for row in rows) == files
    outcomes = {Path(row["uri"]).name: (row["status"], row["reason"]) for row in rows}
    assert outcomes["cut.jpg"] == ("failed", "TRUNCATED")
    assert outcomes["notes.txt"] == ("skipped", "NOT_AN_IMAGE")
    assert outcomes["nothing.jpg"] == ("failed", "EMPTY")
    assert outcomes["empty-1.png"] == ("no_face", None)
    assert outcomes["IMG.1234.jpg"] == ("ok", None)
    assert indexed.summary.totals["faces"] == indexed.faces().num_rows > 60
    assert verify(Dataset.at(Storage(), str(indexed.output))).problems == []


def test_what_the_run_decided_and_cost_is_said(indexed: Run) -> None:
    for words in (
        "detector facebatch-detector built in",
        "stronger models than",
        "licence: research and evaluation only",
        "layout fused:",
        "on cpu:",
        "a commit every",
    ):
        assert words in indexed.remarks
    assert indexed.summary.peak_bytes > 100e6
    assert indexed.summary.new_images == indexed.summary.planned == len(indexed.images())


def test_the_record_tells_what_was_done_when_and_which_images_took_longest(indexed: Run) -> None:
    record = json.loads((indexed.output / "_facebatch" / "runs" / "00001.json").read_text())
    rows = indexed.images()
    first, *_, last = record["timeline"]
    assert first == [0.0, 0, 0, 0]
    assert last[1:] == [len(rows), indexed.faces().num_rows, sum(row["size_bytes"] for row in rows)]
    assert 0 < last[0] <= record["seconds"] + 0.01
    slow = record["slowest"]
    assert len(slow) == 20
    assert slow[0]["uri"].endswith("/b/large.jpg")
    assert [one["seconds"] for one in slow] == sorted((one["seconds"] for one in slow), reverse=True)
    assert all(abs(one["seconds"] - sum(one["parts"].values())) < 0.001 for one in slow)
    assert all(one["parts"]["decode"] > 0 for one in slow)
    assert "chip" in slow[0]["parts"]
    assert {(one["uri"], one["member"]) for one in slow} < {(row["uri"], row["member"]) for row in rows}


def test_a_scaled_decode_gives_boxes_in_full_size_pixels(indexed: Run) -> None:
    (large,) = (row for row in indexed.images() if row["uri"].endswith("large.jpg"))
    assert (large["width"], large["height"]) == (4096, 3000)
    faces = [f for f in indexed.faces().to_pylist() if f["image_id"] == large["image_id"]]
    assert len(faces) > 20
    assert max(f["x_max"] for f in faces) > 3500
    assert all(f["y_max"] <= 3000 for f in faces)


def test_a_second_run_computes_nothing_and_says_so(indexed: Run, photos: Path) -> None:
    def files() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for name in ("images", "faces") for p in (indexed.output / name).iterdir()}

    before = files()
    again = run([photos], indexed.output)
    assert "nothing to do: all 30 images are indexed already" in again.remarks
    assert again.summary.new_images == 0
    assert files() == before


def test_the_same_photos_in_four_tars_give_the_same_faces(indexed: Run, photos: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    files = sorted(p for p in photos.rglob("*") if p.is_file())
    for k in range(4):
        with tarfile.open(shards / f"{k}.tar{'.gz' if k == 3 else ''}", "w:gz" if k == 3 else "w") as tar:
            for file in files[k::4]:
                tar.add(file, arcname=str(file.relative_to(photos)))
    tarred = run([str(shards / "*.tar*")], tmp_path / "out")
    assert len(tarred.images()) == len(files)
    assert {row["member"] for row in tarred.images()} == {str(f.relative_to(photos)) for f in files}
    one, other = indexed.faces(), tarred.faces()
    names = [str(Path(uri).relative_to(photos)) for uri in one["uri"].to_pylist()]
    one = one.set_column(one.schema.get_field_index("member"), "member", [names])
    assert_same_faces(one, other, key=["member"])


@pytest.mark.parametrize("words", [["run.layout=split"], ["run.layout=split", "run.batch=3", "run.commit_images=5"]])
def test_split_gives_the_same_faces_as_fused(indexed: Run, photos: Path, tmp_path: Path, words: list[str]) -> None:
    split = run([photos], tmp_path / "out", *words)
    assert split.images() == indexed.images()
    assert_same_faces(indexed.faces(), split.faces(), key=["uri"])


@pytest.mark.parametrize("size", [1, 7, 32])
def test_batch_sizes_give_the_same_faces(indexed: Run, photos: Path, tmp_path: Path, size: int) -> None:
    """Boxes within 0.01 px; vectors within 1e-5, which is what float32 sums in another order may differ by."""
    other = run([photos], tmp_path / "out", f"run.batch={size}", f"detect.batch={size}", f"embed.batch={size}")
    assert_same_faces(indexed.faces(), other.faces(), key=["uri"])


def test_eight_orientations_give_the_same_faces_in_upright_coordinates(group: np.ndarray, tmp_path: Path) -> None:
    for orientation, data in lying(group).items():
        (tmp_path / f"{orientation}.png").write_bytes(data)
    result = run([tmp_path], tmp_path / "out")
    rows = result.images()
    assert sorted(row["orientation"] for row in rows) == list(range(1, 9))
    assert {(row["width"], row["height"]) for row in rows} == {(1024, 600)}
    faces = result.faces()
    by_image = [faces.filter([i == row["image_id"] for i in faces["image_id"].to_pylist()]) for row in rows]
    assert min(t.num_rows for t in by_image) >= 3
    for other in by_image[1:]:
        assert_same_faces(by_image[0], other, key=[])


@pytest.mark.needs_models
@pytest.mark.parametrize("detector", ["yunet-n", "slim-320"])
@pytest.mark.parametrize("embedder", ["edgeface-xs", "w600k-mbf"])
def test_each_detector_works_with_each_embedder(
    detector: str, embedder: str, astronaut: bytes, hopper: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(astronaut)
    (tmp_path / "b.jpg").write_bytes(hopper)
    faces = run([tmp_path], tmp_path / "out", f"detect.pack={detector}", f"embed.pack={embedder}").faces()
    assert faces.num_rows == 2
    source = "yunet-n" if detector == "yunet-n" else "landmarks-regression-retail-0009"
    assert set(faces["landmark_source"].to_pylist()) == {source}
    assert set(faces["alignment"].to_pylist()) == {"landmarks"}
    assert set(faces["embedder"].to_pylist()) == {embedder}
    assert float(vectors(faces)[0] @ vectors(faces)[1]) < 0.3


def test_inputs_that_overlap_give_one_row(photos: Path, tmp_path: Path) -> None:
    result = run([photos / "b", photos / "b" / "nothing.jpg", str(photos / "b" / "*.png")], tmp_path / "out")
    assert len(result.images()) == len([p for p in (photos / "b").iterdir() if p.is_file()])


def test_an_archive_that_grew_is_gone_on_with(astronaut: bytes, hopper: bytes, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(astronaut)
    run([photos], tmp_path / "out")
    (photos / "b.jpg").write_bytes(hopper)
    (photos / "c.txt").write_text("x")
    grown = run([photos], tmp_path / "out")
    assert (grown.summary.new_images, len(grown.images())) == (2, 3)
    assert "1 images are indexed already" in grown.remarks
    assert verify(Dataset.at(Storage(), str(tmp_path / "out"))).problems == []


def test_a_source_that_changed_stays_as_indexed_and_is_named(astronaut: bytes, hopper: bytes, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(astronaut)
    before = run([photos], tmp_path / "out").images()
    (photos / "a.png").write_bytes(hopper)
    after = run([photos], tmp_path / "out")
    assert "1 objects changed since they were planned; their rows stay as is:" in after.remarks
    assert str(photos / "a.png") in after.remarks
    assert after.images() == before


def test_an_empty_folder_is_refused_and_a_folder_without_images_is_indexed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="names nothing"):
        run([tmp_path / "empty"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    result = run([tmp_path / "empty"], tmp_path / "out")
    assert [row["status"] for row in result.images()] == ["skipped"]


def test_an_empty_tar_gives_two_empty_tables(tmp_path: Path) -> None:
    tarfile.open(tmp_path / "0.tar", "w").close()
    result = run([tmp_path / "0.tar"], tmp_path / "out")
    assert (table(result.output, "images").num_rows, table(result.output, "faces").num_rows) == (0, 0)
    assert verify(Dataset.at(Storage(), str(tmp_path / "out"))).problems == []
    assert "nothing to do: all 0 images" in run([tmp_path / "0.tar"], tmp_path / "out").remarks


def test_an_empty_tar_beside_photos_is_no_trouble(photos: Path, tmp_path: Path) -> None:
    tarfile.open(tmp_path / "z.tar", "w").close()
    result = run([photos, tmp_path / "z.tar"], tmp_path / "out", "run.layout=split")
    alone = run([photos], tmp_path / "alone")
    assert table(result.output, "images").num_rows == table(alone.output, "images").num_rows > 0


def test_another_setting_is_refused_before_anything_is_computed(indexed: Run, photos: Path) -> None:
    with pytest.raises(UsageError, match=r"detector\.score was 0\.8 and is now 0\.9"):
        run([photos], indexed.output, "detect.score=0.9")


def test_what_failed_for_outside_reasons_is_tried_again(
    astronaut: bytes, hopper: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, away = tmp_path / "photos", tmp_path / "away.png"
    photos.mkdir()
    for name, data in (("a.png", astronaut), ("b.jpg", hopper)):
        (photos / name).write_bytes(data)
    freeze = plan.freeze

    def freeze_and_lose(*arguments: object) -> int:
        written = freeze(*arguments)  # type: ignore[arg-type]
        (photos / "a.png").rename(away)
        return written

    monkeypatch.setattr(plan, "freeze", freeze_and_lose)
    with pytest.raises(FacebatchError, match=r"1 images failed for reasons outside them \(NOT_FOUND 1\).*run the same"):
        run([photos], tmp_path / "out")
    monkeypatch.undo()
    assert table(tmp_path / "out", "images").num_rows == 2, "each input has a row, also now"
    away.rename(photos / "a.png")
    again = run([photos], tmp_path / "out")
    assert again.summary.new_images == 1
    assert sorted(row["status"] for row in again.images()) == ["ok", "ok"]
    assert verify(Dataset.at(Storage(), str(tmp_path / "out"))).problems == []


def test_rows_of_a_final_reason_are_computed_again_when_that_is_asked_for(photos: Path, tmp_path: Path) -> None:
    first = run([photos / "b"], tmp_path / "out")
    again = run([photos / "b"], tmp_path / "out", "run.retry=[TRUNCATED, NOT_AN_IMAGE]")
    assert "2 images are computed again (NOT_AN_IMAGE 1, TRUNCATED 1)" in again.remarks
    assert again.summary.new_images == 2
    assert again.images() == first.images()
    assert again.faces() == first.faces()
    assert verify(Dataset.at(Storage(), str(tmp_path / "out"))).problems == []


def test_a_worker_that_cannot_write_stops_the_run_in_our_words(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, freeze = tmp_path / "out", plan.freeze

    def freeze_and_block(*arguments: object) -> int:
        written = freeze(*arguments)  # type: ignore[arg-type]
        (output / "images").write_text("in the way")
        return written

    monkeypatch.setattr(plan, "freeze", freeze_and_block)
    with pytest.raises(FacebatchError) as error:
        run([photos], output)
    monkeypatch.undo()
    assert "images" in str(error.value)
    assert "\n" not in str(error.value)
    (output / "images").unlink()
    assert len(run([photos], output).images()) == 30


def test_from_s3_to_s3(s3: S3, photos: Path, indexed: Run) -> None:
    storage = Storage(s3.options)
    for file in photos.rglob("*"):
        if file.is_file():
            storage.put(f"s3://{s3.bucket}/photos/{file.relative_to(photos)}", file.read_bytes())
    words = [f"storage.endpoint={s3.endpoint}", "storage.region=us-east-1"]
    output = f"s3://{s3.bucket}/out"
    first = run([f"s3://{s3.bucket}/photos/"], output, *words)  # type: ignore[arg-type]
    assert first.summary.new_images == 30
    report = verify(Dataset.at(storage, output))
    assert report.problems == []
    assert report.faces == indexed.faces().num_rows
    assert run([f"s3://{s3.bucket}/photos/"], output, *words).summary.new_images == 0  # type: ignore[arg-type]


def test_a_picture_keeps_what_its_camera_wrote(tmp_path: Path, hopper: bytes) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Camera One"
    exif[0x0132] = "2001:02:03 04:05:06"
    file = io.BytesIO()
    Image.open(io.BytesIO(hopper)).save(file, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    (row,) = run([tmp_path], tmp_path / "out").images()
    assert (row["camera"], str(row["captured_at"])) == ("Camera One", "2001-02-03 04:05:06")
    assert row["format"] == "JPEG"
    assert isinstance(row["phash"], int)
