"""Which names have been met, in little memory."""

from __future__ import annotations

import random
import tracemalloc

from facebatch.seen import Seen
from facebatch.storage import UNKNOWN


def test_it_answers_as_a_dictionary_would() -> None:
    chance, told, seen = random.Random(0), dict[str, str](), Seen()
    for _ in range(200):
        batch = {f"s3://bucket/{chance.randrange(20_000)}.jpg": f"{chance.randrange(2)}-v" for _ in range(300)}
        keys, versions = list(batch), list(batch.values())
        expected = [None if key not in told else told[key] == batch[key] for key in keys]
        assert seen.find(keys, versions) == expected
        new = [key for key in keys if key not in told]
        seen.add(new, [batch[key] for key in new])
        told |= {key: batch[key] for key in new}
    assert len(seen) == len(told) > 10_000


def test_a_version_that_is_not_known_differs_from_none() -> None:
    seen = Seen()
    seen.add(["a", "b"], ["10-v1", f"-1-{UNKNOWN}"])
    assert seen.find(["a", "b", "c"], [f"-1-{UNKNOWN}", "10-v1", "10-v1"]) == [True, True, None]


def test_nothing_is_known_of_nothing() -> None:
    seen = Seen()
    assert seen.find([], []) == []
    assert seen.find(["a"], ["1"]) == [None]
    seen.add([], [])
    assert len(seen) == 0


def test_a_name_costs_little_memory_however_long_it_is() -> None:
    seen = Seen()
    tracemalloc.start()
    for start in range(0, 100_000, 4096):
        keys = [f"s3://bucket/{'long/' * 30}{k}.jpg" for k in range(start, start + 4096)]
        seen.add(keys, ["1-v"] * len(keys))
    del keys
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 30 * len(seen)
