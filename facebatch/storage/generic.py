"""Any other scheme that fsspec knows (http, sftp, hdfs, memory, ...): for reading only."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO

import fsspec

from facebatch.errors import UsageError
from facebatch.storage import AccessDenied, NotFound, Object, StorageError


class Generic:
    """An fsspec file system, with its listing cache switched off."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        try:
            self._fs: Any = fsspec.filesystem(scheme, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise UsageError(f"{scheme}:// cannot be read: {error}") from None

    def objects(self, uri: str) -> Iterator[Object]:
        with _translated(uri):
            for folder, _, files in self._fs.walk(uri, detail=True):
                for name in sorted(files):
                    yield self._object(files[name], f"{self._scheme}://{folder.strip('/')}/{name}")

    def stat(self, uri: str, raw: bytes | None = None) -> Object | None:
        try:
            with _translated(uri):
                info = self._fs.info(uri)
        except NotFound:
            return None
        return self._object(info, uri) if info.get("type") == "file" else None

    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO:
        with _translated(uri):
            stream = self._fs.open(uri, "rb", block_size=8 << 20)
        return io.BufferedReader(_Stream(stream, uri), buffer_size=1 << 20)

    def read(self, uri: str, raw: bytes | None = None) -> tuple[bytes, Object]:
        with _translated(uri):
            data: bytes = self._fs.cat_file(uri)
            return data, self._object(self._fs.info(uri), uri)

    def put(self, uri: str, data: bytes) -> None:
        raise UsageError(f"{uri}: {self._scheme}:// is for reading only")

    def create(self, uri: str, data: bytes) -> bool:
        raise UsageError(f"{uri}: {self._scheme}:// is for reading only")

    def delete(self, uri: str) -> None:
        raise UsageError(f"{uri}: {self._scheme}:// is for reading only")

    def _object(self, info: dict[str, Any], uri: str) -> Object:
        version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created")
        if isinstance(version, datetime):  # some file systems give a number in listings and this in answers
            version = version.timestamp()
        if isinstance(version, float):
            version = round(version, 3)
        return Object(uri, int(info.get("size") or 0), str(version) if version else None)


class _Stream(io.RawIOBase):
    """A file of fsspec's, whose reads fail in our words: its own errors must not be taken for damage of the data."""

    def __init__(self, stream: Any, uri: str) -> None:
        self._stream, self._uri = stream, uri

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _translated(self._uri):
            data: bytes = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _translated(self._uri):
            return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    """Our errors for whatever the client behind a file system raises: OSErrors as a rule, but aiohttp's and paramiko's
    are of other kinds."""
    try:
        yield
    except (StorageError, MemoryError, GeneratorExit):
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{uri}: there is no such object") from error
    except PermissionError as error:
        raise AccessDenied(f"{uri}: {error}") from error
    except Exception as error:
        raise StorageError(f"{uri}: {error or type(error).__name__}") from error
