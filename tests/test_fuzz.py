"""A short run of the fuzzer; `python -m tests.fuzz` is the long one."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import TARGETS, Target, fuzz
from tests.mutations import mutated


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.needs_models) if name == "torch" else name for name in TARGETS]
)
def test_damaged_files_are_read_or_refused_in_our_words(name: str) -> None:
    counts, _ = fuzz(TARGETS[name], seed=1, seconds=20, most=400)
    assert counts.total() >= 50
    assert set(counts) <= {"read", "refused"}, next(words for words in counts if words not in ("read", "refused"))


def test_a_reader_that_trips_is_found_out() -> None:
    def careless(name: str, data: bytes) -> None:
        if len(data) != 3:
            raise IndexError("beyond the end")

    counts, guilty = fuzz(Target(lambda: {"a": b"abc"}, careless), seed=0, seconds=10, most=50)
    assert guilty
    assert any("IndexError: beyond the end" in words for words in counts)


def test_the_same_seed_does_the_same_damage() -> None:
    made = [[mutated(b"abcdef" * 50, [b"123"], draw) for _ in range(50)] for draw in map(random.Random, (7, 7, 8))]
    assert made[0] == made[1] != made[2]
    assert len(set(made[0])) > 45
