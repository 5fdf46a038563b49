"""A run of facebatch with its steps laid open: no Ray, no models, no processes, and a storage that ends it anywhere.

A step is one call that changes the storage. `index` does what `facebatch.pipeline.index` does, in its order, with rows
that are made up. What is committed is read here from the records themselves (`History.committed`), so that a broken
ledger cannot vouch for itself.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facebatch import config, epochs, ledger, plan
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.plan import Listing, Shard
from facebatch.reasons import Reason
from facebatch.sink import Writer
from facebatch.sources import Kind, Source, inside
from facebatch.storage import Object, Storage, join, scheme
from facebatch.storage.local import Local
from facebatch.work import Work
from tests.test_sink import FACTS, work

T = TypeVar("T")
Row = tuple[str, int]
"""Shard and index."""
Anew = Callable[[], "History"]
"""Gives a new dataset, in a folder of its own, to which nothing has happened yet."""
MEMBERS = 4
SOURCES = (
    *(Source(Kind.FILES, Object(f"/photos/{n}.jpg", 10, None, 1), bytes=10) for n in range(4)),
    Source(Kind.TAR, Object("/shards/0.tar", 999, "t1", 5), rows=None, bytes=999),
    Source(Kind.FILES, Object("/photos/4.jpg", 10, None, 1), bytes=10),
)
"""Two shards of loose files and one tar, whose length nobody knows before it has been read to its end."""
SICK = {("/photos/1.jpg", ""), ("/photos/4.jpg", ""), ("/shards/0.tar", "2.jpg")}
"""Images that cannot be read in a run that is told so: each shard has one."""


class Killed(BaseException):
    """The run is over at once, as by `kill -9`. No `except Exception` sees it."""


class Steps(Storage):
    """The storage as one run sees it. At step `at` (the first is 1), before it or right behind it, `event` happens;
    without an event the run is killed there: in the middle of the write, where a disk shows that. To a killed run
    nothing answers any more."""

    def __init__(
        self, real: Storage, at: int = 0, event: Callable[[], None] | None = None, behind: bool = False
    ) -> None:
        super().__init__(real.options, real.credentials)
        self._backends = real._backends
        self._at, self._event, self._behind = at, event, behind
        self.taken: list[str] = []
        self.dead = False

    def objects(self, uri: str) -> Iterator[Object]:
        return self._alive(super().objects)(uri)

    def folder(self, uri: str) -> tuple[list[Object], list[str]]:
        return self._alive(super().folder)(uri)

    def stat(self, uri: str, raw: bytes | None = None) -> Object | None:
        return self._alive(super().stat)(uri, raw)

    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO:
        return self._alive(super().open)(uri, raw)

    def read(self, uri: str, raw: bytes | None = None, most: int | None = None) -> tuple[bytes, Object]:
        return self._alive(super().read)(uri, raw, most)

    def put(self, uri: str, data: bytes) -> None:
        real = super().put
        self._step("put", uri, data, lambda: real(uri, data))

    def create(self, uri: str, data: bytes) -> bool:
        real = super().create
        return self._step("create", uri, data, lambda: real(uri, data))

    def delete(self, uri: str) -> None:
        real = super().delete
        self._step("delete", uri, b"", lambda: real(uri))

    def _alive(self, call: T) -> T:
        if self.dead:
            raise Killed
        return call

    def _step(self, name: str, uri: str, data: bytes, act: Callable[[], T]) -> T:
        self._alive(act)
        self.taken.append(f"{name} {uri}")
        here = len(self.taken) == self._at
        if here and not self._behind:
            if self._event is None and data and scheme(uri) == "":
                Local()._write_aside(uri, data[: len(data) // 2])
            (self._event or self._kill)()
        done = act()
        if here and self._behind:
            (self._event or self._kill)()
        return done

    def _kill(self) -> None:
        self.dead = True
        raise Killed


@dataclass
class Run:
    """What one run did: its steps, the rows it computed, and how it ended."""

    steps: list[str] = field(default_factory=list)
    computed: list[Row] = field(default_factory=list)
    killed: bool = False
    stopped: str | None = None
    """What it said when it gave up by itself."""


@dataclass
class History:
    """A dataset, and the runs of it one after the other."""

    storage: Storage
    root: str
    sources: Sequence[Source] = SOURCES

    @property
    def dataset(self) -> Dataset:
        """As a reader reaches it."""
        return Dataset(self.storage, self.root)

    def run(
        self, at: int = 0, event: Callable[[], None] | None = None, behind: bool = False, sick: bool = False
    ) -> Run:
        """One run, to its end or to its death. Nothing that was committed before may be computed again, or be lost."""
        before = self.committed()
        storage = Steps(self.storage, at, event, behind)
        run = Run(storage.taken)
        try:
            index(Dataset(storage, self.root), self.sources, run.computed, sick)
        except Killed:
            run.killed = True
        except FacebatchError as error:
            if event is None:
                raise
            run.stopped = f"{type(error).__name__}: {error}"
        assert not before & set(run.computed), f"computed again: {sorted(before & set(run.computed))}"
        assert before <= self.committed(), f"no longer committed: {sorted(before - self.committed())}"
        return run

    def committed(self) -> set[Row]:
        """The rows of all final records, but for those of runs that had been settled without them."""
        settled = {
            int(name.removesuffix(".accepted")): set(data.decode().split())
            for name, data in self._files("epochs")
            if name.endswith(".accepted")
        }
        records = [json.loads(data) for name, data in self._files("records") if name.endswith(".json")]
        return {
            (shard, index)
            for record in records
            if not record["retryable"]
            and all(record["name"] in names for epoch, names in settled.items() if epoch > record["epoch"])
            for shard, ranges in record["ranges"].items()
            for low, high in ranges
            for index in range(low, high)
        }

    def listed(self) -> set[str]:
        """Every object in images/ and faces/, by its path below the dataset: what a plain glob finds."""
        folders = (self.storage.objects(self.dataset.path(name) + "/") for name in ("images", "faces"))
        return {found.uri.removeprefix(self.root + "/") for folder in folders for found in folder}

    def table(self, name: str) -> pa.Table:
        """All rows that a plain glob of images/ or faces/ gives, in the order of their ids."""
        paths = sorted(path for path in self.listed() if path.startswith(name))
        files = (io.BytesIO(self.storage.read(self.dataset.path(path))[0]) for path in paths)
        tables = [pq.ParquetFile(file).read() for file in files]
        return pa.concat_tables(tables).sort_by("face_id" if name == "faces" else "image_id").combine_chunks()

    def _files(self, folder: str) -> Iterator[tuple[str, bytes]]:
        for found in self.storage.objects(self.dataset.internal(folder) + "/"):
            name = found.uri.rpartition("/")[2]
            if not name.startswith("."):  # what a kill has left half written
                yield name, self.storage.read(found.uri)[0]


@pytest.fixture
def anew(place: tuple[Storage, str], monkeypatch: pytest.MonkeyPatch) -> Anew:
    """Gives a new dataset at each call, on every storage."""
    monkeypatch.setattr("facebatch.epochs._lives", lambda *_: False)  # all runs are this process: the last one is dead
    monkeypatch.setattr("facebatch.epochs.signal.signal", lambda *_: None)  # of the main thread only; runs have theirs
    monkeypatch.setattr("facebatch.epochs.Epoch._beat", lambda _: None)  # a thread, whose writes no step could be
    monkeypatch.setattr("facebatch.plan.PLAN_ROWS", 3)  # two plan files for six sources
    storage, folder = place
    numbers = count()
    return lambda: History(storage, join(folder, f"dataset-{next(numbers)}"))


def index(dataset: Dataset, sources: Sequence[Source], computed: list[Row], sick: bool) -> None:
    """What `facebatch.pipeline.index` does, in its order. Notes each row that it computes."""
    facts = dataset.open({**FACTS, "contract": {}})
    with epochs.taken(dataset, wait=0) as epoch:
        dataset.note_run(epoch.number, {"began": True})
        state = ledger.settle(dataset, epoch.number)
        number = plan.count(dataset)
        fresh = plan.compare(sources, plan.planned(dataset, number), Listing())
        written = plan.freeze(dataset, number, fresh, config.Shards(files=3), epoch.guard.check)
        todo = [shard for shard in plan.shards(dataset, number + written) if state.missing(shard)]
        writer = Writer(dataset, epoch.guard, facts)
        works = _computed(dataset, epoch.guard, state, todo, computed, sick)
        while bundle := list(islice(works, 4)):
            writer.write(bundle)
        state = ledger.state(dataset)
        if not state.records:
            writer.write_empty()
            state = ledger.state(dataset)
        ledger.sweep(dataset, epoch.guard, state)
        dataset.note_run(epoch.number, {"ended": True})


def _computed(
    dataset: Dataset,
    guard: epochs.Guard,
    state: ledger.State,
    todo: list[Shard],
    computed: list[Row],
    sick: bool,
) -> Iterator[Work]:
    """Reading runs ahead of writing: the end of a tar is noted before its last rows are committed."""
    for shard in todo:
        for index, (uri, member) in enumerate(_images(dataset, shard)):
            if not inside(index, state.done.get(shard.shard_id, [])):
                computed.append((shard.shard_id, index))
                yield _work(shard.shard_id, index, uri, member, sick)
        if shard.kind is Kind.TAR:
            guard.check()
            ledger.write_end(dataset, guard.epoch, shard.shard_id, MEMBERS, [])


def _images(dataset: Dataset, shard: Shard) -> list[tuple[str, str]]:
    uris = [source.object.uri for source in plan.sources(dataset, shard)]
    return [(uris[0], f"{n}.jpg") for n in range(MEMBERS)] if shard.kind is Kind.TAR else [(uri, "") for uri in uris]


def _work(shard: str, index: int, uri: str, member: str, sick: bool) -> Work:
    """The same faces whenever it is asked for the same image; one of the images is broken for good."""
    reason = Reason.ACCESS_DENIED if sick and (uri, member) in SICK else None
    broken = Reason.CORRUPT if (uri, member) == ("/photos/0.jpg", "") else None
    digest = hashlib.sha256(f"{uri}{member}".encode()).hexdigest()
    number = int(digest[:8], 16)
    made = work(number, number % 3, shard, reason or broken)
    made.index, made.uri, made.member = index, uri, member
    if not made.reason:
        made.content_sha256, made.phash, made.format, made.orientation = digest, number, "JPEG", 1
    return made
