"""Planning inside a run: a run that was taken over while it listed must not plan any more."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray.exceptions
from ray.data.exceptions import ExecutionTimeoutError
from rich.console import Console

from facebatch import config, epochs, plan
from facebatch.dataset import Dataset
from facebatch.epochs import EpochGuard, Superseded
from facebatch.errors import FacebatchError, UsageError
from facebatch.pipeline import index as pipeline
from facebatch.pipeline.index import _planned
from facebatch.pipeline.watch import Stranded
from facebatch.sources import Source, inputs
from facebatch.storage import Storage
from facebatch.summary import Summary

SILENT = Console(file=io.StringIO())


@pytest.fixture
def settings(tmp_path: Path) -> config.Config:
    (tmp_path / "photos").mkdir()
    for i in range(4):
        (tmp_path / "photos" / f"{i}.jpg").write_bytes(b"x")
    return config.load(None, [], inputs=(str(tmp_path / "photos"),), output=str(tmp_path / "out"))


def _dataset(settings: config.Config) -> Dataset:
    return Dataset.at(Storage(), settings.output)


def test_each_object_is_planned_once_in_any_number_of_runs(settings: config.Config, tmp_path: Path) -> None:
    dataset = _dataset(settings)
    with epochs.taken(dataset) as epoch:
        assert [s.rows for s in _planned(dataset, epoch.guard, settings, SILENT)] == [4]
        assert [s.rows for s in _planned(dataset, epoch.guard, settings, SILENT)] == [4]
        (tmp_path / "photos" / "new.jpg").write_bytes(b"x")
        assert [s.rows for s in _planned(dataset, epoch.guard, settings, SILENT)] == [4, 1]


def test_a_run_that_was_taken_over_while_it_listed_freezes_nothing(settings: config.Config) -> None:
    """A listing can last hours, and the plan of a run that lost its right would double every image."""
    dataset = _dataset(settings)
    with epochs.taken(dataset):
        old = EpochGuard(dataset, 0)  # epoch 1 exists
        with pytest.raises(Superseded):
            _planned(dataset, old, settings, SILENT)
        assert plan.count(dataset) == 0


def test_a_plan_that_another_run_froze_meanwhile_stands_alone(
    settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the takeover lies between the question for the right and the write."""
    dataset, real = _dataset(settings), inputs.expand

    def overtaken(*arguments: object) -> Iterator[Source]:
        found = list(real(*arguments))  # type: ignore[arg-type]
        plan.freeze(dataset, 0, found[:3], config.Shards())
        yield from found

    monkeypatch.setattr(inputs, "expand", overtaken)
    with epochs.taken(dataset) as epoch:
        with pytest.raises(FacebatchError, match="was written by another run"):
            _planned(dataset, epoch.guard, settings, SILENT)
        assert [shard.rows for shard in plan.shards(dataset)] == [3]


class Runs:
    """Stands in for the runs that `index` makes: what each comes to, and the provider it was told to use."""

    def __init__(self, *outcomes: Exception | Summary) -> None:
        self._outcomes = iter(outcomes)
        self.providers: list[str] = []

    def __call__(self, settings: config.Config, console: Console) -> Summary:
        self.providers.append(settings.run.provider)
        outcome = next(self._outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _stranded(on_gpus: bool) -> Stranded:
    stranded = Stranded("1 of 2 nodes were lost")
    stranded.on_gpus = on_gpus
    return stranded


DONE = Summary({}, 4, 4, 1.0, 1.0, 0, "out", {})


@pytest.mark.parametrize(("on_gpus", "second"), [(False, "auto"), (True, "cuda")])
def test_a_stranded_run_goes_on_by_itself_and_never_on_cpus_in_place_of_gpus(
    on_gpus: bool, second: str, settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, said = Runs(_stranded(on_gpus), _stranded(on_gpus), DONE), io.StringIO()
    monkeypatch.setattr(pipeline, "_run", runs)
    assert pipeline.index(settings, Console(file=said, width=200)) is DONE
    assert runs.providers == ["auto", second, second]
    assert "1 of 2 nodes were lost; the run goes on from what was committed, laid out anew" in said.getvalue()


def test_a_plan_that_does_not_fit_is_bad_usage_at_first_and_a_failure_when_nodes_were_lost(
    settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfit = UsageError("this plan needs 3 CPUs and Ray has 1")
    monkeypatch.setattr(pipeline, "_run", Runs(unfit))
    with pytest.raises(UsageError):
        pipeline.index(settings, SILENT)
    monkeypatch.setattr(pipeline, "_run", Runs(_stranded(False), unfit))
    with pytest.raises(FacebatchError, match="nodes were lost, and they are too few: this plan needs 3") as failed:
        pipeline.index(settings, SILENT)
    assert failed.value.exit_code == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ExecutionTimeoutError("Dataset execution made no progress\nmore"), r"nothing has moved for 900 s.*ray status"),
        (ray.exceptions.WorkerCrashedError(), r"died again and again.*64 times.*run\.restarts.*worker-\*\.err"),
        (ray.exceptions.GetTimeoutError("Timed out"), r"not all begun in 300 s.*room.*ray status.*died while"),
        (ray.exceptions.RuntimeEnvSetupError("no pip"), r"a worker failed: RuntimeEnvSetupError"),
    ],
)
def test_what_ends_a_job_is_one_sentence_that_says_where_to_look(error: Exception, words: str) -> None:
    told = pipeline._translated(error, config.Run())
    assert re.search(words, str(told))
    assert "the same command goes on from there" in str(told)
    assert "logs" in str(told)
    assert "\n" not in str(told)
    assert told.exit_code == 1
