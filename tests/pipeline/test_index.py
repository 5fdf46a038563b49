"""Planning inside a run: a run that was taken over while it listed must not plan any more."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from facebatch import config, epochs, plan
from facebatch.dataset import Dataset
from facebatch.epochs import EpochGuard, Superseded
from facebatch.errors import FacebatchError
from facebatch.pipeline.index import _planned
from facebatch.sources import Source, inputs
from facebatch.storage import Storage

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
