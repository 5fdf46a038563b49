"""A sample of what is to be done, and the layout that follows from it."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.exceptions
from ray.data.exceptions import ExecutionTimeoutError
from rich.console import Console

from facebatch import config, epochs, plan
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.forecast import Sample
from facebatch.pipeline import calibration, job
from facebatch.pipeline.calibration import calibrate, chosen, pays
from facebatch.pipeline.index import _planned
from facebatch.session import CPU, CUDA
from facebatch.sources.base import Base
from facebatch.storage import Storage

SAMPLE = Sample(images=24, bytes=100, faces=48, seconds=0.6, spent={"decode": 0.24, "detect": 0.36})


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Five shards of ten files each."""
    for i in range(50):
        file = tmp_path / "photos" / f"{i:02d}.jpg"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    words = ["shards.files=10"]
    settings = config.load(None, words, inputs=(str(tmp_path / "photos"),), output=str(tmp_path / "out"))
    made = Dataset.at(Storage(), settings.output)
    with epochs.taken(made) as epoch:
        _planned(made, epoch.guard, settings, Console(file=io.StringIO()))
    return made


class Task:
    """Ray's task, as far as it is asked: how it was sent, and what `ray.get` gives of it."""

    def __init__(self, answer: object) -> None:
        self.answer, self.sent, self.cancelled = answer, dict[str, Any](), False

    def options(self, **asked: Any) -> SimpleNamespace:
        self.sent = asked
        return SimpleNamespace(remote=lambda *_: self)

    def rehearse(self, run: config.Run, patience: float) -> None:
        assert self.sent, "while the sample is computed"
        if isinstance(self.answer, ExecutionTimeoutError):
            raise self.answer

    def get(self, task: object, timeout: float) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def cancel(self, task: object, force: bool) -> None:
        self.cancelled = force


def _calibrated(
    monkeypatch: pytest.MonkeyPatch, dataset: Dataset, task: Task, images: int = 10_000, provider: str = CPU
) -> tuple[Sample | None, str]:
    monkeypatch.setattr(calibration, "_measured", task)
    monkeypatch.setattr(ray, "get", task.get)
    monkeypatch.setattr(ray, "cancel", task.cancel)
    monkeypatch.setattr(job, "rehearse", task.rehearse)
    return calibrate(config.load(None, []), {}, dataset, plan.shards(dataset), images, provider)


def test_images_are_taken_from_the_beginning_the_middle_and_the_end(dataset: Dataset) -> None:
    names = [Path(s.object.uri).stem for s in chosen(dataset, plan.shards(dataset), 6, Base.at(None))]
    assert names == ["00", "09", "20", "29", "40", "49"]


def test_of_a_small_archive_each_image_is_taken_once(dataset: Dataset) -> None:
    names = [s.object.uri for s in chosen(dataset, plan.shards(dataset)[:2], 100, Base.at(None))]
    assert len(names) == len(set(names)) == 20


def test_an_archive_that_moved_is_sampled_where_it_lies_now(dataset: Dataset, tmp_path: Path) -> None:
    found = chosen(dataset, plan.shards(dataset), 3, Base.at("s3://elsewhere/photos"))
    assert all(source.object.uri.startswith(str(tmp_path)) for source in found), "absolute names stay"


def test_a_small_run_does_not_pay_for_a_sample(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    run = config.Run(calibrate=10)
    assert (pays(run, 319), pays(run, 320), pays(config.Run(calibrate=0), 10**9)) == (False, True, False)
    sample, words = _calibrated(monkeypatch, dataset, Task(FacebatchError("must not be asked")), images=500)
    assert (sample, words) == (None, "not calibrated: 500 images are done before a sample of 24 has paid")


def test_what_was_measured_is_said(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    sample, words = _calibrated(monkeypatch, dataset, task := Task(SAMPLE))
    assert sample == SAMPLE
    assert words == "calibrated on 24 images: 25.0 ms each (10.0 decode, 15.0 detect), 2.0 faces"
    assert not {"num_gpus", "max_calls"} & set(task.sent), "the process stays, and reads"


def test_a_gpu_is_measured_on_a_gpu(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    _calibrated(monkeypatch, dataset, task := Task(SAMPLE), provider=CUDA)
    assert (task.sent["num_gpus"], task.sent["max_calls"]) == (1, 1), "the process goes, with what it holds of the GPU"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (FacebatchError("no image of the sample can be read"), "no image of the sample can be read"),
        (ray.exceptions.WorkerCrashedError(), "The worker died unexpectedly while executing this task."),
        (ray.exceptions.GetTimeoutError("late"), "no answer in 120 s"),
        (ExecutionTimeoutError("late"), "no answer in 120 s"),
    ],
)
def test_a_sample_that_cannot_be_had_stops_no_run(
    answer: Exception, words: str, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, said = _calibrated(monkeypatch, dataset, task := Task(answer))
    assert sample is None
    assert said.startswith(f"not calibrated: {words}")
    assert task.cancelled, "nobody waits for it any more"
