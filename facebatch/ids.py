"""Identities: the same input gets the same ids in every run, on every machine, without a counter or a database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def image_id(uri: str, member: str) -> str:
    """First 32 hex digits of sha256 over the identity (container URI, NUL, member).

    A loose file is its own URI with member ''. NUL separates because it can stand in neither part.
    """
    return hashlib.sha256(f"{uri}\0{member}".encode()).hexdigest()[:32]


def face_id(image: str, face_index: int) -> str:
    """`image_id-face_index`; the index orders the faces of one image by score, see `facebatch.detect`."""
    return f"{image}-{face_index}"


def shard_id(kind: str, entries: Iterable[tuple[str, int, str]]) -> str:
    """First 16 hex digits of sha256 over what the shard holds: (key, size, version) of each of its entries.

    A shard is its content: two plans that hold the same objects name the same shard.
    """
    digest = hashlib.sha256(kind.encode())
    for key, size, version in entries:
        digest.update(f"\0{key}\0{size}\0{version}".encode())
    return digest.hexdigest()[:16]


def printable(name: str) -> str:
    """A file name as valid UTF-8, for columns and ids: bytes that are no UTF-8 appear as `\\xff`."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair, as JSON may hold: no bytes of any file
        return name.encode("utf-8", "backslashreplace").decode()
