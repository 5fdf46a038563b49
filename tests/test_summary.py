"""How a run ended, for people and for machines."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from facebatch import config
from facebatch.slowest import Slow
from facebatch.summary import Spared, Summary, report, rows, show

SUMMARY = Summary(
    totals={
        "ok": 5,
        "no_face": 2,
        "failed": 4,
        "skipped": 0,
        "failed/CORRUPT": 1,
        "failed/TRUNCATED": 3,
        "faces": 9,
    },
    planned=11,
    new_images=11,
    seconds=2.0,
    whole_seconds=8.0,
    peak_bytes=3 << 29,
    output="/out",
)


def _shown(summary: Summary) -> list[list[str]]:
    file = io.StringIO()
    show(Console(file=file, width=120), rows(summary))
    return [line.split() for line in file.getvalue().splitlines()]


def test_the_table_accounts_for_every_image() -> None:
    lines = _shown(SUMMARY)
    assert lines[:6] == [
        ["images", "11", "of", "11", "planned"],
        ["ok", "5"],
        ["no_face", "2"],
        ["failed", "4", "TRUNCATED", "3,", "CORRUPT", "1"],
        ["skipped", "0"],
        ["faces", "9"],
    ]
    assert lines[6][:3] == ["rate", "5.5", "images/s:"]
    assert lines[7][:2] == ["memory", "1.50"]
    assert lines[-1] == ["tables", "/out/images/*.parquet", "/out/faces/*.parquet"]


def test_a_gate_says_what_it_has_saved() -> None:
    """100 images; 60 show nobody. The detector took 20 ms for each of 40, the gate 2 ms for each of 100."""
    spared = Spared.of({"gate": 100, "gate_micros": 200_000, "detector": 40, "detector_micros": 800_000, "images": 120})
    assert spared == Spared(looked=100, nobody=60, gate=0.2, detector=0.8)
    assert spared is not None
    assert spared.seconds == pytest.approx(60 * 0.02 - 0.2)
    row = next(line for line in _shown(replace(SUMMARY, spared=spared)) if line[0] == "gate")
    assert " ".join(row) == (
        "gate 60 of 100 images show nobody: 1.0 s of work saved (2.0 ms an image, the detector 20.0)"
    )
    assert report(config.Config(), replace(SUMMARY, spared=spared))["spared"]["nobody"] == 60


def test_a_gate_that_cost_more_than_it_saved_says_that_too() -> None:
    dear = Spared(looked=10, nobody=1, gate=0.5, detector=0.18)
    assert dear.seconds == pytest.approx(0.02 - 0.5)
    assert "0.5 s of work lost" in dear.row[2]
    nobody = Spared(looked=10, nobody=10, gate=0.5, detector=0.0)
    assert nobody.seconds is None
    assert nobody.row == ("gate", "10", "of 10 images show nobody; the detector never ran")


def test_without_a_gate_nothing_is_said_of_one() -> None:
    assert Spared.of({"images": 3, "gate": 0, "detector": 3, "detector_micros": 5}) is None
    assert not any(line[0] == "gate" for line in _shown(SUMMARY))


def test_a_run_without_work_says_so_and_claims_no_speed() -> None:
    lines = _shown(replace(SUMMARY, new_images=0))
    assert ["time", "0:08", "in", "all,", "nothing", "new"] in lines
    assert not any(line[0] in ("rate", "memory") for line in lines)


def test_the_record_tells_how_it_was_done_but_not_how_storage_is_reached() -> None:
    settings = config.load(None, ["storage.endpoint=http://secret:9000", "run.layout=split"], output="/out")
    content = report(settings, SUMMARY)
    assert content["config"]["run"]["layout"] == "split"
    assert content["versions"]["ray"]
    assert content["provider"] is None
    assert report(settings, replace(SUMMARY, provider="cuda"))["provider"] == "cuda"
    assert content["totals"] == SUMMARY.totals
    assert content["storage"] == ["endpoint"]
    assert "secret" not in json.dumps(content)


def test_the_record_tells_what_the_parts_cost_and_how_the_workers_were_laid_out() -> None:
    """Seconds of workers are neither a core's nor a GPU's before one knows how many threads and GPUs each had."""
    pools = {"index": {"actors": 2, "threads": 3, "cpus": 3.0, "gpus": 0.5}}
    content = report(config.Config(), replace(SUMMARY, spent={"detect": 4.0}, pools=pools, planning_seconds=0.25))
    assert (content["spent"], content["pools"], content["planning_seconds"]) == ({"detect": 4.0}, pools, 0.25)


def test_the_record_tells_what_was_done_when_and_which_images_took_longest() -> None:
    slow = Slow("/a.tar", "b.jpg", 3.0, {"decode": 3.0})
    content = report(config.Config(), replace(SUMMARY, timeline=((0.0, 0, 0, 0), (2.0, 11, 9, 5000)), slowest=(slow,)))
    told = json.loads(json.dumps(content))
    assert told["timeline"] == [[0.0, 0, 0, 0], [2.0, 11, 9, 5000]]
    assert told["slowest"] == [{"uri": "/a.tar", "member": "b.jpg", "seconds": 3.0, "parts": {"decode": 3.0}}]
