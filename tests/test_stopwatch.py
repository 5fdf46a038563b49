"""Where the time of a worker goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from facebatch.stopwatch import Stopwatch, parts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that stands still until it is turned on."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def turn(seconds: float) -> None:
        now[0] += seconds

    return turn


def test_what_parts_take_is_added_up_until_it_is_taken_away(clock: Callable[[float], None]) -> None:
    watch = Stopwatch()
    for part, seconds in (("decode", 0.25), ("detect", 0.125), ("decode", 0.5)):
        with watch.timing(part):
            clock(seconds)
    assert watch.taken() == {"decode_us": 750_000, "detect_us": 125_000}
    assert watch.taken() == {}


def test_what_fails_has_taken_its_time_too(clock: Callable[[float], None]) -> None:
    def fails(seconds: float) -> float:
        clock(seconds)
        return 1 / (seconds - seconds)

    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError):
        watch.around("decode", fails)(0.5)
    assert watch.taken() == {"decode_us": 500_000}


def test_a_function_timed_is_the_same_function(clock: Callable[[float], None]) -> None:
    def next_one(number: int) -> int:
        clock(0.5)
        return number + 1

    watch = Stopwatch()
    slow = watch.around("detect", next_one)
    assert [slow(1), slow(2)] == [2, 3]
    assert watch.taken() == {"detect_us": 1_000_000}


def test_of_a_stream_only_the_waiting_counts(clock: Callable[[float], None]) -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            clock(0.5)
            yield number

    watch, seen = Stopwatch(), []
    for number in watch.waiting_for("read", slow()):
        clock(10)  # what is done with an item is no part of it
        seen.append(number)
    assert seen == [0, 1, 2]
    assert watch.taken() == {"read_us": 1_500_000}


def test_an_item_may_be_nothing() -> None:
    assert list(Stopwatch().waiting_for("read", iter([None, None]))) == [None, None]


def test_counts_of_all_processes_tell_seconds_by_part() -> None:
    counts = {"images": 7, "decode_us": 1_500_000, "moved": 3, "detector_micros": 9}
    assert parts(counts) == {"decode": 1.5}
