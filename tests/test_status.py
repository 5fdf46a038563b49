"""Status: how far a dataset is, told from its records."""

from __future__ import annotations

from pathlib import Path

import pytest

from facebatch import config, epochs, ledger, plan
from facebatch.dataset import Dataset
from facebatch.epochs import Standing
from facebatch.erase import erase
from facebatch.reasons import Reason
from facebatch.sink import Writer
from facebatch.sources import Kind, Source
from facebatch.status import describe, status
from facebatch.storage import Object, Storage
from facebatch.summary import begun
from tests.test_epochs import killed_run, owned_by_a_dead_process
from tests.test_sink import FACTS, work


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Ten planned images and a tar, of which six images are done."""
    made = Dataset.at(Storage(), str(tmp_path))
    made.open({**FACTS, "contract": {}})
    files = [Source(Kind.FILES, Object(f"/photos/{i}.jpg", 1000, None, 1), bytes=1000) for i in range(10)]
    plan.freeze(
        made,
        0,
        [*files, Source(Kind.TAR, Object("/0.tar", 5_000_000, None, 1), rows=None, bytes=5_000_000)],
        config.Shards(),
    )
    shard = next(s for s in plan.shards(made) if s.kind is Kind.FILES)
    with epochs.taken(made) as epoch:
        ledger.settle(made, epoch.number)
        works = [work(i, i % 2, shard.shard_id, reason=Reason.CORRUPT if i == 5 else None) for i in range(6)]
        Writer(made, epoch.guard, FACTS).write(works)
    return made


def _table(dataset: Dataset) -> dict[str, str]:
    return {what.strip(): f"{count} {remark}".strip() for what, count, remark in status(dataset)}


def test_it_tells_what_is_done_and_what_is_not(dataset: Dataset) -> None:
    table = _table(dataset)
    assert table["images"] == "6 of 10 and those of 1 unread containers planned"
    assert (table["ok"], table["no_face"], table["failed"], table["faces"]) == ("2", "3", "1 CORRUPT 1", "2")
    assert table["left"] == "4 and what 1 unread containers hold"
    assert table["shards"] == "0 of 2 done, 5.0 MB to do"
    assert table["run"] == "1 came to its end; run `facebatch index` again to go on"
    assert table["models"] == "yunet-n, edgeface-xs; contract c1"


def test_it_tells_a_run_at_work_from_one_that_was_killed(dataset: Dataset) -> None:
    with epochs.taken(dataset) as epoch:
        while epochs._heartbeat(dataset, epoch.number) is None:
            pass
        assert _table(dataset)["run"].startswith("2 is at work (process ")
    killed_run(dataset)
    owned_by_a_dead_process(dataset, 3)
    assert _table(dataset)["run"].startswith("3 stopped without an end (process ")
    assert "run `facebatch index` again to go on" in _table(dataset)["run"]
    settings = config.load(None, ["run.layout=split", "storage.region=x"], inputs=("/my photos",), output="/out")
    dataset.note_run(3, begun(settings))
    assert _table(dataset)["next"] == (
        "facebatch index --input '/my photos' --output /out run.layout=split storage.region=..."
    )


def test_what_failed_for_outside_reasons_is_among_what_is_left(dataset: Dataset) -> None:
    shard = next(s for s in plan.shards(dataset) if s.kind is Kind.FILES)
    with epochs.taken(dataset) as epoch:
        ledger.settle(dataset, epoch.number)
        lost = [work(i, 0, shard.shard_id, reason=Reason.NOT_FOUND) for i in (6, 7)]
        Writer(dataset, epoch.guard, FACTS).write(lost)
    words = "and what 1 unread containers hold; 2 of them failed for reasons outside them and are tried again"
    assert _table(dataset)["left"] == f"4 {words}"


def test_a_finished_dataset_asks_for_nothing(dataset: Dataset) -> None:
    shards = plan.shards(dataset)
    files, tar = sorted(shards, key=lambda s: s.kind)
    with epochs.taken(dataset) as epoch:
        ledger.settle(dataset, epoch.number)
        works = [*(work(i, 0, files.shard_id) for i in range(6, 10)), work(0, 0, tar.shard_id)]
        Writer(dataset, epoch.guard, FACTS).write(works)
        ledger.write_end(dataset, epoch.number, tar.shard_id, 1, [])
    table = _table(dataset)
    assert table["images"] == "11 of 11 planned"
    assert table["shards"] == "2 of 2 done, 0.0 MB to do"
    assert table["run"] == "2 came to its end"


@pytest.mark.parametrize(
    ("alive", "quiet", "words"),
    [
        (None, 4.0, "is probably at work (process 7 on there, last heartbeat 0:04 ago)"),
        (None, 400.0, "stopped without an end (process 7 on there, last heartbeat 6:40 ago); run"),
        (None, None, "stopped without an end (process 7 on there); run"),
        (False, 4.0, "stopped without an end (process 7 on there, last heartbeat 0:04 ago); run"),
    ],
)
def test_a_run_on_another_host_is_judged_by_its_heartbeat(alive: bool | None, quiet: float | None, words: str) -> None:
    assert describe(Standing(3, "process 7 on there", False, alive, quiet), finished=False).startswith(words)


def test_a_dataset_before_its_first_run_has_no_run(tmp_path: Path) -> None:
    empty = Dataset.at(Storage(), str(tmp_path))
    empty.open({**FACTS, "contract": {}})
    table = _table(empty)
    assert table["images"] == "0 of 0 planned"
    assert "run" not in table


def test_behind_an_erase_it_still_tells_what_to_type(dataset: Dataset) -> None:
    """Erasing takes a number as a run does, and notes nothing."""
    dataset.note_run(1, begun(config.load(None, [], inputs=("/photos",), output=dataset.root)))
    before = _table(dataset)["next"]
    assert before.startswith("facebatch index --input /photos")
    with epochs.taken(dataset) as epoch:
        erase(dataset, epoch.guard, ledger.settle(dataset, epoch.number), ["/photos/1.jpg"])
    now = _table(dataset)
    assert now["run"] == "2 came to its end; run `facebatch index` again to go on"
    assert (now["next"], now["skipped"]) == (before, "1 ERASED 1")
