"""Releasing: a record is replaced by one that holds what is left of it, and nothing else is touched."""

from __future__ import annotations

import hashlib

import pytest

from facebatch import epochs, ledger
from facebatch.dataset import Dataset
from facebatch.epochs import taken
from facebatch.errors import UsageError
from facebatch.ledger import Record, State
from facebatch.plugins import EXTRAS
from facebatch.reasons import Reason
from facebatch.release import RELEASABLE, chosen, counts, curable, release
from facebatch.sink import Writer
from facebatch.storage import Object, Storage
from facebatch.work import Work
from tests.test_epochs import Blind, owned_by_a_dead_process
from tests.test_sink import FACTS, work

CORRUPT = frozenset({Reason.CORRUPT})


@pytest.fixture
def dataset(place: tuple[Storage, str]) -> Dataset:
    """Two commits: rows 0 to 4 of one shard, of which 1 and 3 are corrupt, and 5 to 6 of it, which are not."""
    made = Dataset.at(*place)
    with taken(made) as epoch:
        ledger.settle(made, epoch.number)
        writer = Writer(made, epoch.guard, FACTS)
        writer.write([work(i, 2, reason=Reason.CORRUPT if i % 2 else None) for i in range(5)])
        writer.write([work(i, 1, reason=Reason.EMPTY if i == 6 else None) for i in (5, 6)])
    return made


def _files(dataset: Dataset) -> set[str]:
    folders = ("images", "faces", "_facebatch/records")
    return {o.uri for folder in folders for o in dataset.storage.objects(dataset.path(folder) + "/")}


def _released(dataset: Dataset, reasons: frozenset[Reason] = CORRUPT) -> State:
    with taken(dataset) as epoch:
        return release(dataset, epoch.guard, ledger.settle(dataset, epoch.number), reasons)


def _of(state: State, epoch: int) -> Record:
    (record,) = (r for r in state.records if r.epoch == epoch)
    return record


def test_the_new_record_holds_what_is_left_of_the_old_one(dataset: Dataset) -> None:
    (old,) = (r for r in ledger.state(dataset).records if r.counts.get("failed/CORRUPT"))
    now = _released(dataset)
    new = _of(now, 2)
    assert (new.replaces, new.ranges) == ([old.name], {"s1": [(0, 1), (2, 3), (4, 5)]})
    assert new.counts == {"ok": 3, "no_face": 0, "failed": 0, "skipped": 0}
    assert (new.images.rows, new.faces.rows) == (3, 6)
    assert now.done == {"s1": [(0, 1), (2, 3), (4, 7)]}
    assert now.totals() == {"ok": 4, "no_face": 0, "failed": 1, "skipped": 0, "failed/EMPTY": 1, "faces": 7}
    for file in (new.images, new.faces):
        data = dataset.storage.read(dataset.path(file.path))[0]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)
    assert {new.images.path, new.faces.path} & {old.images.path, old.faces.path} == set(), (
        "whoever wrote the old ones may still remove them"
    )
    assert new.faces.sha256 == old.faces.sha256


def test_what_is_replaced_is_swept_at_once_and_other_records_are_not_even_read(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other,) = (r for r in ledger.state(dataset).records if r.counts.get("failed/EMPTY"))
    read = Storage.read
    seen: list[str] = []

    def noted(storage: Storage, uri: str, raw: bytes | None = None, most: int | None = None) -> tuple[bytes, Object]:
        seen.append(uri)
        return read(storage, uri, raw, most)

    monkeypatch.setattr(Storage, "read", noted)
    now = _released(dataset)
    assert len(_files(dataset)) == 6
    assert other in now.records
    assert not {dataset.path(other.images.path), dataset.path(other.faces.path)} & set(seen)


def test_a_reason_that_no_row_has_writes_nothing(dataset: Dataset) -> None:
    before = _files(dataset)
    state = _released(dataset, frozenset({Reason.TRUNCATED}))
    assert _files(dataset) == before
    assert counts(state, [Reason.TRUNCATED]) == {}
    assert counts(state, [Reason.EMPTY, Reason.CORRUPT]) == {"CORRUPT": 2, "EMPTY": 1}


def test_what_an_overtaken_run_releases_stays_where_it_was(dataset: Dataset) -> None:
    """Its record is void, and so is what it says of another one."""
    zombie = epochs._take(dataset, 0)
    before = ledger.settle(dataset, zombie.number)
    owned_by_a_dead_process(dataset, 2)
    with taken(dataset) as epoch:
        settled = ledger.settle(dataset, epoch.number)
        release(dataset, Blind(2), before, CORRUPT)  # it looked just before the takeover
        now = ledger.state(dataset)
        assert now.records == settled.records == before.records
        assert now.done == {"s1": [(0, 7)]}
    zombie._stop.set()


def test_a_record_may_be_replaced_again(dataset: Dataset) -> None:
    _released(dataset, frozenset({Reason.EMPTY}))
    _released(dataset)
    now = _released(dataset, frozenset({Reason.CORRUPT, Reason.EMPTY}))
    assert sorted(r.epoch for r in now.records) == [2, 3]
    assert now.done == {"s1": [(0, 1), (2, 3), (4, 6)]}
    with taken(dataset) as epoch:
        ledger.settle(dataset, epoch.number)
        Writer(dataset, epoch.guard, FACTS).write([work(1, 1), work(3), work(6, reason=Reason.EMPTY)])
    now = _released(dataset, frozenset({Reason.EMPTY}))
    assert now.done == {"s1": [(0, 6)]}
    assert now.totals()["faces"] == 8


def test_records_of_which_nothing_is_left_do_not_pile_up(dataset: Dataset) -> None:
    """Rows that fail again stand in records of their own, which the next retry releases whole."""
    for _ in range(4):
        with taken(dataset) as epoch:
            state = release(dataset, epoch.guard, ledger.settle(dataset, epoch.number), CORRUPT)
            assert state.done == {"s1": [(0, 1), (2, 3), (4, 7)]}
            for index in (1, 3):
                Writer(dataset, epoch.guard, FACTS).write([work(index, reason=Reason.CORRUPT)])
    now = ledger.state(dataset)
    assert now.done == {"s1": [(0, 7)]}
    assert sorted(record.images.rows for record in now.records) == [0, 1, 1, 2, 3]
    everything = frozenset({Reason.CORRUPT, Reason.EMPTY})
    assert sorted(record.images.rows for record in _released(dataset, everything).records) == [1, 3]


def test_each_record_is_replaced_by_one(dataset: Dataset) -> None:
    with taken(dataset) as epoch:
        ledger.settle(dataset, epoch.number)
        writer = Writer(dataset, epoch.guard, FACTS)
        writer.write([work(7, reason=Reason.CORRUPT), work(8)])
        writer.write([work(9, reason=Reason.CORRUPT)])
    stale = {r.name for r in ledger.state(dataset).records if r.counts.get("failed/CORRUPT")}
    names = [name for record in _released(dataset).records for name in record.replaces]
    assert len(names) == 3
    assert set(names) == stale


def test_every_final_reason_can_be_released_but_those_that_would_be_the_same_again() -> None:
    assert set(RELEASABLE) == {r for r in Reason if not r.retryable} - {
        Reason.SOURCE_CHANGED,
        Reason.GATED,
        Reason.ERASED,
    }
    assert chosen(["CORRUPT", "NOT_AN_IMAGE", "CORRUPT"]) == {Reason.CORRUPT, Reason.NOT_AN_IMAGE}
    assert chosen([]) == frozenset()


@pytest.mark.parametrize("word", ["NONSENSE", "corrupt", "", "no_face", "NOT_FOUND", "SOURCE_CHANGED"])
def test_what_cannot_be_released_is_refused_with_what_can(word: str) -> None:
    with pytest.raises(UsageError, match=f"{word!r} cannot be retried: .* What can is {', '.join(RELEASABLE)}$"):
        chosen([word])


def _heif(index: int, detail: str) -> Work:
    made = work(index)
    made.format = "HEIF"
    made.end(Reason.UNSUPPORTED_FORMAT, detail)
    return made


def test_only_what_an_absent_package_would_have_read_is_curable_once_it_is_there(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = "HEIF needs pillow-heif: pip install 'facebatch[heif]'"
    with taken(dataset) as epoch:
        ledger.settle(dataset, epoch.number)
        works = [_heif(7, absent), _heif(8, absent), _heif(9, "HEIF: a layout that libheif does not know")]
        Writer(dataset, epoch.guard, FACTS).write(works)
    monkeypatch.setitem(EXTRAS, "HEIF", ("there_is_no_such_module", "pillow-heif", "heif"))
    assert curable(ledger.state(dataset)) == {}
    monkeypatch.setitem(EXTRAS, "HEIF", ("json", "pillow-heif", "heif"))
    assert curable(ledger.state(dataset)) == {"HEIF": 2}
    assert curable(_released(dataset, frozenset({Reason.UNSUPPORTED_FORMAT}))) == {}
