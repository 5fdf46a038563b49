"""Reading tar shards as a stream: one item for each regular member, in the order of the archive.

Why not the readers at hand. Ray's `read_webdataset` loses samples when a read is retried and joins `IMG.1234.jpg` with
`IMG.5678.jpg`; `tarfile`'s own iteration ends without a word at a damaged header. Here the standard library parses
the headers and the loop around them is ours: a member is known by its position, data that is not wanted is skipped by
seeking, and a damaged archive ends with an item that says so.
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

from facebatch.ids import printable
from facebatch.reasons import Reason
from facebatch.sources import Item, Ranges, Source, gaps, inside
from facebatch.sources.files import changed, failure
from facebatch.sources.names import Names
from facebatch.storage import UNSIZED, Changed, NotFound, Storage, StorageError

_DAMAGE = (
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    ValueError,
    OverflowError,
    LookupError,
    RecursionError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)
"""What the standard library raises at bad data. Errors of the storage are StorageErrors."""
_EMPTY = 1 << 20
"""Zeros that an archive without members may consist of; `tar` pads to 10 KiB. More is a file that was never filled."""
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_LONGEST_HEADER = 1 << 20
"""Bytes of a header's extensions (long names, pax records): real ones are a few kilobytes."""


class Incomplete(Exception):
    """The storage failed in mid-archive: the items so far stand, how many there are is not known."""


@dataclass(frozen=True, slots=True)
class End:
    """What is known at the end of a tar: `count` items, of which those in `gone` can never be read any more."""

    count: int
    gone: Ranges


def read_tar(
    storage: Storage, source: Source, done: Ranges, max_bytes: int, told: Callable[[], bool] = lambda: False
) -> Generator[Item, None, End]:
    """The items of one tar, without those whose index is done already; the generator's value is the archive's end.

    A damaged archive or a changed one yields one last item with member '' and the reason. Raises Incomplete, after an
    item that tells why, when the storage failed: then the count is unknown and a later run has to read on. Such items
    stand at the first index that is not done yet. told: asked where the archive was replaced: whether the archive
    itself, for its damage, has a row already, so that it must not get a second one.
    """
    planned, index = source.object, 0

    def container(reason: Reason, detail: str) -> Item:
        place = next(i for i in itertools.count(index) if not inside(i, done))
        version = planned.etag, planned.mtime_ns
        return Item(place, planned.uri, "", max(planned.size, 0), *version, None, reason, detail, source.extra)

    def replaced(change: str) -> Generator[Item, None, End]:
        """The rest of what was planned is gone for good."""
        nonlocal index
        read = [(0, index)] if index else []
        index = max((high for _, high in (*done, *read)), default=0)
        if told():
            return End(index, gaps([*done, *read]))
        yield container(Reason.SOURCE_CHANGED, change)
        return End(index + 1, gaps([*done, *read]))

    try:
        now = storage.stat(planned.uri, planned.raw)
        if now is None:
            raise NotFound(f"{planned.uri}: there is no such object")
        if change := changed(planned, now):
            return (yield from replaced(change))
        with storage.open(planned.uri, planned.raw) as stream:
            size = stream.seek(0, io.SEEK_END) if now.size == UNSIZED else now.size
            stream.seek(0)
            members = _members(stream, size)
            names = Names()
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
                    if type(error) is OSError and error.errno is None:  # how bz2 reports bad data
                        if inside(index, done):
                            return End(index + 1, [])
                        yield container(Reason.BROKEN_CONTAINER, f"after {index} members: {error}")
                        return End(index + 1, [])
                    raise StorageError(f"{planned.uri}: {error.strerror or error}") from error
                if item:
                    yield replace(item, extra=source.extra) if source.extra else item
                index += 1
    except Changed as error:
        return (yield from replaced(str(error)))
    except Exception as error:  # whatever a storage does: the archive itself is judged above
        yield container(*failure(error))
        raise Incomplete(str(error)) from error


class _Info(tarfile.TarInfo):
    """A header whose extensions have a limit: a few bytes must not ask for terabytes of memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENSIONS and self.size > _LONGEST_HEADER:
            raise tarfile.InvalidHeaderError(f"a header of {self.size} bytes")  # type: ignore[attr-defined]
        return cast(tarfile.TarInfo, super()._proc_member(tar))  # type: ignore[misc]


class _Tar(tarfile.TarFile):
    """`TarFile` whose `next` raises at a damaged header, where the original returns None as at the end.

    Zeros end an archive only where nothing follows. Behind them may be another archive (`cat a.tar b.tar`), which is
    read; anything else means that a hole was torn into this one, or that it was written over.
    """

    tarinfo = _Info

    def next(self) -> tarfile.TarInfo | None:
        stream = cast(BinaryIO, self.fileobj)
        start = self.offset
        while True:
            stream.seek(self.offset)
            try:
                found = self.tarinfo.fromtarfile(self)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
                self.offset = _behind_zeros(stream, self.offset)
                continue
            except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
                if self.offset == 0:
                    raise tarfile.ReadError("it is empty") from None
                if start == 0 and self.offset > _EMPTY:
                    raise tarfile.ReadError(f"it holds {self.offset} zeros and no member") from None
                return None  # also without an end marker: some writers leave it out
            except tarfile.HeaderError as error:
                if self.offset > start:
                    raise tarfile.ReadError(f"behind zeros at {start} stands what is no header: {error}") from error
                raise
            if not 0 <= found.size < 1 << 63:
                raise tarfile.ReadError(f"a member of {found.size} bytes")
            return found


def _behind_zeros(stream: BinaryIO, offset: int) -> int:
    """The first block from `offset` on that is not all zeros, or the end."""
    stream.seek(offset)
    while chunk := stream.read(1 << 20):
        rest = chunk.lstrip(b"\0")
        if rest:
            offset += len(chunk) - len(rest)
            return offset - offset % tarfile.BLOCKSIZE
        offset += len(chunk)
    return offset


class _Member:
    """A regular member whose data has not been read yet."""

    def __init__(self, tar: _Tar, info: tarfile.TarInfo) -> None:
        self._tar, self._info = tar, info
        self.name, self.size = info.name, info.size
        nanoseconds = info.mtime * 1e9
        self.mtime_ns = int(nanoseconds) if abs(nanoseconds) < 2**63 else None  # pax allows any time, also nan

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
            # The stored form of a sparse member is shorter than the member; it ends within the block before the next.
            end = tar.offset - tarfile.BLOCKSIZE + 1 if info.issparse() else info.offset_data + info.size
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
