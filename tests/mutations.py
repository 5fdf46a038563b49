"""Damage: what happens to files on bad disks, in broken transfers, and in the hands of people who mean harm."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)
"""Sizes that somebody forgot to think of."""
_WORDS = (
    b"\0",
    b"\n",
    b'"',
    b",",
    b"{",
    b"[" * 2000,
    b"nan",
    b"1e999",
    b"-1",
    b"../",
    b"\xff\xfe",
    "\u202e😀".encode(),
)
Draw = random.Random


def mutated(data: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    """The file after one to six accidents. others: files that a part may come from."""
    for _ in range(draw.randint(1, 6)):
        data = draw.choice(_ACCIDENTS)(data, others, draw)
    return data


def _flipped(data: bytes, _: Sequence[bytes], draw: Draw) -> bytes:
    found = bytearray(data)
    for _bit in range(draw.choice((1, 1, 4, 32)) if found else 0):
        found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def _cut(data: bytes, _: Sequence[bytes], draw: Draw) -> bytes:
    return data[: draw.randint(0, len(data))]


def _number(data: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    """Most sizes stand near the beginning."""
    size, order = draw.choice((1, 2, 4, 8)), draw.choice(("little", "big"))
    value = draw.choice(_NUMBERS) & ((1 << 8 * size) - 1)
    end = max(len(data) - size, 0)
    at = draw.randint(0, min(end, draw.choice((64, 1024, end or 1))))
    return data[:at] + value.to_bytes(size, order) + data[at + size :]  # type: ignore[arg-type]


def _span(data: bytes, draw: Draw) -> tuple[int, int]:
    start = draw.randint(0, len(data))
    return start, min(len(data), start + draw.choice((1, 4, 64, 512, 4096)))


def _lost(data: bytes, _: Sequence[bytes], draw: Draw) -> bytes:
    start, end = _span(data, draw)
    return data[:start] + data[end:]


def _doubled(data: bytes, _: Sequence[bytes], draw: Draw) -> bytes:
    start, end = _span(data, draw)
    return data[:end] + data[start:end] * draw.choice((1, 1, 50)) + data[end:]


def _zeroed(data: bytes, _: Sequence[bytes], draw: Draw) -> bytes:
    start, end = _span(data, draw)
    return data[:start] + bytes(end - start) + data[end:]


def _noise(data: bytes, _: Sequence[bytes], draw: Draw) -> bytes:
    start, end = _span(data, draw)
    return data[:start] + draw.randbytes(end - start) + data[end:]


def _word(data: bytes, _: Sequence[bytes], draw: Draw) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + draw.choice(_WORDS) + data[at:]


def _spliced(data: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    other = draw.choice(others) if others else data
    return data[: draw.randint(0, len(data))] + other[draw.randint(0, len(other)) :]


_ACCIDENTS: tuple[Callable[[bytes, Sequence[bytes], Draw], bytes], ...] = (
    *(_flipped, _flipped, _number, _number),
    *(_cut, _lost, _doubled, _zeroed, _noise, _word, _spliced),
)
