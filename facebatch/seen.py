"""Which objects have been met, in 24 bytes for each: what a listing of a hundred million names is compared with.

A set of Python strings would take 150 bytes or more. Digests of 128 bits stand for names (among a billion of them, two
are equal with a probability of 1e-21), in sorted arrays that are merged as they grow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from facebatch.storage import UNKNOWN

_NO_VERSION = 0
"""Stands for a version that is not known: it never differs from another."""


class Seen:
    """Keys and their versions. Grows only."""

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self._runs)

    def add(self, keys: Sequence[str], versions: Sequence[str]) -> None:
        """Remember keys that were not there before."""
        if not keys:
            return
        digests, marks = _digests(keys), np.array([_mark(v) for v in versions], np.uint64)
        order = np.argsort(digests)
        run = digests[order], marks[order]
        while self._runs and len(self._runs[-1][0]) <= 2 * len(run[0]):
            run = _merged(self._runs.pop(), run)
        self._runs.append(run)

    def find(self, keys: Sequence[str], versions: Sequence[str]) -> list[bool | None]:
        """For each key: None if it is new, else whether it has the version that it had."""
        digests = _digests(keys)
        found: list[bool | None] = [None] * len(keys)
        for known, marks in self._runs:
            at = np.minimum(np.searchsorted(known, digests), len(known) - 1)
            for k in np.flatnonzero(known[at] == digests).tolist():
                mark, now = int(marks[at[k]]), _mark(versions[k])
                found[k] = _NO_VERSION in (mark, now) or mark == now
        return found


def _merged(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    keys, marks = np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
    order = np.argsort(keys, kind="stable")
    return keys[order], marks[order]


def _digests(keys: Sequence[str]) -> np.ndarray:
    joined = b"".join(hashlib.blake2b(key.encode(), digest_size=16).digest() for key in keys)
    return np.frombuffer(joined, "S16")


def _mark(version: str) -> int:
    if version.endswith(UNKNOWN):
        return _NO_VERSION
    return int.from_bytes(hashlib.blake2b(version.encode(), digest_size=8).digest()) or 1
