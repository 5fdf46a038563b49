"""Reading loose files: one item for each planned object, whatever its read gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from facebatch.reasons import Reason
from facebatch.sources import Item, Ranges, inside
from facebatch.storage import UNKNOWN, AccessDenied, NotFound, Object, Storage, StorageError, scheme

_AHEAD = 8
"""Reads in flight for remote objects: one at a time waits a round trip for each. A local disk needs none."""


def read_files(storage: Storage, planned: Iterable[Object], done: Ranges, max_bytes: int) -> Iterator[Item]:
    """The items of a shard of loose files, in the planned order, without those whose index is done already."""
    wanted = ((index, entry) for index, entry in enumerate(planned) if not inside(index, done))
    first = next(wanted, None)
    if first is None:
        return
    if not scheme(first[1].uri):
        yield _read(storage, *first, max_bytes)
        for index, entry in wanted:
            yield _read(storage, index, entry, max_bytes)
        return
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="read") as threads:

        def start(work: tuple[int, Object]) -> Future[Item]:
            return threads.submit(_read, storage, *work, max_bytes)

        flying = [start(first), *map(start, islice(wanted, _AHEAD - 1))]
        while flying:
            yield flying.pop(0).result()
            flying.extend(map(start, islice(wanted, 1)))


def _read(storage: Storage, index: int, planned: Object, max_bytes: int) -> Item:
    def item(reason: Reason | None, detail: str | None, data: bytes | None = None) -> Item:
        return Item(index, planned.uri, "", planned.size, planned.etag, planned.mtime_ns, data, reason, detail)

    if planned.size > max_bytes:
        return item(Reason.TOO_MANY_BYTES, f"{planned.size} bytes, at most {max_bytes} are read (decode.max_bytes)")
    try:
        data, now = storage.read(planned.uri, planned.raw)
    except (StorageError, MemoryError) as error:
        return item(*failure(error))
    if change := changed(planned, now):
        return item(Reason.SOURCE_CHANGED, change)
    return item(None, None, data)


def changed(planned: Object, now: Object) -> str | None:
    """What differs between the object as planned and as found, in words; None if nothing does, or if what was planned
    was a link to nothing."""
    if planned.version == UNKNOWN != now.version or (planned.size, planned.version) == (now.size, now.version):
        return None
    return f"planned with {planned.size} bytes as version {planned.version}, now {now.size} bytes as {now.version}"


def failure(error: StorageError | MemoryError) -> tuple[Reason, str]:
    """The reason code and words for a read that failed."""
    if isinstance(error, NotFound):
        return Reason.NOT_FOUND, str(error)
    if isinstance(error, AccessDenied):
        return Reason.ACCESS_DENIED, str(error)
    if isinstance(error, MemoryError):
        return Reason.OUT_OF_MEMORY, "reading the file asked for more memory than there was"
    return Reason.STORAGE_ERROR, str(error)
