"""Reading tar shards as a stream: one item for each regular member, in the order of the archive.

Why not the readers at hand. Ray's `read_webdataset` loses samples when a read is retried and joins `IMG.1234.jpg` with
`IMG.5678.jpg`; `tarfile`'s own iteration ends without a word at a damaged header. Here the standard library parses
the headers and the loop around them is ours: a member is known by its position, data that is not wanted is skipped by
seeking, and a damaged archive ends with an item that says so.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import struct
import tarfile
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from facebatch.ids import printable
from facebatch.reasons import Reason
from facebatch.sources import Item, Ranges, inside
from facebatch.sources.files import changed, failure
from facebatch.storage import NotFound, Object, Storage, StorageError

_DAMAGE = (
    tarfile.TarError,
    EOFError,
    ValueError,
    OverflowError,
    LookupError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)
_ZEROS_AFTER_END = 1 << 20
"""How far to look for a second archive behind the end marker (`cat a.tar b.tar`); padding is 10 KiB as a rule."""


class Incomplete(Exception):
    """The storage failed in mid-archive: the items so far stand, how many there are is not known."""


@dataclass(frozen=True, slots=True)
class End:
    """What is known at the end of a tar: `count` items, of which those in `gone` can never be read any more."""

    count: int
    gone: Ranges


def read_tar(storage: Storage, planned: Object, done: Ranges, max_bytes: int) -> Generator[Item, None, End]:
    """The items of one tar, without those whose index is done already; the generator's value is the archive's end.

    A damaged archive or a changed one yields one last item with member '' and the reason. Raises Incomplete, after an
    item that tells why, when the storage failed: then the count is unknown and a later run has to read on.
    """
    index = 0

    def container(reason: Reason, detail: str) -> Item:
        return Item(index, planned.uri, "", planned.size, planned.etag, planned.mtime_ns, None, reason, detail)

    try:
        now = storage.stat(planned.uri)
        if now is None:
            raise NotFound(f"{planned.uri}: there is no such object")
        if change := changed(planned, now):
            index = max((high for _, high in done), default=0)
            yield container(Reason.SOURCE_CHANGED, change)
            return End(index + 1, _gaps(done))
        with storage.open(planned.uri, planned.raw) as stream:
            members = _members(stream, planned.size)
            names = _Names()
            while True:
                try:
                    member = next(members, None)
                    if member is None:
                        return End(index, [])
                    name = names.unique(printable(member.name))
                    item = None if inside(index, done) else _item(index, planned.uri, name, member, max_bytes)
                except _DAMAGE as error:
                    if not inside(index, done):
                        yield container(Reason.BROKEN_CONTAINER, f"after {index} members: {error or 'it ends early'}")
                    return End(index + 1, [])
                except OSError as error:
                    if error.errno is None:  # how gzip and bz2 report bad data
                        yield container(Reason.BROKEN_CONTAINER, f"after {index} members: {error}")
                        return End(index + 1, [])
                    raise StorageError(f"{planned.uri}: {error.strerror}") from error
                if item:
                    yield item
                index += 1
    except (StorageError, MemoryError) as error:
        yield container(*failure(error))
        raise Incomplete(str(error)) from error


class _Tar(tarfile.TarFile):
    """`TarFile` whose `next` raises at a damaged header, where the original returns None as at the end."""

    def next(self) -> tarfile.TarInfo | None:
        stream = cast(BinaryIO, self.fileobj)
        zeros = 0
        while True:
            stream.seek(self.offset)
            try:
                return self.tarinfo.fromtarfile(self)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
                zeros += tarfile.BLOCKSIZE
                self.offset += tarfile.BLOCKSIZE
                if zeros > _ZEROS_AFTER_END:
                    return None
            except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
                if self.offset == 0:
                    raise tarfile.ReadError("it is empty") from None
                return None  # no end marker: some writers leave it out
            except tarfile.HeaderError:
                if zeros >= 2 * tarfile.BLOCKSIZE:
                    return None  # whatever stands behind a proper end marker is no part of the archive
                raise


class _Member:
    """A regular member whose data has not been read yet."""

    def __init__(self, tar: _Tar, info: tarfile.TarInfo) -> None:
        self._tar, self._info = tar, info
        self.name, self.size, self.mtime_ns = info.name, info.size, int(info.mtime * 1e9)

    def read(self) -> bytes:
        """The data; shorter than `size` where the archive ends early."""
        if self._info.issparse():
            return cast(BinaryIO, self._tar.extractfile(self._info)).read()
        stream = cast(BinaryIO, self._tar.fileobj)
        stream.seek(self._info.offset_data)
        return stream.read(self.size)


def _members(stream: BinaryIO, size: int) -> Generator[_Member, None, None]:
    """Regular members in order. The caller reads a member before it asks for the next one, or never."""
    inner = _decompressed(stream)
    tar = _Tar(fileobj=inner, mode="r")
    info = cast(Any, tar).firstmember
    while info is not None:
        if info.isreg():
            yield _Member(tar, info)
            if not info.issparse():
                end = info.offset_data + info.size
                # A plain file can be positioned behind its end, a decompressor stops there: both mean data is missing.
                if inner.seek(end) < end or (inner is stream and end > size):
                    raise tarfile.ReadError(f"it ends inside the member {printable(info.name)!r}")
        cast(Any, tar).members.clear()  # the list of all members is the memory that this reader does not spend
        info = tar.next()


def _item(index: int, uri: str, name: str, member: _Member, max_bytes: int) -> Item:
    if member.size > max_bytes:
        detail = f"{member.size} bytes, at most {max_bytes} are read (decode.max_bytes)"
        return Item(index, uri, name, member.size, None, member.mtime_ns, None, Reason.TOO_MANY_BYTES, detail)
    return Item(index, uri, name, member.size, None, member.mtime_ns, member.read())


def _decompressed(stream: BinaryIO) -> BinaryIO:
    """The tar inside, told by its first bytes and not by its name."""
    magic = stream.read(6)
    stream.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if magic.startswith(b"BZh"):
        return cast(BinaryIO, bz2.BZ2File(stream))
    if magic.startswith(b"\xfd7zXZ\x00"):
        return cast(BinaryIO, lzma.LZMAFile(stream))
    return stream


def _gaps(done: Ranges) -> Ranges:
    """The holes between finished ranges, from 0 to the last of them."""
    holes, reached = [], 0
    for low, high in sorted(done):
        if low > reached:
            holes.append((reached, low))
        reached = max(reached, high)
    return holes


class _Names:
    """Member names made unique: the k-th repeat of a name gets `#k`, or the next k that no member has."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()  # digests: a name costs some 40 bytes here, however long it is
        self._repeats: dict[bytes, int] = {}

    def unique(self, name: str) -> str:
        digest = _digest(name)
        if digest not in self._seen:
            self._seen.add(digest)
            return name
        while True:
            k = self._repeats[digest] = self._repeats.get(digest, 0) + 1
            candidate = _digest(f"{name}#{k}")
            if candidate not in self._seen:
                self._seen.add(candidate)
                return f"{name}#{k}"


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
