"""The log of a training run, and its plot."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from facebatch.training.curves import Log, plot, read

pytestmark = pytest.mark.reference


def test_entries_are_read_as_they_were_added(tmp_path: Path) -> None:
    log = Log(tmp_path / "curves.jsonl", 0)
    log.add(10, {"loss": 0.123456789, "score": 1.0})
    log.add(20, {"loss": 0.1})
    assert read(tmp_path / "curves.jsonl") == [{"step": 10, "loss": 0.123457, "score": 1.0}, {"step": 20, "loss": 0.1}]


def test_going_on_drops_what_lies_behind_the_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "curves.jsonl"
    log = Log(file, 0)
    for step in (10, 20, 30):
        log.add(step, {"loss": 1 / step})
    Log(file, 20).add(25, {"loss": 0.5})
    assert [entry["step"] for entry in read(file)] == [10, 20, 25]


def test_a_last_line_that_was_cut_off_is_left_out_and_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "curves.jsonl"
    Log(file, 0).add(10, {"loss": 0.5})
    file.write_text(file.read_text(encoding="utf-8") + '{"step": 20, "lo', encoding="utf-8")
    assert [entry["step"] for entry in read(file)] == [10]
    Log(file, 20).add(20, {"loss": 0.25})
    assert [entry["step"] for entry in read(file)] == [10, 20]


def test_there_may_be_no_log_yet(tmp_path: Path) -> None:
    assert read(tmp_path / "curves.jsonl") == []


def test_each_figure_has_a_panel_and_gaps_are_left_out(tmp_path: Path) -> None:
    """Four figures take a second row, three do not; figures that are not numbers are no reason to fail."""
    entries = [{"step": k, "a": k, "b": float("nan"), "c": 1.0} for k in (1, 2, 3)]
    plot(tmp_path / "three.png", entries)
    plot(tmp_path / "four.png", [*entries, {"step": 4, "a": 4, "b": 1.0, "c": 2.0, "late": 3.0}])
    three, four = (cv2.imread(str(tmp_path / name)) for name in ("three.png", "four.png"))
    assert three is not None
    assert four is not None
    assert four.shape[0] > 1.5 * three.shape[0]


def test_nothing_is_plotted_of_nothing(tmp_path: Path) -> None:
    plot(tmp_path / "none.png", [])
    assert not (tmp_path / "none.png").exists()
