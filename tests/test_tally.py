"""What a process counts for itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from facebatch import tally


def test_what_is_counted_by_all_threads_is_taken_once() -> None:
    tally.taken()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: tally.add("slots", 2), range(1000)))
    tally.add("none", 0)
    assert tally.taken() == {"slots": 2000}
    assert tally.taken() == {}
