"""The slowest inputs, of all workers together."""

from __future__ import annotations

import random

from facebatch.slowest import MOST, Slow, Slowest
from facebatch.work import Work


def _work(index: int, **took: float) -> Work:
    work = Work("shard", index, f"/{index}.jpg", "member", 10)
    work.took = took
    return work


def _names(slow: list[Slow]) -> list[str]:
    return [one.uri for one in slow]


def test_where_the_seconds_went() -> None:
    assert Slowest().met([_work(3, decode=0.5, chip=0.25)]) == [
        Slow("/3.jpg", "member", 0.75, {"decode": 0.5, "chip": 0.25})
    ]


def test_the_slowest_of_all_workers_are_kept_whichever_had_them() -> None:
    """Also where one worker had nearly all of them, in one batch."""
    seconds = {k: 1 + k / 10_000 for k in range(1000)}
    expected = [f"/{k}.jpg" for k in range(999, 999 - MOST, -1)]
    rng = random.Random(1)
    for order in ("shuffled", "rising", "falling"):
        desk, workers, told = Slowest(), [Slowest() for _ in range(3)], 0
        numbers = sorted(seconds, reverse=order == "falling")
        if order == "shuffled":
            rng.shuffle(numbers)
        for at in range(0, 1000, 50):
            new = rng.choice(workers).met([_work(k, decode=seconds[k]) for k in numbers[at : at + 50]])
            told += len(new)
            desk.keep(new)
        assert _names(desk.ranked()) == expected, order
        assert told < 1000, "a worker tells of few"
        if order == "falling":
            assert told <= 3 * MOST


def test_an_image_that_was_computed_twice_is_kept_once_by_its_slower_time() -> None:
    desk = Slowest(most=3)
    for seconds in (2.0, 5.0, 3.0):
        desk.keep([Slow("/a.jpg", "", seconds, {})])
    assert desk.ranked() == [Slow("/a.jpg", "", 5.0, {})]


def test_what_was_never_decoded_is_no_slow_input() -> None:
    assert Slowest().met([_work(0), _work(1, decode=0.0)]) == []
