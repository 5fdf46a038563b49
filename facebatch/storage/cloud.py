"""S3, GCS and Azure through obstore: streaming listings with etags, range reads, and a real conditional create.

Why not fsspec here: s3fs reports a lost conditional create as EINVAL, caches listings, and pins botocore; pyarrow's
filesystems have no conditional create and no etags.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, BinaryIO, cast

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import from_url

from facebatch.config import Storage as Options
from facebatch.errors import UsageError
from facebatch.storage import AccessDenied, Changed, NotFound, Object, StorageError

_CHUNK = 8 << 20
"""Bytes of one range request when a tar is streamed."""


class Cloud:
    """One bucket. obstore retries 5xx, timeouts and dropped connections with exponential backoff and jitter."""

    def __init__(self, root: str, options: Options) -> None:
        self._root = root
        config: dict[str, Any] = {}
        client: dict[str, Any] = {"timeout": timedelta(seconds=options.timeout)}
        if options.endpoint:
            config["endpoint"] = options.endpoint
            client["allow_http"] = options.endpoint.startswith("http://")
        if options.region:
            config["region"] = options.region
        if options.anonymous:
            config["skip_signature"] = True
        retry = {"max_retries": options.retries, "retry_timeout": timedelta(seconds=4 * options.timeout)}
        try:
            self._store = from_url(root, config=config, client_options=client, retry_config=retry)  # type: ignore[call-overload]
        except (BaseError, ValueError, TypeError) as error:
            raise UsageError(f"{root} cannot be used with these storage settings: {_words(error)}") from error

    def objects(self, uri: str) -> Iterator[Object]:
        prefix = self._key(uri).rstrip("/")
        with _translated(uri):
            for page in obstore.list(self._store, prefix or None, chunk_size=1000):
                for found in page:
                    entry = self._object(cast(Any, found))
                    # Consoles make "folders": empty objects named `photos/`, which obstore shows as `photos`.
                    if entry.size or self.stat(entry.uri):
                        yield entry

    def stat(self, uri: str, raw: bytes | None = None) -> Object | None:
        key = self._key(uri)
        if not key or key.endswith("/"):
            return None
        try:
            with _translated(uri):
                return self._object(cast(Any, obstore.head(self._store, key)))
        except NotFound:
            return None

    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO:
        found = self.stat(uri)
        if found is None:
            raise NotFound(f"{uri}: there is no such object")
        return io.BufferedReader(_Ranges(self, found), buffer_size=_CHUNK)

    def read(self, uri: str, raw: bytes | None = None) -> tuple[bytes, Object]:
        with _translated(uri):
            answer = obstore.get(self._store, self._key(uri))
            return bytes(answer.bytes()), self._object(cast(Any, answer.meta))

    def read_range(self, found: Object, start: int, end: int) -> bytes:
        """Bytes start to end - 1, retried like any request, so a broken connection costs one range.

        Raises Changed when they are of another version than the object that was found.
        """
        with _translated(found.uri):
            answer = obstore.get(self._store, self._key(found.uri), options={"range": (start, end)})
            now = self._object(cast(Any, answer.meta))
            if (now.size, now.version) != (found.size, found.version):
                raise Changed(
                    f"{found.uri} was replaced while it was read: version {found.version} is now {now.version}"
                )
            return bytes(answer.bytes())

    def put(self, uri: str, data: bytes) -> None:
        with _translated(uri):
            obstore.put(self._store, self._key(uri), data, use_multipart=False)

    def create(self, uri: str, data: bytes) -> bool:
        try:
            with _translated(uri):
                # One single-part request: Ceph's gateway ignores the condition on multipart uploads.
                obstore.put(self._store, self._key(uri), data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return self.read(uri)[0] == data
        return True

    def delete(self, uri: str) -> None:
        try:
            with _translated(uri):
                obstore.delete(self._store, self._key(uri))
        except NotFound:
            return

    def _key(self, uri: str) -> str:
        return uri.removeprefix(self._root).lstrip("/")

    def _object(self, meta: Any) -> Object:
        mtime_ns = int(meta["last_modified"].timestamp() * 1e9)
        # Azure quotes the etag in answers and not in listings.
        etag = (meta.get("e_tag") or "").strip('"') or None
        return Object(f"{self._root}/{meta['path']}", meta["size"], etag, mtime_ns)


class _Ranges(io.RawIOBase):
    """A seekable raw stream made of independent range requests: seeking costs nothing, a failure costs one range."""

    def __init__(self, cloud: Cloud, found: Object) -> None:
        self._cloud, self._found, self._position = cloud, found, 0

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
        data = self._cloud.read_range(self._found, self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    """Our errors for obstore's, which are its own, FileNotFoundError, and ValueError for keys it cannot express."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{uri}: there is no such object") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise AccessDenied(f"{uri}: {_words(error)}") from error
    except (BaseError, OSError, ValueError) as error:
        raise StorageError(f"{uri}: {_words(error)}") from error


def _words(error: Exception) -> str:
    """The first paragraph; behind it obstore prints its inner structures."""
    return " ".join(str(error).split("\n\n")[0].split())[:300]
