"""What the user sees while a run works."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from facebatch import progress
from facebatch.progress import Progress, Target, clock, listed
from facebatch.timeline import Timeline

COUNTS = {"images": 50, "faces": 7, "failed": 2, "skipped": 1, "bytes": 500}


def test_without_a_terminal_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.1)
    seen = io.StringIO()
    with Progress(Console(file=seen), Target(100, 1000), lambda: COUNTS):
        _until(lambda: seen.getvalue().count("\n") >= 2)
    lines = seen.getvalue().splitlines()
    assert len(lines) >= 2
    assert lines[0].startswith("50/100 images, 7 faces, 2 failed, 1 skipped, ")
    assert "images/s" in lines[0]
    assert "\x1b" not in seen.getvalue()


def test_on_a_terminal_one_line_is_drawn_over() -> None:
    seen = io.StringIO()
    with Progress(Console(file=seen, force_terminal=True, width=120), Target(100, 1000), lambda: COUNTS):
        _until(lambda: "50/100 images" in seen.getvalue())
    assert "50/100 images" in seen.getvalue()
    assert "\x1b[" in seen.getvalue()


def test_what_is_left_is_told_by_images_else_by_bytes_else_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for target, counts, left in (
        (Target(100, 1000), COUNTS, "0:10 left"),
        (Target(None, 2000), COUNTS, "0:30 left"),
        (Target(None, 2000), {}, "? left"),
    ):
        shown = Progress(Console(file=io.StringIO()), target, lambda counts=counts: counts)  # type: ignore[misc]
        shown._started = time.monotonic() - 10
        assert shown.line().endswith(left)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (751, "12:31"), (10931, "3:02:11")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_what_was_counted_is_sampled_and_the_end_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    counts = {"images": 0}
    with Progress(Console(file=io.StringIO()), Target(100, 1000), lambda: dict(counts)) as shown:
        shown._timeline = Timeline(every=0.01)
        _until(lambda: len(shown.timeline(60)) >= 5)
        counts["images"] = 77
    points = shown.timeline(60)
    assert len(points) >= 5
    assert points[0] == (0.0, 0, 0, 0)
    assert points[-1][1] == 77
    assert 0 < points[1][0] <= points[-1][0] <= 60
    assert shown.timeline(0) == [], "nothing was done since now"


def test_processes_are_listed_less_often_as_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = [1000.0], list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown = Progress(Console(file=io.StringIO()), Target(100, 1000), lambda: {"images": 0})
    monkeypatch.setattr(shown._family, "sample", lambda listed: looks.append(now[0] - 1000) if listed else None)
    for now[0] in range(1002, 1070, 2):
        shown._sample()
    assert looks == [2, 4, 8, 16, 32, 48, 64]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_long_listing_says_how_far_it_is() -> None:
    said: list[str] = []
    assert list(listed(range(600), said.append, every=0)) == list(range(600))
    assert said == ["0 objects listed", "256 objects listed", "512 objects listed"]
    said.clear()
    assert list(listed(range(600), said.append)) == list(range(600))
    assert said == []
