"""Reading the arrays of an MXNet checkpoint (.params) without MXNet.

Source: the layout as MXNet's NDArray::Save and NDArray::Load write and read it, all little endian: u64 0x112, u64 0,
u64 count and the arrays, then u64 count and their names. An array is, by its first u32:

    0xF993FAC9 (V2)    i32 storage (0 is dense), u32 ndim, i64 dims, i32 device, i32 device number, i32 type, numbers
    0xF993FAC8 (V1)    u32 ndim, i64 dims, and so on
    ndim (before 0.11) u32 dims, and so on
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod

import numpy as np

from facebatch.errors import FacebatchError
from facebatch.importers import Given

MAGIC = (0x112).to_bytes(8, "little")
"""How every list of arrays begins."""
_V1, _V2 = 0xF993FAC8, 0xF993FAC9
_MOST_AXES = 8
_TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}


def read_params(given: Given) -> dict[str, np.ndarray]:
    """The arrays by name, without `arg:` and `aux:`, as read-only views of the file's bytes.

    Raises FacebatchError for anything else: another kind of file, a truncated one, one whose sizes cannot be. No memory
    is asked for on the word of a size in the file.
    """
    if not given.data.startswith(MAGIC):
        raise FacebatchError(f"{given.name} is no MXNet .params file: it does not begin with 0x112")
    reader = _Reader(given.data, len(MAGIC))
    try:
        _, count = reader.numbers("QQ")
        arrays = [reader.array() for _ in range(reader.plausible(count))]
        names = [reader.name() for _ in range(reader.plausible(*reader.numbers("Q")))]
        if len(names) != len(arrays):
            raise ValueError(f"{len(arrays)} arrays have {len(names)} names")
        if reader.left:
            raise ValueError(f"{reader.left} bytes follow its end")
    except (ValueError, struct.error) as error:
        raise FacebatchError(f"{given.name} is a damaged MXNet .params file: {error}") from error
    found = dict(zip(names, arrays, strict=True))
    if len(found) != len(arrays):
        twice = next(name for name in names if names.count(name) > 1)
        raise FacebatchError(f"{given.name} is a damaged MXNet .params file: it holds two arrays {twice!r}")
    return found


@dataclass(slots=True)
class _Reader:
    """The bytes from `at` on. Raises ValueError where there are too few."""

    data: bytes
    at: int

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def skip(self, size: int, what: str) -> int:
        """Where `size` bytes begin that are surely there."""
        if size > self.left:
            raise ValueError(f"it ends early: {self.left} of {size} bytes of {what}")
        start, self.at = self.at, self.at + size
        return start

    def numbers(self, kinds: str) -> tuple[int, ...]:
        layout = struct.Struct("<" + kinds)
        return layout.unpack_from(self.data, self.skip(layout.size, "a header"))

    def plausible(self, count: int) -> int:
        """The number of things that follow, each of which takes eight bytes or more."""
        if count > self.left // 8:
            raise ValueError(f"{count} entries cannot be in the {self.left} bytes that are left")
        return count

    def array(self) -> np.ndarray:
        (axes,) = self.numbers("I")
        dims = "q" if axes in (_V1, _V2) else "I"
        if axes == _V2:
            (storage,) = self.numbers("i")
            if storage != 0:
                raise ValueError(f"an array has storage type {storage}, and only dense ones (0) can be read")
        if axes in (_V1, _V2):
            (axes,) = self.numbers("I")
        if not 1 <= axes <= _MOST_AXES:
            raise ValueError(f"an array has {axes} axes, expected 1 to {_MOST_AXES}")
        shape = self.numbers(dims * axes)
        if min(shape) < 1:
            raise ValueError(f"an array has shape {shape}")
        *_, kind = self.numbers("iii")
        if kind not in _TYPES:
            raise ValueError(f"an array has type {kind}, expected one of {', '.join(map(str, _TYPES))}")
        dtype = np.dtype(_TYPES[kind])
        start = self.skip(prod(shape) * dtype.itemsize, f"an array of shape {shape}")
        return np.frombuffer(self.data, dtype, prod(shape), start).reshape(shape)

    def name(self) -> str:
        (size,) = self.numbers("Q")
        start = self.skip(size, "a name")
        name = self.data[start : start + size].decode()  # a UnicodeDecodeError is a ValueError
        return name.removeprefix("arg:").removeprefix("aux:")
