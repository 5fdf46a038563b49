"""How long a run will take, from a few of its images: they are read and pass through the stages here and now."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from facebatch.config import Config
from facebatch.errors import FacebatchError
from facebatch.networks import Networks
from facebatch.sources import Item, Kind, Source
from facebatch.sources.files import read_files
from facebatch.sources.rows import read_rows
from facebatch.sources.tar import Incomplete, read_tar
from facebatch.stages import FusedStage, Place
from facebatch.storage import Storage
from facebatch.work import Work

SOURCES = 24
"""Sources that are sampled."""
_BYTES = 256 << 20
"""A sample that has so many is large enough."""
_ITEMS = 4
"""Images taken of a container that is among them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the sampled images cost: seconds of one core to decode, detect and embed, after reading `bytes`."""

    images: int
    bytes: int
    faces: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images a second on one core."""
        return self.images / max(self.seconds, 1e-9)


class Reservoir:
    """A random sample of a stream: each source has the same chance, however many there are. The same for one stream."""

    def __init__(self, size: int = SOURCES) -> None:
        self._size, self._met, self._random = size, 0, random.Random(0)
        self.sources: list[Source] = []

    def passing(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The same stream; on its way some are kept."""
        for source in sources:
            self._met += 1
            if len(self.sources) < self._size:
                self.sources.append(source)
            elif (place := self._random.randrange(self._met)) < self._size:
                self.sources[place] = source
            yield source


def measure(config: Config, networks: Networks, storage: Storage, sources: list[Source]) -> Sample:
    """Index the first images of these sources on one core of this machine, and forget the results.

    Raises FacebatchError where there is none that can be read.
    """
    items: list[Item] = []
    for source in sources:
        if sum(len(item.data or b"") for item in items) < _BYTES:
            with suppress(Incomplete):  # what of a tar was read before its storage failed is a sample, too
                items.extend(islice(_items(config, storage, source), _ITEMS))
    works = [Work.of("sample", replace(item, index=k)) for k, item in enumerate(items)]
    if not any(work.data for work in works):
        raise FacebatchError("no image of the sample can be read")
    stage = FusedStage(config, networks, Place())
    stage([Work.of("sample", next(item for item in items if item.data))])  # sessions and decoders warm up
    started = time.perf_counter()
    done = stage(works)
    seconds = time.perf_counter() - started
    return Sample(len(done), sum(i.size for i in items), sum(len(w.faces) for w in done), seconds)


def _items(config: Config, storage: Storage, source: Source) -> Iterator[Item]:
    limit = config.decode.max_bytes
    match source.kind:
        case Kind.FILES:
            yield from read_files(storage, [source], [], limit)
        case Kind.TAR:
            yield from read_tar(storage, source, [], limit)
        case Kind.ROWS:
            yield from read_rows(storage, source, [], limit)
