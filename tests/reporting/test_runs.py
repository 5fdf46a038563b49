"""What runs have noted, and what a report says where they have not."""

from __future__ import annotations

from typing import Any

import pytest

from facebatch import config, epochs
from facebatch.dataset import Dataset
from facebatch.reporting import runs
from facebatch.reporting.runs import Run, chosen
from facebatch.reporting.table import Table
from facebatch.reporting.words import Value
from facebatch.summary import begun
from tests.reporting.conftest import note, summary
from tests.test_epochs import killed_run

NOTED = ("throughput", "stages", "slowest", "cost", "pools", "layout")
"""Tables of what a run notes at its end."""


def _values(table: Table) -> dict[Value, Value]:
    return dict(zip(table.column(table.columns[0]), table.column(table.columns[1]), strict=True))


def _tables(dataset: Dataset) -> dict[str, Table]:
    return {table.name: table for table in runs.tables(runs.noted(dataset))}


def test_the_last_run_that_computed_something_tells_what_it_took(local: Dataset) -> None:
    told = _tables(local)
    assert _values(told["stages"]) == {"decode": 6.5, "detect": 12.25, "write": 0.5}
    assert told["stages"].column("percent") == pytest.approx([33.77, 63.64, 2.6], abs=0.01)
    assert told["throughput"].rows == (
        (4.0, 10, 20, 1000, 2.5),
        (8.0, 50, 100, 5000, 10.0),
        (12.0, 60, 120, 6000, 2.5),
    )
    assert _values(told["cost"])["memory_gib"] == 3.0
    assert _values(told["cost"])["images_per_s"] == 5.0
    assert told["runs"].rows == ((1, "came to its end", 60, 12.0, 5.0, 3.0),)
    assert told["pools"].rows == (("index", 2, 1, 0.75, 0),)
    assert told["layout"].column("decision") == ["layout fused: one decode", "two actors"]
    assert [table.remark[:6] for name, table in told.items() if name != "runs"] == ["Run 1."] * 8
    settings = _values(told["settings"])
    assert (settings["run.layout"], settings["storage.region"], settings["inputs"]) == ("fused", "...", '["/photos"]')
    assert _values(told["versions"])["pyarrow"]


def test_slowest_are_told_with_where_their_seconds_went(local: Dataset) -> None:
    table = _tables(local)["slowest"]
    assert table.column("seconds") == [5.0 - k / 10 for k in range(12)]
    assert table.rows[0][1:] == ("", 5.0, 4.0, 1.0)


def _run(number: int, **record: Any) -> Run:
    return Run(number, record)


@pytest.mark.parametrize(
    ("noted", "number"),
    [
        ([], None),
        ([_run(3)], 3),
        ([_run(3), _run(2, totals={}, images=0)], 2),
        ([_run(4), _run(3, totals={}, images=0), _run(2, totals={}, images=7), _run(1, totals={}, images=9)], 2),
    ],
)
def test_of_several_runs_the_one_that_can_tell_most_is_chosen(noted: list[Run], number: int | None) -> None:
    run = chosen(noted)
    assert (run.number if run else None) == number


def test_a_run_that_was_killed_has_noted_how_it_began(local: Dataset) -> None:
    local.storage.delete(local.internal("runs", "00001.json"))
    killed_run(local)
    local.note_run(2, begun(config.load(None, ["detect.score=0.5"], inputs=("/p",), output="/out")))
    told = _tables(local)
    for name in NOTED:
        assert told[name].rows == ()
        assert told[name].remark == "Run 2 has noted no end, and this is noted only then."
    assert told["runs"].rows == ((2, "has noted no end", None, None, None, None),)
    assert _values(told["settings"])["detect.score"] == "0.5"


def test_a_killed_run_behind_a_whole_one_leaves_its_plots(local: Dataset) -> None:
    killed_run(local)
    local.note_run(2, begun(config.load(None, [], inputs=("/p",), output="/out")))
    told = _tables(local)
    assert told["stages"].remark.startswith("Run 1.")
    assert told["runs"].column("run") == [2, 1]


def test_a_record_of_an_earlier_facebatch_leaves_out_what_it_did_not_note(local: Dataset) -> None:
    record = local.run(1) or {}
    for word in ("timeline", "slowest", "moved_bytes", "pools", "planning_seconds"):
        del record[word]
    local.note_run(1, record)
    told = _tables(local)
    for name in ("throughput", "slowest", "pools"):
        assert told[name].rows == ()
        assert told[name].remark == "Run 1 has not noted this: it was made by an earlier facebatch."
    assert len(told["stages"].rows) == 3
    assert "planning_seconds" not in _values(told["cost"])


def test_a_run_that_found_nothing_to_do_says_so(local: Dataset) -> None:
    local.storage.delete(local.internal("runs", "00001.json"))
    idle = {"new_images": 0, "spent": {}, "timeline": (), "slowest": (), "pools": {}, "layout": ()}
    note(local, summary(**idle))
    told = _tables(local)
    for name in ("throughput", "stages", "slowest", "pools", "layout"):
        assert (told[name].rows, told[name].remark) == ((), "Run 1 has computed nothing.")
    assert "images_per_s" not in _values(told["cost"])


def test_without_any_note_every_table_says_why_it_is_empty(local: Dataset) -> None:
    local.storage.delete(local.internal("runs", "00001.json"))
    told = _tables(local)
    assert all(not table.rows and table.remark for table in told.values())


def test_of_many_runs_the_last_ones_are_read(local: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "last_epoch", lambda dataset: 500)
    for number in (499, 451, 450):
        note(local, summary(), number)
    assert [run.number for run in runs.noted(local)] == [499, 451]


def test_the_rate_of_a_moment_at_the_end_is_not_told(local: Dataset) -> None:
    """The end of a run may come right behind a point."""
    points = ((0.0, 0, 0, 0), (2.0, 10, 0, 0), (4.0, 20, 0, 0), (4.1, 30, 0, 0))
    note(local, summary(timeline=points))
    assert _tables(local)["throughput"].column("images_per_s") == [5.0, pytest.approx(20 / 2.1)]
