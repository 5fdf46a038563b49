"""Local and network disks."""

from __future__ import annotations

import errno
import os
import stat as modes
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from facebatch.failpoints import failpoint
from facebatch.ids import printable
from facebatch.storage import UNSIZED, AccessDenied, NotFound, Object, StorageError, TooLarge


class Local:
    """Plain files. Writes go to a temporary name, are flushed to the disk, and appear under their name at once."""

    def objects(self, uri: str) -> Iterator[Object]:
        """Regular files in the order of their paths; links to files are followed, links to folders are not."""
        for entry in _entries(uri):
            if entry.is_dir(follow_symlinks=False):
                yield from self.objects(entry.path)
            elif found := self._describe(entry.path) or _broken_link(entry):
                yield found

    def folder(self, uri: str) -> tuple[list[Object], list[str]]:
        objects, folders = [], []
        for entry in _entries(uri):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path + "/")
            elif found := self._describe(entry.path) or _broken_link(entry):
                objects.append(found)
        return objects, folders

    def stat(self, uri: str, raw: bytes | None = None) -> Object | None:
        return self._describe(_path(uri, raw))

    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO:
        try:
            return open(_path(uri, raw), "rb", buffering=1 << 20, opener=_regular)
        except OSError as error:
            raise _translated(error, uri) from error

    def read(self, uri: str, raw: bytes | None = None, most: int | None = None) -> tuple[bytes, Object]:
        try:
            with open(_path(uri, raw), "rb", buffering=0, opener=_regular) as file:
                facts = os.fstat(file.fileno())
                if most is not None and facts.st_size > most:
                    raise TooLarge(uri, facts.st_size, most)
                data = file.readall()
        except OSError as error:
            raise _translated(error, uri) from error
        return data or b"", Object(uri, facts.st_size, None, facts.st_mtime_ns, raw)

    def put(self, uri: str, data: bytes) -> None:
        temporary = self._write_aside(uri, data)
        try:
            os.replace(temporary, uri)
        except OSError as error:
            raise _translated(error, uri) from error
        _flush_folder(uri)

    def create(self, uri: str, data: bytes) -> bool:
        temporary = self._write_aside(uri, data)
        try:
            os.link(temporary, uri)  # atomic, and unlike rename it fails where the name exists
        except FileExistsError:
            return self.read(uri)[0] == data
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise StorageError(
                    f"{uri}: this file system has no hard links, which a conditional create needs; "
                    "put the output on another disk or into object storage"
                ) from error
            raise _translated(error, uri) from error
        finally:
            with suppress(FileNotFoundError):  # the sweep of a run that took over may have been here
                os.unlink(temporary)
        _flush_folder(uri)
        return True

    def delete(self, uri: str) -> None:
        try:
            os.unlink(uri)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _translated(error, uri) from error

    def _describe(self, path: str | bytes) -> Object | None:
        """The regular file at a path; None for anything else, also for what vanished since it was listed."""
        try:
            facts = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if os.path.islink(path):  # to itself, or into a folder that may not be entered
                return None
            raise _translated(error, printable(os.fsdecode(path))) from error
        if not modes.S_ISREG(facts.st_mode):
            return None
        name = os.fsdecode(path)
        shown = printable(name)
        return Object(shown, facts.st_size, None, facts.st_mtime_ns, None if shown == name else os.fsencode(path))

    def _write_aside(self, uri: str, data: bytes) -> str:
        # A leading dot keeps a half-written file out of every reader's glob, also after a kill.
        temporary = os.path.join(os.path.dirname(uri), f".{os.path.basename(uri)}.{uuid.uuid4().hex}.tmp")
        try:
            os.makedirs(os.path.dirname(uri), exist_ok=True)
            with open(temporary, "wb") as file:
                half = len(data) // 2
                file.write(data[:half])
                failpoint(f"torn {os.path.basename(os.path.dirname(uri))}")
                file.write(data[half:])
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise _translated(error, uri) from error
        return temporary


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda e: e.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _translated(error, printable(folder)) from error


def _broken_link(entry: os.DirEntry[str]) -> Object | None:
    """A link to nothing is an entry of its folder like any other: it gets a row, and its read fails by name.

    Its version is not known, so that a later run takes what the link then leads to (a disk that was not mounted).
    """
    broken = entry.is_symlink() and not os.path.exists(entry.path)
    return Object(printable(entry.path), UNSIZED) if broken else None


def _regular(path: str, flags: int) -> int:
    """Opens a regular file and nothing else. A pipe that a manifest names would be waited for, a device never end."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not modes.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "is no regular file", path)
    return descriptor


def _path(uri: str, raw: bytes | None) -> str | bytes:
    return uri if raw is None else raw


def _flush_folder(uri: str) -> None:
    """Make the new name itself survive a power cut."""
    folder = os.open(os.path.dirname(uri), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _translated(error: OSError, uri: str) -> StorageError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"{uri}: there is no such file, or it is no regular one")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AccessDenied(f"{uri}: {error.strerror}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{uri}: the disk is full; free some space and run the same command again")
    return StorageError(f"{uri}: {error.strerror or error}")
