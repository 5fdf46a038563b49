"""Erasing: faces of an image leave every object of the dataset, and no later run brings them back."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facebatch import config, epochs, ledger, plan
from facebatch.dataset import Dataset
from facebatch.epochs import taken
from facebatch.erase import Erased, erase
from facebatch.errors import FacebatchError, UsageError
from facebatch.ids import image_id
from facebatch.ledger import State, record_path
from facebatch.reasons import Reason
from facebatch.release import chosen, release
from facebatch.sink import Writer
from facebatch.sources import Columns, Kind, Source
from facebatch.storage import Object, Storage
from facebatch.work import Work
from tests.faults.world import Fragile, Killed
from tests.test_epochs import Blind, owned_by_a_dead_process
from tests.test_sink import FACTS, work


@pytest.fixture
def dataset(place: tuple[Storage, str]) -> Dataset:
    return _a_dataset(*place)


def _a_dataset(storage: Storage, root: str) -> Dataset:
    """Rows 0 to 6 of one shard in two commits, two faces each but for number 3, which is corrupt; and 7 and 8, which
    could not be read."""
    made = Dataset.at(storage, root)
    with taken(made) as epoch:
        ledger.settle(made, epoch.number)
        writer = Writer(made, epoch.guard, FACTS)
        writer.write([work(i, 2, reason=Reason.CORRUPT if i == 3 else None) for i in range(5)])
        writer.write([work(5, 2), work(6, 2)])
        writer.write([work(7, reason=Reason.NOT_FOUND), work(8, reason=Reason.NOT_FOUND)])
    return made


def _erased(dataset: Dataset, *names: str) -> Erased:
    with taken(dataset) as epoch:
        return erase(dataset, epoch.guard, ledger.settle(dataset, epoch.number), names)


def _rows(dataset: Dataset, table: str) -> pa.Table:
    """Of all objects, whether they count or not: what is erased must be in none."""
    objects = dataset.storage.objects(dataset.path(table) + "/")
    found = [pq.ParquetFile(io.BytesIO(dataset.storage.read(o.uri)[0])).read() for o in objects]
    return pa.concat_tables(found).sort_by("image_id")


def _id(index: int) -> str:
    return image_id(f"/photos/{index}.jpg", "")


def test_the_faces_are_gone_and_the_row_says_why(dataset: Dataset) -> None:
    before = _rows(dataset, "images").to_pylist()
    assert _erased(dataset, "/photos/1.jpg", _id(5)) == Erased(images=2, faces=4, before=0)
    assert not {_id(1), _id(5)} & set(_rows(dataset, "faces")["image_id"].to_pylist())
    assert _rows(dataset, "faces").num_rows == 8
    for was, now in zip(before, _rows(dataset, "images").to_pylist(), strict=True):
        if was["image_id"] not in (_id(1), _id(5)):
            assert now == was
            continue
        left = {name for name, value in now.items() if value is not None}
        assert left <= {
            *("image_id", "uri", "member", "shard_id", "index", "size_bytes"),
            *("status", "reason", "n_faces"),
        }
        assert (now["status"], now["reason"], now["n_faces"]) == ("skipped", "ERASED", 0)
        assert (now["uri"], now["index"]) == (was["uri"], was["index"])


def test_the_sums_stay_whole_and_nothing_is_left_to_do(dataset: Dataset) -> None:
    before = ledger.state(dataset)
    _erased(dataset, "/photos/1.jpg", "/photos/3.jpg")
    now = ledger.state(dataset)
    assert now.done == before.done == {"s1": [(0, 7)]}
    assert {key: n for key, n in now.totals().items() if n} == {
        **{"ok": 5, "failed": 2, "skipped": 2, "faces": 10},
        **{"skipped/ERASED": 2, "failed/NOT_FOUND": 2},
    }


def test_what_is_to_be_tried_again_has_no_faces_yet(dataset: Dataset) -> None:
    before = ledger.state(dataset).records
    with pytest.raises(UsageError, match=r"1 of these images are to be tried again .* '/photos/7.jpg', so nothing was"):
        _erased(dataset, "/photos/1.jpg", "/photos/7.jpg")
    assert ledger.state(dataset).records == before


def test_all_members_of_a_container_go_by_its_uri_and_one_by_its_id(tmp_path: Path) -> None:
    """Once it is indexed to its end, or a later run would index the rest."""
    made = Dataset.at(Storage(), str(tmp_path))
    plan.freeze(made, 0, [Source(Kind.TAR, Object("/a.tar", 10, None, 1), rows=None)], config.Shards())
    shard = plan.shards(made)[0].shard_id

    def member(index: int) -> Work:
        done = work(index, 2, shard)
        done.uri, done.member = "/a.tar", f"{index}.jpg"
        return done

    with taken(made) as epoch:
        ledger.settle(made, epoch.number)
        Writer(made, epoch.guard, FACTS).write([member(0), member(1)])
    assert _erased(made, image_id("/a.tar", "0.jpg")) == Erased(1, 2, 0)
    with pytest.raises(UsageError, match=r"'/a.tar' is not indexed to its end, .* run `facebatch index` first"):
        _erased(made, "/a.tar")
    with taken(made) as epoch:
        ledger.settle(made, epoch.number)
        Writer(made, epoch.guard, FACTS).write([member(2)])
        ledger.write_end(made, epoch.number, shard, 3, [])
    assert _erased(made, "/a.tar") == Erased(2, 4, before=1)
    assert _rows(made, "faces").num_rows == 0
    assert not ledger.state(made).missing(plan.shards(made)[0])


def test_a_table_of_which_a_part_has_no_row_yet_is_not_erased_by_its_uri(tmp_path: Path) -> None:
    made = Dataset.at(Storage(), str(tmp_path))
    table = Object("/rows.parquet", 10, None, 1)
    groups = [Source(Kind.ROWS, table, part=k, rows=1, start=k, columns=Columns("image")) for k in range(2)]
    plan.freeze(made, 0, groups, config.Shards())
    first = work(0, 2, plan.shards(made)[0].shard_id)
    first.uri, first.member = table.uri, "0"
    with taken(made) as epoch:
        ledger.settle(made, epoch.number)
        Writer(made, epoch.guard, FACTS).write([first])
    with pytest.raises(UsageError, match=r"'/rows.parquet' is not indexed to its end, .* name images in it by their"):
        _erased(made, table.uri)
    assert _rows(made, "faces").num_rows == 2
    assert _erased(made, image_id(table.uri, "0")) == Erased(1, 2, 0)


def test_what_is_erased_stays_so(dataset: Dataset) -> None:
    _erased(dataset, "/photos/1.jpg")
    files = {o.uri for o in dataset.storage.objects(dataset.path("faces") + "/")}
    assert _erased(dataset, "/photos/1.jpg") == Erased(0, 0, before=1)
    assert {o.uri for o in dataset.storage.objects(dataset.path("faces") + "/")} == files, "nothing is written again"
    assert _erased(dataset, "/photos/1.jpg", "/photos/2.jpg") == Erased(1, 2, before=1)
    with taken(dataset) as epoch:
        state = release(dataset, epoch.guard, ledger.settle(dataset, epoch.number), chosen(["CORRUPT"]))
    assert state.totals()["skipped/ERASED"] == 2
    with pytest.raises(UsageError, match="'ERASED' cannot be retried: its faces were erased"):
        chosen(["ERASED"])


def test_killed_at_any_write_it_loses_nothing_and_the_same_command_finishes(tmp_path: Path) -> None:
    whole = _a_dataset(Storage(), str(tmp_path / "whole"))
    names = ["/photos/1.jpg", "/photos/5.jpg"]
    _erased(whole, *names)
    wanted = [_rows(whole, table).to_pylist() for table in ("images", "faces")]
    kills = 0
    while True:
        storage, root = Fragile(tmp_path), str(tmp_path / f"{kills}")
        made = _a_dataset(storage, root)
        storage.last_write = storage.writes + kills
        try:
            _erased(made, *names)
        except Killed:
            kills += 1
        else:
            break
        again = Dataset.at(Storage(), root)
        if last := epochs.last_epoch(again):
            owned_by_a_dead_process(again, last)
        left = ledger.state(again)
        assert left.done == {"s1": [(0, 7)]}, f"after {kills - 1} writes"
        done = _erased(again, *names)
        assert (done.images + done.before, ledger.state(again).done) == (2, left.done)
        assert [_rows(again, table).to_pylist() for table in ("images", "faces")] == wanted, f"after {kills - 1} writes"
    assert kills > 10


def test_a_name_that_no_row_has_erases_nothing(dataset: Dataset) -> None:
    before = ledger.state(dataset)
    with pytest.raises(UsageError, match="1 of 2 names stand in no row .* e.g. '/photos/none.jpg'"):
        _erased(dataset, "/photos/1.jpg", "/photos/none.jpg")
    assert ledger.state(dataset).records == before.records


def test_records_without_such_an_image_are_not_written_anew(dataset: Dataset) -> None:
    before = ledger.state(dataset).records
    _erased(dataset, "/photos/5.jpg")
    now = ledger.state(dataset).records
    assert len([record for record in now if record in before]) == 2
    (new,) = (record for record in now if record not in before)
    assert (new.epoch, len(new.replaces)) == (2, 1)
    assert dataset.storage.stat(record_path(dataset, new.replaces[0])) is None


def test_a_table_that_is_not_the_one_that_was_committed_is_not_carried_over(dataset: Dataset) -> None:
    """What was erased before it is erased: no object with these faces is left."""
    first, last = (r for r in ledger.state(dataset).records if not r.retryable)
    good = dataset.storage.read(dataset.path(last.faces.path))[0]
    dataset.storage.put(dataset.path(last.faces.path), good + b"x")
    names = [f"/photos/{record.ranges['s1'][0][0]}.jpg" for record in (first, last)]
    with pytest.raises(FacebatchError, match="its sha256 differs.*run `facebatch verify"):
        _erased(dataset, *names)
    assert dataset.storage.stat(dataset.path(first.faces.path)) is None
    dataset.storage.put(dataset.path(last.faces.path), good)
    assert _erased(dataset, *names) == Erased(1, 2, before=1)


def test_a_table_that_cannot_be_read_is_named(dataset: Dataset) -> None:
    record = ledger.state(dataset).records[0]
    dataset.storage.put(dataset.path(record.images.path), b"PAR1 and no more")
    with pytest.raises(
        FacebatchError, match=f"{record.images.path} cannot be read, so nothing was erased: .*; run `facebatch verify"
    ):
        _erased(dataset, "/photos/1.jpg")


def test_what_an_overtaken_command_erases_stays(dataset: Dataset) -> None:
    zombie = epochs._take(dataset, 0)
    before: State = ledger.settle(dataset, zombie.number)
    owned_by_a_dead_process(dataset, 2)
    with taken(dataset) as epoch:
        settled = ledger.settle(dataset, epoch.number)
        erase(dataset, Blind(2), before, ["/photos/1.jpg"])  # it looked just before the takeover
        assert ledger.state(dataset).records == settled.records
    zombie._stop.set()
