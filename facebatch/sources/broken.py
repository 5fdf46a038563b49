"""What was named and could not be opened: a row for each, that tells why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from facebatch.reasons import Reason
from facebatch.sources import Item, Ranges, Source, inside


def read_broken(planned: Sequence[Source], done: Ranges) -> Iterator[Item]:
    """The items of a shard of broken sources. A line of a manifest is a member of it."""
    for index, source in enumerate(planned):
        if not inside(index, done):
            found, member = source.object, "" if source.part is None else f"line {source.part}"
            version = found.etag, found.mtime_ns
            why = Reason.BROKEN_CONTAINER, source.trouble
            yield Item(index, found.uri, member, max(found.size, 0), *version, None, *why, source.extra)
