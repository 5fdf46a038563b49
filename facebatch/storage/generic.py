"""Any other scheme that fsspec knows (sftp, hdfs, memory, ...): for reading only.

What fsspec's file systems retry themselves differs from one to the next, and is little; so all calls are retried here.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.config import set_conf_env
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from facebatch.config import Storage as Options
from facebatch.errors import UsageError
from facebatch.storage import AccessDenied, NotFound, Object, StorageError, TooLarge
from facebatch.storage.again import again
from facebatch.storage.credentials import Credentials

T = TypeVar("T")

_LONGEST_WAIT = 15
"""Seconds between two attempts at most; before that at random up to 0.1, 0.2, 0.4, ..."""


class Generic:
    """An fsspec file system, with its listing cache switched off."""

    def __init__(self, root: str, options: Options, credentials: Credentials) -> None:
        self._scheme = root.partition("://")[0]
        settings: dict[str, dict[str, Any]] = {}
        set_conf_env(settings, credentials.of("fsspec"))
        try:
            kind = fsspec.get_filesystem_class(self._scheme)
            # Some schemes have a host (sftp://host/path), which their listings then leave out; others have none.
            place: dict[str, Any] = kind._get_kwargs_from_urls(root)
            given = {"use_listings_cache": False, **settings.get(self._scheme, {}), **place}
            self._fs: Any = fsspec.filesystem(self._scheme, **given)
        except (ValueError, ImportError) as error:
            raise UsageError(f"{self._scheme}:// cannot be read: {error}") from None
        except (OSError, TypeError) as error:
            raise StorageError(f"{root} cannot be reached: {credentials.hide(str(error))}") from error
        self._above = f"{root}/" if "host" in place else f"{self._scheme}://"
        self._attempts = Retrying(
            stop=stop_after_attempt(options.retries + 1),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_WAIT),
            retry=retry_if_exception(_is_transient),
            before_sleep=again,
            reraise=True,
        )

    def objects(self, uri: str) -> Iterator[Object]:
        # Not fsspec's own walk, which takes a folder that it could not list for an empty one.
        objects, folders = self.folder(uri)
        yield from objects
        for below in folders:
            yield from self.objects(below)

    def folder(self, uri: str) -> tuple[list[Object], list[str]]:
        try:
            with _translated(uri):
                entries = self._retried(lambda: self._fs.ls(uri, detail=True))
        except NotFound:
            return [], []
        objects, folders = [], []
        for entry in sorted(entries, key=lambda e: str(e["name"])):
            found = self._above + entry["name"].strip("/")
            if found.rstrip("/") == uri.rstrip("/"):  # a file lists as itself, and so do some folders
                continue
            if entry["type"] == "directory":
                folders.append(found + "/")
            else:
                objects.append(self._object(entry, found))
        return objects, folders

    def stat(self, uri: str, raw: bytes | None = None) -> Object | None:
        try:
            with _translated(uri):
                info = self._retried(lambda: self._fs.info(uri))
        except NotFound:
            return None
        return self._object(info, uri) if info.get("type") == "file" else None

    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO:
        with _translated(uri):
            stream = self._retried(lambda: self._fs.open(uri, "rb", block_size=8 << 20))
        return io.BufferedReader(_Stream(stream, uri, self._retried), buffer_size=1 << 20)

    def read(self, uri: str, raw: bytes | None = None, most: int | None = None) -> tuple[bytes, Object]:
        with _translated(uri):
            if most is not None:
                size = self._object(self._retried(lambda: self._fs.info(uri)), uri).size
                if size > most:
                    raise TooLarge(uri, size, most)
            data: bytes = self._retried(lambda: self._fs.cat_file(uri))
            return data, self._object(self._retried(lambda: self._fs.info(uri)), uri)

    def put(self, uri: str, data: bytes) -> None:
        raise UsageError(f"{uri}: {self._scheme}:// is for reading only")

    def create(self, uri: str, data: bytes) -> bool:
        raise UsageError(f"{uri}: {self._scheme}:// is for reading only")

    def delete(self, uri: str) -> None:
        raise UsageError(f"{uri}: {self._scheme}:// is for reading only")

    def _retried(self, call: Callable[[], T]) -> T:
        return self._attempts(call)

    def _object(self, info: dict[str, Any], uri: str) -> Object:
        version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created")
        if isinstance(version, datetime):  # some file systems give a number in listings and this in answers
            version = version.timestamp()
        if isinstance(version, float):
            version = round(version, 3)
        return Object(uri, int(info.get("size") or 0), str(version) if version else None)


class _Stream(io.RawIOBase):
    """A file of fsspec's, whose reads are retried and fail in our words: its own errors must not be taken for damage of
    the data."""

    def __init__(self, stream: Any, uri: str, retried: Callable[[Callable[[], bytes]], bytes]) -> None:
        self._stream, self._uri, self._retried = stream, uri, retried

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        start = self.tell()

        def read() -> bytes:
            self._stream.seek(start)  # where a read that broke off has left it is not said
            data: bytes = self._stream.read(len(buffer))
            return data

        with _translated(self._uri):
            data = self._retried(read)
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


_GONE, _DENIED, _LATER = (404, 410), (401, 403), (408, 425, 429)
_PROGRAMMING = (
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    NameError,
    NotImplementedError,
    AssertionError,
    ImportError,
)
_FINAL = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_FINAL_ERRNO = (errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later. Kinds that no one has heard of here are given the chance: aiohttp's and
    paramiko's errors have no class in common with anything."""
    if not isinstance(error, Exception) or isinstance(error, (*_FINAL, *_PROGRAMMING, StorageError, MemoryError)):
        return False
    if isinstance(error, OSError) and error.errno in _FINAL_ERRNO:
        return False
    status = _status(error)
    return status is None or status in _LATER or status >= 500


def _status(error: BaseException) -> int | None:
    """The HTTP status that a client's error carries, under one of the names in use."""
    for name in ("status", "status_code", "code"):
        status = getattr(error, name, None)
        if isinstance(status, (int, str)) and str(status).isdigit() and 400 <= int(status) < 600:
            return int(status)
    return None


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    """Our errors for whatever the client behind a file system raises: OSErrors as a rule, but aiohttp's and paramiko's
    are of other kinds."""
    try:
        yield
    except (StorageError, MemoryError, GeneratorExit):
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) or _status(error) in _GONE:
            raise NotFound(f"{uri}: there is no such object") from error
        if isinstance(error, PermissionError) or _status(error) in _DENIED:
            raise AccessDenied(f"{uri}: {error}") from error
        raise StorageError(f"{uri}: {error or type(error).__name__}") from error
