"""Objects behind plain HTTP and HTTPS: for reading only, and without listings, which HTTP does not have.

Queries are part of the address (presigned URLs), redirects are followed, and HEAD is not counted on: presigned URLs
allow only the method that they were signed for. A query may be a credential, so errors do not show it.

A tar on a server without range requests is copied once to a temporary file, which is gone when it is closed.
"""

from __future__ import annotations

import io
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from tempfile import TemporaryFile, gettempdir
from typing import BinaryIO, TypeVar, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError
from urllib3.util import Retry

from facebatch.config import Storage as Options
from facebatch.errors import UsageError
from facebatch.storage import UNSIZED, AccessDenied, Changed, NotFound, Object, StorageError, TooLarge
from facebatch.storage.again import sent_again
from facebatch.storage.ranges import CHUNK, Ranges

T = TypeVar("T")

_LATER = (429, 500, 502, 503, 504)
_GONE, _DENIED, _NO_HEAD = (404, 410), (401, 403), (403, 405, 501)
_WHOLE, _PART, _NO_SUCH_RANGE = 200, 206, 416
_LONGEST_WAIT = 15
"""Seconds between two attempts at most, unless the server asks for more with Retry-After."""
_PIECE = 1 << 20
_CONNECTIONS = 64


class _Broken(Exception):
    """A body ended early or came too slowly."""


class Web:
    """All of HTTP. urllib3 retries until an answer begins; bodies that break off are asked for again here."""

    def __init__(self, options: Options) -> None:
        self._retry = Retry(
            total=options.retries,
            status_forcelist=_LATER,
            allowed_methods={"GET", "HEAD"},
            backoff_factor=0.1,
            backoff_max=_LONGEST_WAIT,
            backoff_jitter=0.1,
            raise_on_status=False,
            retry_after_max=4 * options.timeout,
        )
        self._options = options
        self._session = requests.Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # identity: lengths and ranges count the bytes of the object, not those of a compressed answer.
        self._session.headers.update({"Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=self._retry, pool_maxsize=_CONNECTIONS))

    def objects(self, uri: str) -> Iterator[Object]:
        raise UsageError(f"{_shown(uri)} is no object, and HTTP cannot list folders; name each file, or use a manifest")

    def folder(self, uri: str) -> tuple[list[Object], list[str]]:
        raise UsageError(f"{_shown(uri)}: HTTP cannot list folders; name each file, or use a manifest")

    def stat(self, uri: str, raw: bytes | None = None) -> Object | None:
        try:
            with self._answer("HEAD", uri) as answer:
                if answer.status_code == _WHOLE and (size := _length(answer)) is not None:
                    return _object(uri, answer, size)
            with self._answer("GET", uri, {"Range": "bytes=0-0"}) as answer:
                if (size := _whole_size(answer)) is not None:
                    return _object(uri, answer, size)
            with self._answer("GET", uri) as answer:  # a server that does not know the size before it has sent it all
                return _object(uri, answer, UNSIZED)
        except NotFound:
            return None

    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO:
        with self._answer("GET", uri, {"Range": "bytes=0-0"}) as answer:
            size = _whole_size(answer)
            if answer.status_code != _WHOLE and size is not None:
                return io.BufferedReader(Ranges(self, _object(uri, answer, size)), buffer_size=CHUNK)
        return self._copy(uri)

    def read(self, uri: str, raw: bytes | None = None, most: int | None = None) -> tuple[bytes, Object]:
        body = bytearray()
        found: Object | None = None

        def conditions() -> dict[str, str]:
            # What came already is kept where the server can go on from there with the very same object.
            if found is None or not body or not _is_strong(found.etag):
                return {}
            return {"Range": f"bytes={len(body)}-", "If-Range": str(found.etag)}

        def take(answer: requests.Response) -> Object:
            nonlocal found
            size = _whole_size(answer)
            if answer.status_code != _PART or _first_byte(answer) != len(body):
                body.clear()
            if most is not None and size is not None and size > most:
                raise TooLarge(_shown(uri), size, most)
            found = _object(uri, answer, size or 0)
            for piece in _pieces(answer, self._options.timeout):
                body.extend(piece)
                if most is not None and len(body) > most:
                    raise TooLarge(_shown(uri), len(body), most)
            if size is not None and len(body) != size:
                raise _Broken(f"the body ended after {len(body)} of {size} bytes")
            return _object(uri, answer, len(body))

        now = self._body(uri, conditions, take)
        return bytes(body), now

    def read_range(self, found: Object, start: int, end: int) -> bytes:
        """Bytes start to end - 1. Raises Changed when they are of another version than the object that was found."""
        condition = {"If-Range": str(found.etag)} if _is_strong(found.etag) else {}

        def take(answer: requests.Response) -> bytes:
            now = _object(found.uri, answer, _whole_size(answer) or 0)
            if (now.size, now.version) != (found.size, found.version):
                raise Changed(
                    f"{_shown(found.uri)} was replaced while it was read: version {found.version} of {found.size} "
                    f"bytes is now {now.version} of {now.size}"
                )
            if answer.status_code != _PART or _first_byte(answer) != start:
                raise StorageError(f"{_shown(found.uri)}: the server no longer answers with ranges")
            body = b"".join(_pieces(answer, self._options.timeout))
            if len(body) != end - start:
                raise _Broken(f"the range ended after {len(body)} of {end - start} bytes")
            return body

        return self._body(found.uri, lambda: {"Range": f"bytes={start}-{end - 1}", **condition}, take)

    def put(self, uri: str, data: bytes) -> None:
        raise UsageError(f"{_shown(uri)}: HTTP is for reading only")

    def create(self, uri: str, data: bytes) -> bool:
        raise UsageError(f"{_shown(uri)}: HTTP is for reading only")

    def delete(self, uri: str) -> None:
        raise UsageError(f"{_shown(uri)}: HTTP is for reading only")

    def _copy(self, uri: str) -> BinaryIO:
        """The whole object in a temporary file. It may take longer than one request may, but not stand still."""
        with ExitStack() as until_whole:
            file = cast(BinaryIO, until_whole.enter_context(TemporaryFile(prefix="facebatch-")))

            def take(answer: requests.Response) -> None:
                file.seek(0)
                file.truncate()
                for piece in _pieces(answer, None):
                    file.write(piece)

            try:
                self._body(uri, dict, take)
                file.seek(0)
            except OSError as error:
                raise StorageError(f"{_shown(uri)} cannot be copied to {gettempdir()}: {error.strerror}") from error
            until_whole.pop_all()
        return file

    def _body(self, uri: str, headers: Callable[[], dict[str, str]], take: Callable[[requests.Response], T]) -> T:
        """What `take` makes of an answer. Asks again when the body breaks off under it, `storage.retries` times with
        those that urllib3 needed for an answer to begin."""
        retry = self._retry
        while True:
            with self._answer("GET", uri, headers()) as answer:
                if answer.status_code == _NO_SUCH_RANGE:
                    raise StorageError(f"{_shown(uri)}: the server has no such range")
                try:
                    return take(answer)
                except (_Broken, HTTPError) as error:
                    spent = len(cast(Retry, answer.raw.retries).history)
                    broken = error
            try:
                retry = retry.new(total=cast(int, retry.total) - spent)
                retry = retry.increment("GET", error=ProtocolError(str(broken)))
            except MaxRetryError:
                raise StorageError(f"{_shown(uri)}: {broken}") from None
            sent_again(1, type(broken).__name__)
            retry.sleep()

    @contextmanager
    def _answer(self, method: str, uri: str, headers: dict[str, str] | None = None) -> Iterator[requests.Response]:
        """An answer whose body is not yet read, after redirects and retries."""
        try:
            answer = self._session.request(method, uri, headers=headers, stream=True, timeout=self._options.timeout)
        except requests.RequestException as error:
            if isinstance(_cause(error), MaxRetryError):
                sent_again(self._options.retries, type(error).__name__)
            raise StorageError(f"{_shown(uri)}: {_words(error)}") from None  # its own words have the whole address
        with answer:
            sent_again(len(cast(Retry, answer.raw.retries).history), "no good answer")
            if not (method == "HEAD" and answer.status_code in _NO_HEAD):
                _check(uri, answer)
            yield answer


def _check(uri: str, answer: requests.Response) -> None:
    status = answer.status_code
    words = f"{_shown(uri)}: the server answered {status} {answer.reason}"
    if status in _GONE:
        raise NotFound(words)
    if status in _DENIED:
        raise AccessDenied(words)
    if status not in (_WHOLE, _PART, _NO_SUCH_RANGE):
        raise StorageError(words)


def _pieces(answer: requests.Response, seconds: int | None) -> Iterator[bytes]:
    """The body as it comes. Raises _Broken when it is not done in time, and urllib3's errors, also for a body that is
    shorter than its Content-Length."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    while piece := answer.raw.read1(_PIECE, decode_content=False):
        yield piece
        if time.monotonic() > deadline:
            raise _Broken(f"the body was not there after {seconds} seconds (storage.timeout)")


def _whole_size(answer: requests.Response) -> int | None:
    """Bytes of the whole object; None where the server does not say."""
    if answer.status_code == _WHOLE:
        return _length(answer)
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _length(answer: requests.Response) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _first_byte(answer: requests.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _object(uri: str, answer: requests.Response, size: int) -> Object:
    when = answer.headers.get("Last-Modified")
    return Object(uri, size, answer.headers.get("ETag"), _nanoseconds(when) if when else None)


def _nanoseconds(date: str) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp()) * 10**9
    except ValueError:  # a server's clock in a format of its own says as much as none
        return None


def _is_strong(etag: str | None) -> bool:
    """Whether equal etags mean equal bytes; only such may be a condition on a range."""
    return etag is not None and etag.startswith('"')


def _shown(uri: str) -> str:
    address, query, _ = uri.partition("?")
    return address + ("?..." if query else "")


def _cause(error: requests.RequestException) -> object:
    """What urllib3 raised, in its own words."""
    return error.args[0] if error.args else None


def _words(error: requests.RequestException) -> str:
    """Why there was no answer, in words without the address."""
    cause = _cause(error)
    reason = cause.reason if isinstance(cause, MaxRetryError) else None
    return str(reason) if reason else type(error).__name__
