"""Streams made of independent range requests: seeking costs nothing, and a broken connection costs one range."""

from __future__ import annotations

import io
from typing import Any, Protocol

from facebatch.storage import Object

CHUNK = 8 << 20
"""Bytes of one range request when a tar is streamed."""


class Reader(Protocol):
    """Whoever can read a part of an object. Raises Changed when it is no longer the object that was found."""

    def read_range(self, found: Object, start: int, end: int) -> bytes: ...


class Ranges(io.RawIOBase):
    """A seekable raw stream of an object, as it was found."""

    def __init__(self, reader: Reader, found: Object) -> None:
        self._reader, self._found, self._position = reader, found, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._found.size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._found.size)
        if end <= self._position:
            return 0
        data = self._reader.read_range(self._found, self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
