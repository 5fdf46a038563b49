"""A sample of a dataset computed again: what is drawn, with what it is compared, and what is told apart."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facebatch import audit, config, epochs, ledger, plan
from facebatch.agreement import NEAR, WIDE
from facebatch.audit import Audit
from facebatch.contract import contract, contract_id
from facebatch.dataset import Dataset
from facebatch.errors import UsageError
from facebatch.ledger import File, Record, State
from facebatch.networks import Networks
from facebatch.packs import Model
from facebatch.reader import Parcels, Reader
from facebatch.reasons import Reason
from facebatch.session import CPU
from facebatch.sink import Writer
from facebatch.sources import Kind, Ranges, Source
from facebatch.sources.base import Base
from facebatch.sources.inputs import expand
from facebatch.stages import FusedStage, Place
from facebatch.storage import Object, Storage
from facebatch.summary import begun
from facebatch.verify import verify
from facebatch.work import Work, unpacked
from tests.conftest import encode
from tests.test_verify import having, rewritten

DEFAULTS = config.Config()
PAIR = {"detector": DEFAULTS.detect.pack, "embedder": DEFAULTS.embed.pack}


def _record(name: str, ranges: dict[str, Ranges]) -> Record:
    rows = sum(high - low for some in ranges.values() for low, high in some)
    nowhere = File("", rows, 0, "")
    return Record(1, name, "c", nowhere, nowhere, ranges, {})


STATE = State(
    [_record("a", {"s1": [(0, 3), (5, 6)], "s0": [(2, 4)]}), _record("b", {}), _record("c", {"s1": [(3, 5)]})]
)


def _places(sample: int, seed: int = 0, state: State = STATE) -> list[tuple[str, int]]:
    return [(place.shard, place.index) for place in audit._drawn(state, sample, seed)]


def test_a_sample_as_large_as_the_dataset_is_the_dataset() -> None:
    everything = [("s0", 2), ("s0", 3), *(("s1", i) for i in range(6))]
    assert _places(8) == _places(9) == everything
    assert {(p.shard, p.index): p.record for p in audit._drawn(STATE, 8, 0)}["s1", 4] == 2
    assert _places(0) == _places(5, state=State([])) == []


def test_a_seed_draws_the_same_images_again_and_each_image_has_the_same_chance() -> None:
    assert _places(3, seed=7) == _places(3, seed=7)
    drawn = Counter(place for seed in range(2000) for place in _places(2, seed))
    assert drawn.total() == 4000
    assert len(drawn) == 8
    assert all(400 < times < 600 for times in drawn.values()), drawn


def test_drawing_costs_no_memory_for_images_that_are_not_drawn() -> None:
    """A trillion images in two ranges."""
    large = State([_record("a", {"s1": [(0, 10**12)]}), _record("b", {"s2": [(10**12, 2 * 10**12)]})])
    places = _places(1000, state=large)
    assert len(set(places)) == 1000
    assert 400 < sum(shard == "s1" for shard, _ in places) < 600


HERE = begun(config.Config(), CPU)


@pytest.mark.parametrize(
    ("run", "near", "why"),
    [
        (HERE, True, "made with the packages that are here"),
        (HERE | {"versions": {**HERE["versions"], "ray": "0", "pyarrow": "0"}}, True, "packages that are here"),
        (None, False, "run 3 has not noted on what it computed"),
        (HERE | {"provider": None}, False, "run 3 has not noted on what it computed"),
        (HERE | {"provider": "cuda"}, False, "run 3 computed on cuda, this on cpu"),
        (HERE | {"machine": "riscv"}, False, "run 3 was made with riscv, here"),
        (HERE | {"versions": {**HERE["versions"], "pillow": "1.0"}}, False, "run 3 was made with pillow 1.0, here"),
        (HERE | {"versions": {}}, False, "numpy absent, here"),
    ],
)
def test_the_tolerance_follows_from_what_the_run_has_noted(run: dict[str, Any] | None, near: bool, why: str) -> None:
    tolerance, how = audit._tolerance(3, run, HERE)
    assert tolerance is (NEAR if near else WIDE)
    assert why in how


def test_a_gpu_is_compared_with_a_gpu_in_the_same_way() -> None:
    gpu = HERE | {"provider": "cuda"}
    assert audit._tolerance(3, gpu, gpu)[0] is WIDE
    assert audit._tolerance(3, HERE, gpu)[0] is WIDE


def test_rows_that_were_carried_over_from_another_run_are_compared_as_that_run_computed(tmp_path: Path) -> None:
    dataset = Dataset.at(Storage(), str(tmp_path))
    dataset.note_run(1, HERE | {"provider": "cuda"})
    dataset.note_run(3, HERE)
    dataset.note_run(4, HERE)
    own = replace(_record("own", {"s1": [(0, 1)]}), epoch=3)
    carried = replace(own, name="carried", epoch=4, replaces=["old"])
    found = audit._tolerances(dataset, [own, carried], HERE)
    assert found["own"][0] is NEAR
    assert found["carried"] == (WIDE, "run 1 computed on cuda, this on cpu")


@pytest.fixture(scope="module")
def models(model: Callable[[str, str], Model]) -> Networks:
    return Networks(model(DEFAULTS.detect.pack, "detector"), model(DEFAULTS.embed.pack, "embedder"))


@pytest.fixture
def photos(tmp_path: Path, astronaut: bytes, hopper: bytes, group: np.ndarray) -> Path:
    """Loose files, a tar and rows of a table: with faces, without, broken, and no picture at all."""
    folder = tmp_path / "in"
    folder.mkdir()
    grey = encode(np.full((80, 120, 3), 128, np.uint8))
    files = {"a.png": astronaut, "b.jpg": hopper, "c.png": grey, "cut.jpg": hopper[:20_000], "notes.txt": b"none"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with tarfile.open(folder / "more.tar", "w") as tar:
        for name, data in {"group.png": encode(group), **files}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    pq.write_table(pa.table({"image": [hopper, None, astronaut]}), tmp_path / "rows.parquet")
    return folder


def _indexed(photos: Path, models: Networks, *words: str, gone: str | None = None, **noted: Any) -> Dataset:
    """A dataset of these photos as a run makes it, without Ray.

    gone: a photo that is missing when it is read. noted: what the run says of itself besides.
    """
    dataset = Dataset.at(Storage(), str(photos.parent / "out"))
    settings = config.load(None, words, inputs=(str(photos), str(photos.parent / "rows.parquet")), output=dataset.root)
    terms = contract(settings, models)
    facts = {"contract": terms, "contract_id": contract_id(terms), **PAIR}
    dataset.open({**facts, "relative": bool(settings.base_uri)})
    with epochs.taken(dataset) as epoch:
        ledger.settle(dataset, epoch.number)
        dataset.note_run(epoch.number, begun(settings, CPU) | noted)
        plan.freeze(dataset, 0, expand(dataset.storage, settings), settings.shards)
        if gone:
            (photos / gone).unlink()
        reader = Reader(dataset, Base.at(settings.base_uri), settings.decode.max_bytes)
        stage = FusedStage(settings, models, Place())
        writer = Writer(dataset, epoch.guard, facts)
        for parcel in reader.parcels(
            [(shard, []) for shard in plan.shards(dataset)], epoch.guard, Parcels(64, 1 << 20)
        ):
            writer.write(stage(unpacked(parcel)))
    return dataset


@pytest.fixture
def dataset(photos: Path, models: Networks) -> Dataset:
    return _indexed(photos, models)


def _audited(dataset: Dataset, models: Networks, *words: str, sample: int = 100, seed: int = 0) -> Audit:
    return audit.audit(dataset, audit.configuration(dataset, None, words), models, sample, seed)


def test_a_fresh_dataset_of_files_tars_and_rows_agrees_in_every_row(dataset: Dataset, models: Networks) -> None:
    found = _audited(dataset, models)
    assert (found.images, found.drawn, found.compared) == (14, 14, 14)
    assert (found.problems, found.left_out, found.unread) == ([], {}, {})
    assert found.tolerances == {"made with the packages that are here": NEAR.words}


def test_a_sample_in_many_pieces_is_the_same_sample(
    dataset: Dataset, models: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facebatch.audit._AT_ONCE", 5)
    monkeypatch.setattr("facebatch.audit._BATCH_BYTES", 1)
    batches = _noted_batches(monkeypatch)
    found = _audited(dataset, models, sample=9)
    assert (found.drawn, found.compared, found.problems) == (9, 9, [])
    assert sum(map(len, batches)) == 9
    assert max(map(len, batches)) <= 2, "one picture at a time, and what has no bytes beside it"


def _noted_batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the images in each call of the stage from here on."""
    batches: list[list[str]] = []
    call = FusedStage.__call__

    def noted(stage: FusedStage, works: list[Work]) -> list[Work]:
        batches.append([f"{work.uri} {work.member}" for work in works])
        return call(stage, works)

    monkeypatch.setattr(FusedStage, "__call__", noted)
    return batches


def _with_first(column: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    """Another value in a column, in the first row that has one."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        for place in [k for k, old in enumerate(values) if old is not None][:1]:
            values[place] = value
        return having(table, column, values)

    return change


def swapped() -> Callable[[pa.Table], pa.Table]:
    """The vectors of two faces change places, in the first table that has two which are not of the same photo."""
    done: list[pa.Table] = []

    def change(table: pa.Table) -> pa.Table:
        values = table["embedding"].to_pylist()
        other = next((k for k, vector in enumerate(values) if not np.allclose(vector, values[0], atol=1e-3)), None)
        if done or other is None:
            return table
        done.append(table)
        values[0], values[other] = values[other], values[0]
        return having(table, "embedding", values)

    return change


def test_two_vectors_that_changed_places_are_found_by_computing_them_again_and_by_nothing_else(
    dataset: Dataset, models: Networks
) -> None:
    rewritten(dataset.root, "faces", swapped())
    assert verify(dataset).problems == []
    found = _audited(dataset, models)
    assert found.compared == 14
    assert 1 <= len(found.problems) <= 2
    assert "".join(found.problems).count("its vector is another one: cosine") == 2


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("content_sha256", "0" * 64, "content_sha256 was 000"),
        ("phash", 7, "phash was 7"),
        ("format", "GIF", "format was GIF"),
        ("width", 5000, "width was 5000"),
        ("orientation", 6, "orientation was 6"),
        ("reason", "TOO_MANY_PIXELS", "reason was TOO_MANY_PIXELS and is now"),
        ("reason", "UNSUPPORTED_FORMAT", "reason was UNSUPPORTED_FORMAT and is now"),
    ],
)
def test_a_wrong_value_in_an_images_row_is_found(
    dataset: Dataset, models: Networks, column: str, value: Any, said: str
) -> None:
    rewritten(dataset.root, "images", _with_first(column, value))
    found = _audited(dataset, models)
    assert found.problems
    assert all(said in problem for problem in found.problems)


def test_problems_name_the_image_and_many_are_counted(
    dataset: Dataset, models: Networks, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewritten(dataset.root, "images", lambda t: having(t, "phash", [p and 7 for p in t["phash"].to_pylist()]))
    problems = "\n".join(_audited(dataset, models).problems)
    assert f"{photos}/a.png: phash was 7 and is now" in problems
    assert f"{photos}/more.tar group.png: phash was 7 and is now" in problems
    assert f"{photos.parent}/rows.parquet 0: phash was 7 and is now" in problems
    monkeypatch.setattr("facebatch.verify._SHOWN", 2)
    assert _audited(dataset, models).problems[2:] == ["... and 7 more images that differ"]


def test_sources_that_are_gone_or_replaced_are_named_apart_and_are_no_problem(
    dataset: Dataset, models: Networks, photos: Path
) -> None:
    (photos / "a.png").unlink()
    (photos / "b.jpg").write_bytes(b"another photo")
    (photos / "more.tar").write_bytes(b"another tar")
    found = _audited(dataset, models)
    assert (found.compared, found.problems) == (6, [])
    assert found.unread == {"NOT_FOUND": 1, "SOURCE_CHANGED": 7}
    assert found.example.startswith(f"{photos}/")
    assert "there is no" in found.example or "planned with" in found.example


def test_other_bytes_of_the_same_version_are_a_problem_and_those_without_a_version_are_not(
    dataset: Dataset, models: Networks, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the web does not tell the version of may be replaced without a sign."""
    photo = photos / "b.jpg"
    data, time = photo.read_bytes(), photo.stat().st_mtime_ns
    photo.write_bytes(data[:-1] + b"\0")
    os.utime(photo, ns=(time, time))
    (problem,) = _audited(dataset, models).problems
    assert f"{photo}: content_sha256 was" in problem
    sources = plan.sources
    monkeypatch.setattr(
        "facebatch.plan.sources",
        lambda *words: [replace(s, object=Object(s.object.uri, s.object.size)) for s in sources(*words)],
    )
    found = _audited(dataset, models)
    assert (found.problems, found.unread) == ([], {"SOURCE_CHANGED": 1})


def test_a_container_with_fewer_images_than_the_dataset_is_a_problem(
    dataset: Dataset, models: Networks, photos: Path
) -> None:
    path = photos / "more.tar"
    size, time = path.stat().st_size, path.stat().st_mtime_ns
    with tarfile.open(path) as tar:
        third = tar.getmembers()[2].offset
    path.write_bytes(path.read_bytes()[:third] + b"\0" * (size - third))
    os.utime(path, ns=(time, time))
    problems = _audited(dataset, models).problems
    assert len(problems) == 4
    assert problems[0] == f"{path} b.jpg: its source has no image number 2 any more"


@pytest.mark.parametrize("reason", ["WORKER_CRASH", "TIMEOUT", "OUT_OF_MEMORY", "SOURCE_CHANGED", "ERASED"])
def test_what_crashed_a_worker_or_was_replaced_is_not_computed_again(
    dataset: Dataset, models: Networks, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    rewritten(dataset.root, "images", lambda t: having(t, "reason", [r and reason for r in t["reason"].to_pylist()]))
    batches = _noted_batches(monkeypatch)
    found = _audited(dataset, models)
    computed = [name for batch in batches for name in batch]
    assert (found.compared, found.left_out, found.problems) == (9, {reason: 5}, [])
    assert len(computed) == 9
    assert not any("cut" in name or "notes" in name for name in computed)


def test_rows_that_are_to_be_tried_again_are_not_compared(models: Networks, photos: Path, hopper: bytes) -> None:
    dataset = _indexed(photos, models, gone="b.jpg")
    (photos / "b.jpg").write_bytes(hopper)
    found = _audited(dataset, models)
    assert (found.compared, found.left_out, found.unread, found.problems) == (13, {Reason.NOT_FOUND: 1}, {}, [])


def test_another_version_of_a_decoder_is_compared_with_the_wider_tolerance_and_says_so(
    photos: Path, models: Networks
) -> None:
    versions = {**HERE["versions"], "pillow": "1.0"}
    found = _audited(_indexed(photos, models, versions=versions), models)
    ((how, words),) = found.tolerances.items()
    assert how.startswith("run 1 was made with pillow 1.0, here")
    assert words == WIDE.words
    assert found.problems == []


def test_a_decoder_that_only_one_side_had_is_told_apart(photos: Path, models: Networks) -> None:
    dataset = _indexed(photos, models, versions={})
    rewritten(
        dataset.root,
        "images",
        lambda t: having(t, "reason", [r and "UNSUPPORTED_FORMAT" for r in t["reason"].to_pylist()]),
    )
    found = _audited(dataset, models)
    assert (found.problems, found.unread) == ([], {"UNSUPPORTED_FORMAT": 5})


def test_tables_that_verify_finds_damaged_are_left_to_it(dataset: Dataset, models: Networks) -> None:
    next(Path(dataset.path("faces")).glob("*.parquet")).unlink()
    found = _audited(dataset, models)
    assert found.left_out["their tables are damaged"] > 0
    assert found.problems == []


def test_a_row_that_its_record_promises_and_the_table_lacks_is_a_problem(dataset: Dataset, models: Networks) -> None:
    rewritten(dataset.root, "images", lambda t: t.slice(1))
    assert "has no row in 00001-" in "".join(_audited(dataset, models).problems)


def test_settings_are_those_of_the_last_run_but_for_storage_and_layout(photos: Path, models: Networks) -> None:
    dataset = _indexed(photos, models, "detect.score=0.8", "run.threads=7", "storage.retries=3", f"base_uri={photos}")
    settings = audit.configuration(dataset, None, ["storage.retries=5"])
    assert settings.detect.score == 0.8
    assert (settings.run, settings.storage.retries) == (config.Run(), 5)
    assert audit.models(dataset, settings)
    assert _audited(dataset, models).compared == 14
    photos.rename(photos.parent / "moved")
    assert _audited(dataset, models).unread == {"NOT_FOUND": 11}
    assert _audited(dataset, models, f"base_uri={photos.parent / 'moved'}").compared == 14


def test_another_contract_is_refused_with_what_differs(dataset: Dataset, models: Networks) -> None:
    with pytest.raises(UsageError, match=r"another contract .*: detector.score was 0\.\d+ and is now 0\.1\. Take"):
        audit.models(dataset, audit.configuration(dataset, None, ["detect.score=0.1"]))


def test_without_a_note_of_any_run_the_settings_are_as_given(dataset: Dataset) -> None:
    Path(dataset.internal("runs", "00001.json")).unlink()
    assert audit.configuration(dataset, None, ["detect.score=0.3"]).detect.score == 0.3


def test_broken_lines_of_a_manifest_are_compared_too(tmp_path: Path, photos: Path, models: Networks) -> None:
    (photos / "list.csv").write_text("uri\n,\n")
    dataset = Dataset.at(Storage(), str(tmp_path / "other"))
    broken = [Source(Kind.BROKEN, Object("/list.csv", 10), part=i, trouble="no line") for i in range(2)]
    settings = config.Config()
    terms = contract(settings, models)
    facts = {"contract": terms, "contract_id": contract_id(terms), **PAIR}
    dataset.open(facts)
    with epochs.taken(dataset) as epoch:
        ledger.settle(dataset, epoch.number)
        dataset.note_run(epoch.number, begun(settings, CPU))
        plan.freeze(dataset, 0, broken, settings.shards)
        (shard,) = plan.shards(dataset)
        works = list(Reader(dataset, Base(), 10).chosen(shard, [(0, 2)]))
        Writer(dataset, epoch.guard, facts).write(works)
    found = _audited(dataset, models)
    assert (found.compared, found.problems) == (2, [])
    assert json.loads(Path(dataset.internal("runs", "00001.json")).read_text())["provider"] == CPU
