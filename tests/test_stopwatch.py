"""Where the time of a worker goes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from facebatch.stopwatch import Stopwatch, parts


def test_what_parts_take_is_added_up_until_it_is_taken_away() -> None:
    watch = Stopwatch()
    for part, seconds in (("decode", 0.02), ("detect", 0.01), ("decode", 0.02)):
        with watch.timing(part):
            time.sleep(seconds)
    taken = watch.taken()
    assert sorted(taken) == ["decode_us", "detect_us"]
    assert 40_000 <= taken["decode_us"] < 1_000_000
    assert 10_000 <= taken["detect_us"] < 1_000_000
    assert watch.taken() == {}


def test_what_fails_has_taken_its_time_too() -> None:
    def fails(seconds: float) -> float:
        time.sleep(seconds)
        return 1 / (seconds - seconds)

    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError):
        watch.around("decode", fails)(0.01)
    assert watch.taken()["decode_us"] >= 10_000


def test_a_function_timed_is_the_same_function() -> None:
    def next_one(number: int) -> int:
        time.sleep(0.01)
        return number + 1

    watch = Stopwatch()
    slow = watch.around("detect", next_one)
    assert [slow(1), slow(2)] == [2, 3]
    assert watch.taken()["detect_us"] >= 20_000


def test_of_a_stream_only_the_waiting_counts() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.01)
            yield number

    watch, seen = Stopwatch(), []
    for number in watch.waiting_for("read", slow()):
        time.sleep(0.1)  # what is done with an item is no part of it
        seen.append(number)
    assert seen == [0, 1, 2]
    assert 30_000 <= watch.taken()["read_us"] < 200_000


def test_an_item_may_be_nothing() -> None:
    assert list(Stopwatch().waiting_for("read", iter([None, None]))) == [None, None]


def test_counts_of_all_processes_tell_seconds_by_part() -> None:
    assert parts({"images": 7, "decode_us": 1_500_000, "moved": 3}) == {"decode": 1.5}
