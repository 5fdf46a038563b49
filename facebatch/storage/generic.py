"""Any other scheme that fsspec knows (http, sftp, hdfs, memory, ...): for reading only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, cast

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
        try:
            for folder, _, files in self._fs.walk(uri, detail=True):
                for name in sorted(files):
                    yield self._object(files[name], f"{self._scheme}://{folder.strip('/')}/{name}")
        except OSError as error:
            raise _translated(error, uri) from error

    def stat(self, uri: str, raw: bytes | None = None) -> Object | None:
        try:
            info = self._fs.info(uri)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _translated(error, uri) from error
        return self._object(info, uri) if info.get("type") == "file" else None

    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO:
        try:
            return cast(BinaryIO, self._fs.open(uri, "rb", block_size=8 << 20))
        except OSError as error:
            raise _translated(error, uri) from error

    def read(self, uri: str, raw: bytes | None = None) -> tuple[bytes, Object]:
        try:
            data: bytes = self._fs.cat_file(uri)
            return data, self._object(self._fs.info(uri), uri)
        except OSError as error:
            raise _translated(error, uri) from error

    def put(self, uri: str, data: bytes) -> None:
        raise UsageError(f"{uri}: {self._scheme}:// is for reading only")

    def create(self, uri: str, data: bytes) -> bool:
        raise UsageError(f"{uri}: {self._scheme}:// is for reading only")

    def delete(self, uri: str) -> None:
        raise UsageError(f"{uri}: {self._scheme}:// is for reading only")

    def _object(self, info: dict[str, Any], uri: str) -> Object:
        etag = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created")
        return Object(uri, int(info.get("size") or 0), str(etag) if etag else None)


def _translated(error: OSError, uri: str) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{uri}: there is no such object")
    if isinstance(error, PermissionError):
        return AccessDenied(f"{uri}: {error}")
    return StorageError(f"{uri}: {error}")
