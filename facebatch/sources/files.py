"""Reading loose files: one item for each planned object, whatever its read gives."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from facebatch.errors import FacebatchError
from facebatch.reasons import Reason
from facebatch.sources import Item, Ranges, Source, inside
from facebatch.storage import UNKNOWN, UNSIZED, AccessDenied, NotFound, Object, Storage, TooLarge, scheme

_AHEAD = 8
"""Reads in flight for remote objects: one at a time waits a round trip for each. A local disk needs none."""
_AHEAD_BYTES = 32 << 20
"""What they hold together at most, or one that is larger: eight photos of 100 megabytes would fill a worker."""
_GUESS = 4 << 20
"""Bytes of an object whose size the listing does not tell."""


def read_files(
    storage: Storage, planned: Sequence[Source], done: Ranges, max_bytes: int, ahead: int = _AHEAD
) -> Iterator[Item]:
    """The items of a shard of loose files, in the planned order, without those whose index is done already.

    ahead: so many reads of remote objects are in flight, also while the caller works on an item.
    """
    wanted = ((index, source) for index, source in enumerate(planned) if not inside(index, done))
    if not any(scheme(source.object.uri) for source in planned):
        for index, source in wanted:
            yield _read(storage, index, source, max_bytes)
        return
    with ThreadPoolExecutor(ahead, thread_name_prefix="read") as threads:
        flying: deque[tuple[int, Future[Item]]] = deque()
        weight = 0
        for index, source in wanted:
            own = min(max_bytes, source.bytes or _GUESS)
            while flying and (len(flying) >= ahead or weight + own > _AHEAD_BYTES):
                size, reading = flying.popleft()
                weight -= size
                yield reading.result()
            flying.append((own, threads.submit(_read, storage, index, source, max_bytes)))
            weight += own
        for _, reading in flying:
            yield reading.result()


def _read(storage: Storage, index: int, source: Source, max_bytes: int) -> Item:
    planned = source.object

    def item(reason: Reason | None, detail: str | None, size: int, data: bytes | None = None) -> Item:
        version = planned.etag, planned.mtime_ns
        return Item(index, planned.uri, "", max(size, 0), *version, data, reason, detail, source.extra)

    try:
        if planned.size > max_bytes:
            raise TooLarge(planned.uri, planned.size, max_bytes)
        data, now = storage.read(planned.uri, planned.raw, max_bytes)
    except TooLarge as error:
        detail = f"{error.size} bytes, at most {max_bytes} are read (decode.max_bytes)"
        return item(Reason.TOO_MANY_BYTES, detail, error.size)
    except Exception as error:  # noqa: BLE001 - whatever a storage does at a name costs its own row
        return item(*failure(error), planned.size)
    if change := changed(planned, now):
        return item(Reason.SOURCE_CHANGED, change, planned.size)
    return item(None, None, len(data), data)


def changed(planned: Object, now: Object) -> str | None:
    """What differs between the object as planned and as found, in words; None if nothing does, or if what was planned
    was a link to nothing."""
    if planned.version == UNKNOWN != now.version and planned.size in (UNSIZED, now.size):
        return None
    if (planned.size, planned.version) == (now.size, now.version):
        return None
    return f"planned with {planned.size} bytes as version {planned.version}, now {now.size} bytes as {now.version}"


def failure(error: Exception) -> tuple[Reason, str]:
    """The reason code and words for a read that failed. All of them are tried again by a later run."""
    if isinstance(error, NotFound):
        return Reason.NOT_FOUND, str(error)
    if isinstance(error, AccessDenied):
        return Reason.ACCESS_DENIED, str(error)
    if isinstance(error, MemoryError):
        return Reason.OUT_OF_MEMORY, "reading the file asked for more memory than there was"
    if isinstance(error, FacebatchError | OSError):
        return Reason.STORAGE_ERROR, str(error)
    return Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"[:300]
