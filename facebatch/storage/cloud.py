"""S3, GCS and Azure through obstore: streaming listings with etags, range reads, and a real conditional create.

Why not fsspec here: s3fs reports a lost conditional create as EINVAL, caches listings, and pins botocore; pyarrow's
filesystems have no conditional create and no etags.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import from_url
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from facebatch.config import Storage as Options
from facebatch.errors import UsageError
from facebatch.storage import (
    AccessDenied,
    Changed,
    NotFound,
    Object,
    StorageError,
    TooLarge,
    masked,
    refuse_secrets,
)
from facebatch.storage.again import again
from facebatch.storage.credentials import GOOGLE_FILES, Credentials
from facebatch.storage.ranges import CHUNK, Ranges

_SORTED = ("s3", "gs")
"""What lists in the order of keys whatever they are, so that a listing can go on behind one. Azure may not, where an
account has folders: there a listing that breaks off is an error."""
_ENDPOINT = {"s3": "endpoint", "gs": "base_url", "az": "endpoint"}
_SIGNED = timedelta(minutes=14)
"""A request is signed once, for all attempts at it, and S3 refuses signatures that are older than 15 minutes."""
_BACKOFF = 15
"""Seconds that obstore waits between two attempts at most."""


class Cloud:
    """One bucket. obstore retries 5xx, 429, timeouts and dropped connections with exponential backoff and jitter, and
    goes on where a body broke off. Not so a write whose connection drops, because it does not know that ours may be
    sent twice, and a listing whose body breaks off: these are retried here."""

    def __init__(self, root: str, options: Options, credentials: Credentials) -> None:
        self._root = root
        kind = root.partition("://")[0]
        config = credentials.of(kind)
        if options.endpoint:
            config[_ENDPOINT[kind]] = options.endpoint
        if options.region and kind == "s3":
            config["region"] = options.region
        provider = None
        if options.anonymous:
            config["skip_signature"] = "true"
        elif kind == "s3":
            provider = _keys(config)
        endpoint = config.get(_ENDPOINT[kind], "")
        _check_endpoint(kind, endpoint)
        self._again = Retrying(
            stop=stop_after_attempt(options.retries + 1),
            wait=wait_random_exponential(multiplier=0.1, max=_BACKOFF),
            retry=retry_if_exception(_is_dropped),
            before_sleep=again,
            reraise=True,
        )
        client = {"timeout": timedelta(seconds=options.timeout), "allow_http": endpoint.startswith("http://")}
        patience = timedelta(seconds=(options.retries + 1) * (options.timeout + _BACKOFF))
        retry = {"max_retries": options.retries, "retry_timeout": min(patience, _SIGNED)}
        try:
            with _files(config) as settings:
                self._store = from_url(  # type: ignore[call-overload]
                    root, config=settings, client_options=client, retry_config=retry, credential_provider=provider
                )
        except (BaseError, ValueError, TypeError) as error:
            words = credentials.hide(_words(error))
            raise UsageError(f"{root} cannot be used with these storage settings: {words}") from None

    def objects(self, uri: str) -> Iterator[Object]:
        prefix = self._key(uri).rstrip("/")
        with _translated(uri):
            for page in self._pages(prefix):
                for found in page:
                    entry = self._object(found)
                    # Consoles make "folders": empty objects named `photos/`, which obstore shows as `photos`.
                    if entry.size or self.stat(entry.uri):
                        yield entry

    def _pages(self, prefix: str) -> Iterator[Any]:
        """A thousand entries at a time, in the order of their keys."""
        stream: Iterator[Any] | None = None
        last: str | None = None
        kind = self._root.partition("://")[0]

        def following() -> Any:
            nonlocal stream
            stream = stream or iter(obstore.list(self._store, prefix or None, offset=last, chunk_size=1000))
            try:
                return next(stream, None)
            except BaseError as error:
                # The next attempt begins behind what was given; a broken stream would say that it is at its end.
                stream = None
                if last is not None and kind not in _SORTED:
                    raise StorageError(f"{self._root}/{prefix}: {_words(error)}") from error
                raise

        while page := self._again(following):
            last = page[-1]["path"]
            yield page

    def folder(self, uri: str) -> tuple[list[Object], list[str]]:
        prefix = self._key(uri).rstrip("/")
        with _translated(uri):
            answer = cast(Any, self._again(obstore.list_with_delimiter, self._store, prefix or None))
        entries = (self._object(found) for found in answer["objects"])
        objects = [entry for entry in entries if entry.size or self.stat(entry.uri)]
        return objects, [f"{self._root}/{below}/" for below in answer["common_prefixes"]]

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
        return io.BufferedReader(Ranges(self, found), buffer_size=CHUNK)

    def read(self, uri: str, raw: bytes | None = None, most: int | None = None) -> tuple[bytes, Object]:
        with _translated(uri):
            answer = obstore.get(self._store, self._key(uri))
            found = self._object(cast(Any, answer.meta))
            if most is not None and found.size > most:
                raise TooLarge(uri, found.size, most)
            return bytes(answer.bytes()), found

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
            self._again(obstore.put, self._store, self._key(uri), data, use_multipart=False)

    def create(self, uri: str, data: bytes) -> bool:
        try:
            with _translated(uri):
                # One single-part request: Ceph's gateway ignores the condition on multipart uploads.
                self._again(obstore.put, self._store, self._key(uri), data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return self.read(uri)[0] == data
        return True

    def delete(self, uri: str) -> None:
        try:
            with _translated(uri):
                self._again(obstore.delete, self._store, self._key(uri))
        except NotFound:
            return

    def _key(self, uri: str) -> str:
        return uri.removeprefix(self._root).lstrip("/")

    def _object(self, meta: Any) -> Object:
        # Whole seconds: Ceph and Google list milliseconds, and answer requests for the same object without them.
        mtime_ns = int(meta["last_modified"].timestamp()) * 10**9
        # Azure quotes the etag in answers and not in listings.
        etag = (meta.get("e_tag") or "").strip('"') or None
        return Object(f"{self._root}/{meta['path']}", meta["size"], etag, mtime_ns)


def _keys(config: dict[str, str]) -> Callable[[], Any] | None:
    """The keys as one unit, taken out of the settings. As settings they would be mixed with what this process's
    environment has: the driver's key with a worker's session token is refused."""
    if not (config.get("access_key_id") and config.get("secret_access_key")):
        return None
    credential = {
        "access_key_id": config.pop("access_key_id"),
        "secret_access_key": config.pop("secret_access_key"),
        "token": config.pop("session_token", None),
        "expires_at": None,
    }
    return lambda: credential


def _check_endpoint(kind: str, endpoint: str) -> None:
    if not endpoint:
        return
    refuse_secrets(endpoint)
    rival = os.environ.get("AWS_ENDPOINT_URL_S3")
    if kind == "s3" and rival and rival != endpoint:
        # obstore prefers it to any setting, and has no setting of that name.
        raise UsageError(
            f"the endpoint {endpoint} cannot be used while AWS_ENDPOINT_URL_S3 is set to {masked(rival)}; unset it"
        )


@contextmanager
def _files(config: dict[str, str]) -> Iterator[dict[str, str]]:
    """The settings, with files where obstore wants files. It reads them at once, so they are gone right after."""
    with TemporaryDirectory(prefix="facebatch-") as folder:  # mode 0700
        written = {}
        for key in GOOGLE_FILES.keys() & config.keys():
            path = Path(folder, f"{key}.json")
            path.write_text(config[key], encoding="utf-8")
            written[key] = str(path)
        yield config | written


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
        kind = AccessDenied if _REFUSED.search(str(error)) else StorageError
        raise kind(f"{uri}: {_words(error)}") from error


def _is_dropped(error: BaseException) -> bool:
    """Whether a connection was lost, at something that obstore has not tried again itself."""
    words = str(error).split("\n\n")[0]
    return isinstance(error, BaseError) and "HTTP error" in words and not _RETRIED.search(words)


def _words(error: Exception) -> str:
    """The first paragraph; behind it obstore prints its inner structures."""
    words = " ".join(str(error).split("\n\n")[0].split())[:300]
    if _ROLE.search(words):
        return (
            "no credentials are set (environment variables, storage.profile, or storage.anonymous=true for none), and "
            f"the role of this machine could not be asked: {words}"
        )
    return words


_REFUSED = re.compile(
    r"<Code>(ExpiredToken|InvalidToken|TokenRefreshRequired|InvalidAccessKeyId|SignatureDoesNotMatch|RequestExpired)<"
)
"""What S3 says of credentials, with the status of a mistake in the request where they have expired."""
_RETRIED = re.compile(r", after \d+ retries, max_retries")
_ROLE = re.compile(r"/latest/api/token|/computeMetadata/|/metadata/identity/")
"""Where machines of AWS, Google and Azure are asked for their roles, which obstore does for lack of anything else."""
