"""How long a run will take, from a few of its images: they are read and pass through the stages here and now."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import psutil

from facebatch.config import Config
from facebatch.errors import FacebatchError
from facebatch.networks import Networks
from facebatch.session import CPU
from facebatch.sources import Item, Kind, Source
from facebatch.sources.files import read_files
from facebatch.sources.rows import read_rows
from facebatch.sources.tar import Incomplete, read_tar
from facebatch.stages import FusedStage, Place, Stage
from facebatch.stopwatch import Stopwatch, parts
from facebatch.storage import Storage
from facebatch.work import Work

SOURCES = 24
"""Sources that are sampled."""
_BYTES = 256 << 20
"""A sample that has so many is large enough."""
_ITEMS = 4
"""Images taken of a container that is among them."""
_SECONDS = 4.0
"""From which on no more are computed where a run waits for them: heavy networks tell enough by a few."""
_STEP = 4
"""Images between looks at the clock."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the sampled images cost: seconds of one worker to decode, detect and embed, after reading `bytes`; on a CPU
    those in which it had a core.

    spent: of these seconds, those of each part. network_bytes: of memory that its sessions and first pictures took.
    """

    images: int
    bytes: int
    faces: int
    seconds: float
    spent: dict[str, float] = field(default_factory=dict)
    network_bytes: int = 0

    @property
    def rate(self) -> float:
        """Images a second of one worker."""
        return self.images / max(self.seconds, 1e-9)

    @property
    def words(self) -> str:
        """Where the time goes, for a reader."""
        each = ", ".join(f"{1000 * took / self.images:.1f} {part}" for part, took in self.spent.items() if took)
        return f"{1000 * self.seconds / self.images:.1f} ms each ({each}), {self.faces / self.images:.1f} faces"


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


def measure(
    config: Config,
    networks: Networks,
    storage: Storage,
    sources: list[Source],
    place: Place | None = None,
    most: int | None = None,
) -> Sample:
    """Index the first images of these sources on one core of this machine (or where it is said), and forget the
    results. most: so many images, about equally many of each source; else one of each file, and some of a container.

    Raises FacebatchError where there is none that can be read.
    """
    items: list[Item] = []
    share = math.ceil((most or 0) / max(len(sources), 1))
    for source in sources:
        if sum(len(item.data or b"") for item in items) < _BYTES:
            with suppress(Incomplete):  # what of a tar was read before its storage failed is a sample, too
                items.extend(islice(_items(config, storage, source), _ITEMS if most is None else share))
    items = items[:most]
    if not any(item.data for item in items):
        raise FacebatchError("no image of the sample can be read")
    place = place or Place()
    memory, watch = psutil.Process().memory_info, Stopwatch()
    before = memory().rss
    stage = FusedStage(config, networks, place, watch)
    stage([Work.of("sample", item) for item in items if item.data][:1])  # sessions and decoders warm up
    watch.taken()
    held = max(memory().rss - before, 0)
    look = partial(_look, stage, watch, place.provider == CPU)
    steps = [items[start : start + _STEP] for start in range(0, len(items), _STEP)]
    looks: list[_Look] = []
    started = time.perf_counter()
    for step in steps:
        if most is not None and time.perf_counter() - started >= _SECONDS:
            break
        looks.append(look(step))
    # The first images beside a run's own start take up to four times as long as the same ones a second later.
    if most is not None and time.perf_counter() - started < _SECONDS / 2:
        looks = [min(one, look(step), key=lambda look: look.seconds) for one, step in zip(looks, steps, strict=True)]
    done = [work for one in looks for work in one.works]
    size, faces = sum(work.size_bytes for work in done), sum(len(work.faces) for work in done)
    spent = {part: sum(one.spent[part] for one in looks) for part in looks[0].spent}
    return Sample(len(done), size, faces, sum(one.seconds for one in looks), spent, held)


@dataclass(frozen=True, slots=True)
class _Look:
    """Images that were computed, in how many seconds, and those of each part."""

    works: list[Work]
    seconds: float
    spent: dict[str, float]


def _look(stage: Stage, watch: Stopwatch, on_cpu: bool, items: list[Item]) -> _Look:
    started, used = time.perf_counter(), time.process_time()
    works = stage([Work.of("sample", replace(item, index=k)) for k, item in enumerate(items)])
    seconds, used = time.perf_counter() - started, time.process_time() - used
    # Beside a run's own start, a core is shared: what was waited for is no part of the work. A GPU's work is a wait.
    busy = min(used / seconds, 1.0) if on_cpu else 1.0
    return _Look(works, seconds * busy, {part: took * busy for part, took in parts(watch.taken()).items()})


def _items(config: Config, storage: Storage, source: Source) -> Iterator[Item]:
    limit = config.decode.max_bytes
    match source.kind:
        case Kind.FILES:
            yield from read_files(storage, [source], [], limit)
        case Kind.TAR:
            yield from read_tar(storage, source, [], limit)
        case Kind.ROWS:
            yield from read_rows(storage, source, [], limit)
