"""What would happen if the protocol were another: each rule is broken once, and the scenarios of every step see it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from facebatch import ledger
from facebatch.dataset import Dataset
from facebatch.epochs import EpochGuard
from facebatch.ledger import Record, State
from facebatch.sink import Writer
from facebatch.storage import Storage
from facebatch.work import Work
from tests.faults.scenarios import Crash, crashed, overtaken, undisturbed
from tests.faults.steps import Anew, History

pytestmark = pytest.mark.faults

Good = tuple[History, dict[str, int]]


@pytest.fixture
def good(anew: Anew) -> Good:
    """What a run makes by the rules, and at which step of it each kind of object is first written."""
    history, run = undisturbed(anew)
    first: dict[str, int] = {}
    for number, step in enumerate(run.steps, 1):
        first.setdefault(step.removeprefix("put ").rpartition("/")[0].rpartition("/")[2], number)
    return history, first


def test_a_record_before_its_data_is_found_out(anew: Anew, good: Good, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names what is not there, or not there yet."""
    write = Writer.write

    def record_first(writer: Writer, works: list[Work]) -> list[Record]:
        storage, held = writer.dataset.storage, list[tuple[str, bytes]]()
        put, create = storage.put, storage.create

        def created(uri: str, data: bytes) -> bool:
            made = create(uri, data)
            for files in held:
                put(*files)
            held.clear()
            return made

        with monkeypatch.context() as patch:
            patch.setattr(storage, "put", lambda uri, data: held.append((uri, data)))
            patch.setattr(storage, "create", created)
            return write(writer, works)

    reference, first = good
    assert crashed(anew, reference, Crash(first["images"], behind=True))
    monkeypatch.setattr(Writer, "write", record_first)
    with pytest.raises(AssertionError, match="counts and is not there"):
        crashed(anew, reference, Crash(first["images"], behind=True))


def test_late_records_that_are_not_void_are_found_out(anew: Anew, good: Good, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zombie's record counts for files that its successor has swept."""
    reference, first = good
    overtaken(anew, reference, first["records"])
    _count_every_record(monkeypatch)
    with pytest.raises(AssertionError, match="counts and is not there"):
        overtaken(anew, reference, first["records"])


def test_a_run_that_never_looks_whether_it_was_overtaken_is_found_out(
    anew: Anew, good: Good, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where late records are not void, it writes all that its successor wrote, and that counts in its place."""
    reference, first = good
    overtaken(anew, reference, first["images"])
    monkeypatch.setattr(EpochGuard, "check", lambda _: None)
    _count_every_record(monkeypatch)
    with pytest.raises(AssertionError, match="a zombie changed what counts"):
        overtaken(anew, reference, first["images"])


def test_without_looking_the_zombies_records_are_void_all_the_same(
    anew: Anew, good: Good, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking saves work and litter. That nothing counts twice does not rest on it, for there is no lock in it."""
    monkeypatch.setattr(EpochGuard, "check", lambda _: None)
    reference, first = good
    for step in (first["images"], first["records"], first["ends"]):
        overtaken(anew, reference, step)


def test_a_sweep_before_it_is_written_down_what_counts_is_found_out(
    anew: Anew, good: Good, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A successor sweeps the files of a commit in the making, and dies; then the record comes and names them."""
    settle = ledger.settle

    def sweeping_first(dataset: Dataset, epoch: int) -> State:
        ledger.sweep(dataset, EpochGuard(dataset, epoch), ledger.state(dataset))
        return settle(dataset, epoch)

    reference, first = good
    taken, noted, swept = 1, 1, 2
    kill = Crash(taken + noted + swept, behind=True)
    overtaken(anew, reference, first["records"], kill)
    monkeypatch.setattr(ledger, "settle", sweeping_first)
    with pytest.raises(AssertionError, match="counts and is not there"):
        overtaken(anew, reference, first["records"], kill)


def test_a_run_that_never_writes_down_what_counts_is_found_out(
    anew: Anew, good: Good, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it and its successors commit is swept."""
    reference, first = good
    put: Callable[[Storage, str, bytes], None] = Storage.put

    def forgetful(storage: Storage, uri: str, data: bytes) -> None:
        if not uri.endswith(".accepted"):
            put(storage, uri, data)

    monkeypatch.setattr(Storage, "put", forgetful)
    with pytest.raises(AssertionError, match="a committed row does not count|computed again"):
        crashed(anew, reference, Crash(first["ends"]))


def _count_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if settling decided nothing for good."""

    def unsettled(dataset: Dataset, _: int) -> tuple[int, set[str]]:
        return 0, {record.name for record in ledger._records(dataset)}

    monkeypatch.setattr(ledger, "_last_settled", unsettled)
