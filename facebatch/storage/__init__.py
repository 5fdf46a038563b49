"""Objects, wherever they are: local files, S3, GCS, Azure, and (to read) HTTP and whatever else fsspec knows.

Two kinds of calls. *Reading* (`objects`, `stat`, `open`, `read`) works everywhere. *Writing* (`put`, `create`,
`delete`) works where a conditional create exists, because exactly-once rests on it: local disks and S3, GCS and Azure.

A URI is an absolute local path or `scheme://...`. Listings stream and are never cached.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from facebatch.config import Storage as Options
from facebatch.errors import FacebatchError, UsageError
from facebatch.ids import printable
from facebatch.storage.credentials import Credentials, gather

UNKNOWN = "unknown"
UNSIZED = -1
"""The size of an object that was named and not listed."""


@dataclass(frozen=True, slots=True)
class Object:
    """One object as a listing shows it."""

    uri: str
    size: int
    etag: str | None = None
    """What an object store calls its version; None for local files."""
    mtime_ns: int | None = None
    raw: bytes | None = None
    """The path's own bytes, where they are no valid UTF-8 and `uri` shows them escaped."""

    @property
    def version(self) -> str:
        """Changes when the content does: the etag, else the time of the last change; UNKNOWN without either."""
        return self.etag or (UNKNOWN if self.mtime_ns is None else str(self.mtime_ns))


class StorageError(FacebatchError):
    """A read or write failed after all retries; what is known about it is in the message."""


class NotFound(StorageError):
    """There is no such object."""


class AccessDenied(StorageError):
    """The storage refused, for lack of rights or of credentials."""


class Changed(StorageError):
    """The object was replaced while it was being read."""


class TooLarge(StorageError):
    """The object has more bytes than the reader wanted; none of them were read."""

    def __init__(self, uri: str, size: int, most: int) -> None:
        super().__init__(uri, size, most)
        self.uri, self.size, self.most = uri, size, most

    def __str__(self) -> str:
        return f"{self.uri} has {self.size} bytes, at most {self.most} are read"


class Backend(Protocol):
    """What a kind of storage has to offer. `raw` overrides the URI's path with bytes that are no valid UTF-8."""

    def objects(self, uri: str) -> Iterator[Object]: ...
    def folder(self, uri: str) -> tuple[list[Object], list[str]]: ...
    def stat(self, uri: str, raw: bytes | None = None) -> Object | None: ...
    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO: ...
    def read(self, uri: str, raw: bytes | None = None, most: int | None = None) -> tuple[bytes, Object]: ...
    def put(self, uri: str, data: bytes) -> None: ...
    def create(self, uri: str, data: bytes) -> bool: ...
    def delete(self, uri: str) -> None: ...


def scheme(uri: str) -> str:
    """'' for a local path, else what stands before `://`."""
    head, separator, _ = uri.partition("://")
    return head.lower() if separator else ""


def absolute(uri: str) -> str:
    """The URI under which an input is known: local paths become absolute, `file://` is dropped.

    Raises UsageError for a URI with a password in it, because URIs are written to tables, records and logs.
    """
    if scheme(uri) == "file":
        uri = uri.partition("://")[2].removeprefix("localhost")
    if kind := scheme(uri):
        refuse_secrets(uri)
        return kind + uri[len(kind) :]
    return os.path.abspath(os.path.expanduser(uri)) + ("/" if uri.endswith("/") and len(uri) > 1 else "")


def refuse_secrets(uri: str) -> None:
    """Raises UsageError for `scheme://user:password@host/...` and for presigned URLs, with the secret hidden."""
    if scheme(uri) and (shown := _signed(uri)):
        raise UsageError(
            f"{shown} is presigned: whoever reads the dataset could use its signature, and a run "
            "that goes on later could not. Name the object itself, and give credentials as environment variables"
        )
    if masked(uri) != uri:
        raise UsageError(
            f"{masked(uri)} has a password in it, which would end up in outputs and logs; give credentials as "
            "environment variables or with storage.profile, and the URI without them"
        )


def refuse_unknown(uri: str) -> None:
    """Raises UsageError for a URI of a kind that nothing here can read, or without a host or bucket."""
    from fsspec.registry import known_implementations, registry  # here, because only manifests ask

    kind, _, rest = uri.partition("://")
    if not scheme(uri):
        return
    if kind not in (*_CLOUD, "http", "https") and kind not in known_implementations and kind not in registry:
        raise UsageError(f"{uri[:100]} is of an unknown kind: {kind}:// is none that fsspec knows")
    if not rest.split("/")[0]:
        raise UsageError(f"{uri[:100]} names no host or bucket")


def without_secrets(text: str) -> str:
    """Text as it may stand in outputs: a URI in it keeps neither its password nor its signature."""
    if "://" not in text:
        return text
    return _signed(masked(text)) or masked(text)


def _signed(uri: str) -> str | None:
    """The URI without its query, if that holds a signature."""
    head, _, query = uri.partition("?")
    return f"{head}?***" if _SIGNATURE.search(unquote(query)) else None


def masked(uri: str) -> str:
    """The URI with `***` in place of a password before its host."""
    # A secret key of AWS may have slashes in it. No bucket has a colon, so there it cannot be anything else.
    pattern = _PASSWORD_BUCKET if scheme(uri) in _CLOUD else _PASSWORD
    return pattern.sub(r"\1***", uri, count=1)


def join(uri: str, *parts: str) -> str:
    """`uri` with further path segments."""
    return "/".join([uri.rstrip("/"), *parts])


class Storage:
    """All storage that a process talks to. Holds one client per kind and bucket.

    It pickles without the clients and with the credentials of the process that made it, so it may go to workers and
    must never go to a file.
    """

    def __init__(self, options: Options | None = None, credentials: Credentials | None = None) -> None:
        self.options = options or Options()
        self.credentials = gather(self.options) if credentials is None else credentials
        self._backends: dict[str, Backend] = {}

    def __reduce__(self) -> tuple[type[Storage], tuple[Options, Credentials]]:
        return Storage, (self.options, self.credentials)

    def __repr__(self) -> str:
        return f"Storage({self.credentials})"

    def objects(self, uri: str) -> Iterator[Object]:
        """Every object below a folder or prefix, at any depth; nothing where there is no such folder."""
        return self._backend(uri).objects(uri)

    def folder(self, uri: str) -> tuple[list[Object], list[str]]:
        """The objects directly in a folder or prefix, and the URIs, with a slash at the end, of the folders in it.

        The URI of a local folder whose name is no valid UTF-8 is for `folder` only, not for showing.
        """
        return self._backend(uri).folder(uri)

    def stat(self, uri: str, raw: bytes | None = None) -> Object | None:
        """The object itself, or None where there is none (a folder is none)."""
        return self._backend(uri).stat(uri, raw)

    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO:
        """A seekable stream of the object. Opening and reading raise NotFound, AccessDenied, Changed, StorageError."""
        return self._backend(uri).open(uri, raw)

    def read(self, uri: str, raw: bytes | None = None, most: int | None = None) -> tuple[bytes, Object]:
        """The object's bytes and what it is now. Raises NotFound, AccessDenied or StorageError.

        With `most`, an object of more bytes raises TooLarge before it is read.
        """
        return self._backend(uri).read(uri, raw, most)

    def put(self, uri: str, data: bytes) -> None:
        """Write the whole object at once; readers see the old one or the new one, never a part."""
        self._backend(uri).put(uri, data)

    def create(self, uri: str, data: bytes) -> bool:
        """Write the object if there is none. True when the object now there holds `data`, whoever wrote it.

        A create whose answer was lost and which is sent again finds its own object, so a conflict compares bytes.
        """
        return self._backend(uri).create(uri, data)

    def delete(self, uri: str) -> None:
        """Remove the object; it may be gone already."""
        self._backend(uri).delete(uri)

    def check_writable(self, uri: str) -> None:
        """Raises UsageError where this storage has no conditional create, or the name is no valid UTF-8."""
        if uri != printable(uri):
            raise UsageError(f"the output {printable(uri)} has a name that is no valid UTF-8; name another")
        if scheme(uri) not in ("", *_CLOUD):
            raise UsageError(
                f"the output {uri} cannot be on {scheme(uri)}://, which has no conditional create; "
                f"use a local folder or one of {', '.join(f'{s}://' for s in _CLOUD)}"
            )

    def _backend(self, uri: str) -> Backend:
        kind = scheme(uri)
        key = kind if kind in ("", *_WEB) else "://".join([kind, uri.partition("://")[2].split("/")[0]])
        if key not in self._backends:
            self._backends[key] = self._connect(kind, key)
        return self._backends[key]

    def _connect(self, kind: str, root: str) -> Backend:
        # Imported here: a laptop with local files needs none of the clients, and each costs start-up time.
        if kind == "":
            from facebatch.storage.local import Local

            return Local()
        if kind in _CLOUD:
            from facebatch.storage.cloud import Cloud

            return Cloud(root, self.options, self.credentials)
        if kind in _WEB:
            from facebatch.storage.web import Web

            return Web(self.options)
        from facebatch.storage.generic import Generic

        return Generic(root, self.options, self.credentials)


_CLOUD = ("s3", "gs", "az")
_WEB = ("http", "https")
_SIGNATURE = re.compile(r"(?:^|&)(?:X-(?:Amz|Goog|Oss)-Signature|q-signature|Signature|sig)=", re.IGNORECASE)
"""Of S3, Google, Alibaba, Tencent, CloudFront and Azure."""
_PASSWORD = re.compile(r"^((?:https?://(?=[^:/?#@]*@)|[^:/]+://[^/?#@:]*:))[^/?#]*(?=@)")
"""On the web also a token alone; elsewhere a user's name is none."""
_PASSWORD_BUCKET = re.compile(r"^([^:/]+://[^/@:]*:).*(?=@)", re.DOTALL)
