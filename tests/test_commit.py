"""The commit protocol, from the side of one commit: what a run leaves that is overtaken at any point of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from facebatch import commit as protocol
from facebatch import epochs, ledger
from facebatch.dataset import Dataset
from facebatch.epochs import Superseded, taken
from facebatch.sink import Writer
from facebatch.storage import Storage
from tests.test_epochs import owned_by_a_dead_process
from tests.test_sink import FACTS, work


@pytest.fixture
def dataset(place: tuple[Storage, str]) -> Dataset:
    return Dataset.at(*place)


def _files(dataset: Dataset) -> set[str]:
    folders = ("images", "faces", "_facebatch/records")
    return {o.uri for folder in folders for o in dataset.storage.objects(dataset.path(folder) + "/")}


def _overtaken(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, point: str, successor: Callable[[], None]) -> None:
    """A run that is overtaken at a failpoint of its commit, and goes on from there."""
    zombie = epochs._take(dataset, 0)
    ledger.settle(dataset, zombie.number)
    owned_by_a_dead_process(dataset, 1)
    passed: list[str] = []

    def overtake(name: str) -> None:
        if name == point and not passed:
            passed.append(name)
            successor()

    monkeypatch.setattr(protocol, "failpoint", overtake)
    try:
        with pytest.raises(Superseded):
            Writer(dataset, zombie.guard, FACTS).write([work(0, 2), work(1)])
    finally:
        zombie._stop.set()
    assert passed == [point]


@pytest.mark.parametrize("point", ["data", "images", "faces", "record"])
def test_an_overtaken_run_removes_what_it_wrote_and_nothing_else(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    theirs: set[str] = set()

    def whole_run() -> None:
        with taken(dataset) as epoch:
            before = ledger.settle(dataset, epoch.number)
            Writer(dataset, epoch.guard, FACTS).write([work(0, 2), work(1)])
            ledger.sweep(dataset, epoch.guard, ledger.state(dataset))
            assert before.records == []
        theirs.update(_files(dataset))

    _overtaken(dataset, monkeypatch, point, whole_run)
    assert len(theirs) == 3
    assert _files(dataset) == theirs
    assert ledger.state(dataset).done == {"s1": [(0, 2)]}


def test_a_record_that_the_successor_has_accepted_stays(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def settles() -> None:
        with taken(dataset) as epoch:
            ledger.settle(dataset, epoch.number)

    _overtaken(dataset, monkeypatch, "committed", settles)
    assert len(_files(dataset)) == 3
    assert ledger.state(dataset).done == {"s1": [(0, 2)]}


def test_a_record_stays_while_the_successor_has_not_settled(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def takes() -> None:
        with taken(dataset):
            pass

    _overtaken(dataset, monkeypatch, "committed", takes)
    assert ledger.state(dataset).done == {"s1": [(0, 2)]}
    with taken(dataset) as epoch:
        assert ledger.settle(dataset, epoch.number).done == {"s1": [(0, 2)]}


def test_the_readme_has_the_table_of_the_protocol() -> None:
    table = "\n".join(line for line in (protocol.__doc__ or "").splitlines() if line.startswith("|"))
    assert table in (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
