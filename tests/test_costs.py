"""What images and faces cost: from the record of a run, and from a short measurement here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facebatch import config, epochs, ledger
from facebatch.costs import ENOUGH, index_demo, measured
from facebatch.dataset import Dataset
from facebatch.errors import UsageError
from facebatch.scale import PARTS, written
from facebatch.sink import Writer
from facebatch.storage import Storage
from facebatch.verify import verify

SPENT = {"read": 2.0, "decode": 4.0, "detect": 8.0, "chip": 1.9, "embed": 3.8, "pack": 1.0, "write": 3.0}
FUSED = {"index": {"actors": 2, "threads": 1, "cpus": 1.0, "gpus": 0.0}}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return index_demo(config.Config(), tmp_path_factory.mktemp("demo"))


@pytest.fixture
def told(dataset: Dataset) -> Any:
    """Lets the run of the dataset say something else."""
    before = dataset.run(1) or {}

    def tell(**facts: Any) -> Dataset:
        dataset.note_run(1, before | {"spent": SPENT, "pools": FUSED, "seconds": 10.0} | facts)
        return dataset

    yield tell
    dataset.note_run(1, before)


def test_the_demo_is_indexed_here_without_ray_as_a_run_would(dataset: Dataset) -> None:
    assert verify(dataset).problems == []
    found = measured(dataset)
    assert (found.archive.images, found.archive.faces) == (20, 0.95)
    assert (found.archive.loose, found.archive.containers) == (17, 1), "the others are in a tar"
    assert found.archive.bytes == sum(f.stat().st_size for f in _files(dataset, "..") if "index" not in f.parts) / 20
    assert {part for part, took in found.costs.image.items() if took} == set(PARTS) - {"chip", "embed"}
    assert {part for part, took in found.costs.face.items() if took} == {"chip", "embed", "write"}
    assert "20 images on cpu, facebatch-detector, facebatch-embedder" in found.origin


def test_of_a_dataset_itself_objects_and_bytes_are_what_they_are(dataset: Dataset) -> None:
    found = measured(dataset)
    left = written(found.archive, found.costs.sizes, config.Config())
    files = _files(dataset)
    assert (left.objects, left.records, left.shards) == (len(files), 1, 2)
    told = [file for file in files if file.parent.name in ("images", "faces", "records", "plan")]
    assert left.bytes == pytest.approx(sum(file.stat().st_size for file in told))


def test_a_record_is_shared_out_between_images_and_faces(told: Any) -> None:
    """20 images and 19 faces."""
    costs = measured(told()).costs
    assert costs.image["decode"] == pytest.approx(0.2)
    assert costs.image["detect"] == pytest.approx(0.4)
    assert costs.face["embed"] == pytest.approx(0.2)
    assert costs.face["chip"] == pytest.approx(0.1)
    assert 20 * costs.image["write"] + 19 * costs.face["write"] == pytest.approx(3)
    assert costs.face["write"] > 10 * costs.image["write"], "of a face 1.8 kB are written, of an image 0.1"
    assert sum(costs.seconds(measured(told()).archive).values()) == pytest.approx(23.7)


def test_threads_of_a_worker_are_cores(told: Any) -> None:
    costs = measured(told(pools={"index": FUSED["index"] | {"threads": 3}})).costs
    assert costs.image["decode"] == pytest.approx(0.6)
    assert costs.image["read"] == pytest.approx(0.1), "tasks have one"


def test_of_a_run_on_gpus_the_networks_cost_gpu_seconds(told: Any) -> None:
    """Two detectors share a GPU; decoding is done by tasks of one thread."""
    each = {"actors": 2, "threads": 1, "cpus": 0.25}
    costs = measured(told(provider="cuda", pools={"detect": each | {"gpus": 0.5}, "embed": each | {"gpus": 1}})).costs
    assert costs.on_gpu
    assert costs.image["detect"] == pytest.approx(0.2)
    assert costs.face["embed"] == pytest.approx(0.2)
    assert costs.image["decode"] == pytest.approx(0.2)


def test_how_busy_the_workers_were_is_told(told: Any) -> None:
    """17.7 seconds in stages, of two workers in ten seconds."""
    assert measured(told()).busy == pytest.approx(0.885)
    split = {"detect": FUSED["index"], "embed": FUSED["index"]}
    assert measured(told(pools=split)).busy == pytest.approx(11.8 / 40)


def test_planning_counts_where_it_is_more_than_the_start_of_a_run(told: Any) -> None:
    found = measured(told(planning_seconds=0.8))
    assert (found.costs.planning, found.left_out) == (None, 0.8)
    found = measured(told(planning_seconds=3.0, images=ENOUGH))
    assert found.costs.planning == pytest.approx(3e-5)
    assert found.left_out is None


def test_of_several_runs_the_largest_tells(told: Any) -> None:
    dataset = told(images=1000)
    dataset.storage.put(dataset.internal("epochs", "00002.json"), b"{}")
    dataset.note_run(2, (dataset.run(1) or {}) | {"images": 3})
    assert measured(dataset).origin.startswith("run 1 of")
    dataset.storage.delete(dataset.internal("epochs", "00002.json"))


def test_what_tells_nothing_is_refused(told: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no facebatch dataset"):
        measured(Dataset.at(Storage(), str(tmp_path)))
    with pytest.raises(UsageError, match="no run of .* tells what it cost.*Index some thousand images"):
        measured(told(pools={}))


def test_a_dataset_without_faces_does_not_tell_what_one_costs(tmp_path: Path) -> None:
    nobody = Dataset.at(Storage(), str(tmp_path))
    facts = nobody.open({"contract_id": "c1", "detector": "d", "embedder": "e"})
    with epochs.taken(nobody) as epoch:
        ledger.settle(nobody, epoch.number)
        Writer(nobody, epoch.guard, facts).write_empty()
        nobody.note_run(epoch.number, {"images": 5, "spent": SPENT, "pools": FUSED})
    with pytest.raises(UsageError, match="holds no face, .*: index photos of people"):
        measured(nobody)


def test_half_a_dataset_is_refused(dataset: Dataset) -> None:
    (end,) = dataset.storage.objects(dataset.internal("ends/"))
    note = dataset.storage.read(end.uri)[0]
    dataset.storage.delete(end.uri)
    with pytest.raises(UsageError, match="is not finished: `facebatch status"):
        measured(dataset)
    dataset.storage.put(end.uri, note)


def _files(dataset: Dataset, below: str = ".") -> list[Path]:
    return [path for path in (Path(dataset.root) / below).resolve().rglob("*") if path.is_file()]
