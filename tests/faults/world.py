"""A small world: an archive, a dataset, and the real `index` over both. No Ray and no models: a stand-in for the stages
tells by a file's first word what would come of it.

    face       one face          none        no face
    heic       as HEIF: UNSUPPORTED_FORMAT until `decoders` has it
    broken     CORRUPT until `decoders` has it
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from facebatch import config, epochs, ledger
from facebatch.dataset import Dataset
from facebatch.epochs import Epoch
from facebatch.errors import FacebatchError
from facebatch.ledger import State
from facebatch.pipeline import index as pipeline
from facebatch.plan import Shard
from facebatch.plugins import EXTRAS, plugin
from facebatch.reader import Parcels, Reader
from facebatch.reasons import Reason, Status, Undecodable
from facebatch.sink import Writer
from facebatch.sources.base import Base
from facebatch.storage import AccessDenied, Object, Storage
from facebatch.summary import Summary
from facebatch.work import Work, unpacked
from tests.test_epochs import owned_by_a_dead_process
from tests.test_sink import FACTS, face

ABSENT = ("there_is_no_such_module", "pillow-heif", "heif")
PRESENT = ("json", "pillow-heif", "heif")


class Killed(BaseException):
    """The process is no more."""


class Fragile(Storage):
    """Notes what is read below a folder, denies what it is told to, and dies at a given write, for good."""

    def __init__(self, below: Path) -> None:
        super().__init__()
        self._below = str(below)
        self.read_uris: list[str] = []
        self.denied: set[str] = set()
        self.writes = 0
        self.last_write: int | None = None
        """After so many the process is killed."""

    def read(self, uri: str, raw: bytes | None = None, most: int | None = None) -> tuple[bytes, Object]:
        self._asked(uri)
        return super().read(uri, raw, most)

    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO:
        self._asked(uri)
        return super().open(uri, raw)

    def put(self, uri: str, data: bytes) -> None:
        self._write()
        super().put(uri, data)

    def create(self, uri: str, data: bytes) -> bool:
        self._write()
        return super().create(uri, data)

    def delete(self, uri: str) -> None:
        self._write()
        super().delete(uri)

    def _asked(self, uri: str) -> None:
        if uri.startswith(self._below):
            self.read_uris.append(uri.removeprefix(self._below + "/"))
            if self.read_uris[-1] in self.denied:
                raise AccessDenied(f"{uri}: the storage refused (403)")

    def _write(self) -> None:
        if self.writes == self.last_write:
            raise Killed
        self.writes += 1


@dataclass
class World:
    """An archive in `root/photos` and a dataset in `root/out`."""

    root: Path
    archive: str | None = None
    """The URI of an archive elsewhere, whose images go through the stages in place of those in `root/photos`."""
    decoders: set[str] = field(default_factory=set)
    facts: dict[str, Any] = field(default_factory=lambda: {**FACTS, "contract": {}, "relative": False})
    bundle: int = 1000
    """Images in one commit."""
    before_reading: Callable[[], object] = lambda: None
    computed: list[str] = field(default_factory=list)
    """What went through the stages, in all runs: URIs below the archive, with `/member`."""
    remarks: str = ""
    """What the last run said."""

    def __post_init__(self) -> None:
        self.photos = self.root / "photos"
        self.photos.mkdir()
        self.storage = Fragile(self.photos)

    @property
    def below(self) -> str:
        """What the names of images are shown without."""
        return self.archive or str(self.photos)

    @property
    def dataset(self) -> Dataset:
        """As another process sees it."""
        return Dataset.at(Storage(), str(self.root / "out"))

    def add(self, **files: str) -> None:
        """Put files into the archive, or others in their place. `a=...` is a.jpg."""
        for name, content in files.items():
            (self.photos / f"{name}.jpg").write_text(content)

    def run(self, *inputs: Path, words: tuple[str, ...] = ()) -> Summary:
        """A whole run; raises what `index` raises."""
        said = io.StringIO()
        names = tuple(map(str, inputs or (self.photos,)))
        settings = config.load(None, words, inputs=names, output=str(self.root / "out"))
        try:
            return pipeline.index(settings, Console(file=said, width=500))
        finally:
            self.remarks = said.getvalue()

    def killed_run(self, writes: int, *, words: tuple[str, ...] = ()) -> bool:
        """A run that is killed after so many writes. False if it came to its end before."""
        self.storage.writes, self.storage.last_write = 0, writes
        try:
            self.run(words=words)
            return False
        except FacebatchError:  # exit code 1: it came to its end, and rows are to be tried again
            return False
        except Killed:
            return True
        finally:
            self.storage.last_write = None
            last = epochs.last_epoch(self.dataset)
            if last and self.dataset.storage.stat(epochs.epoch_path(self.dataset, last, "ended")) is None:
                owned_by_a_dead_process(self.dataset, last)

    def rows(self) -> dict[str, tuple[str, str | None]]:
        """Status and reason of every image, by a plain glob; a name that stands in two rows fails."""
        found: dict[str, tuple[str, str | None]] = {}
        for row in self.table("images").to_pylist():
            name = "/".join(filter(None, (row["uri"].removeprefix(f"{self.photos}/"), row["member"])))
            assert name not in found, f"{name} stands in two rows"
            found[name] = (row["status"], row["reason"])
        return found

    def counted(self) -> list[str]:
        """The names of all rows that records count, as often as they do."""
        names: list[str] = []
        for record in ledger.state(self.dataset).records:
            names += pq.read_table(self.root / "out" / record.images.path, columns=["uri"])["uri"].to_pylist()
        return [name.removeprefix(f"{self.photos}/") for name in names]

    def vectors(self) -> dict[str, list[float]]:
        """The embedding of every face."""
        faces = self.table("faces")
        return dict(zip(faces["face_id"].to_pylist(), faces["embedding"].to_pylist(), strict=True))

    def table(self, name: str) -> pa.Table:
        files = sorted((self.root / "out" / name).glob("*.parquet"))
        return pa.concat_tables([pq.ParquetFile(file).read() for file in files])

    def snapshot(self) -> dict[str, bytes]:
        """Every file of the dataset."""
        out = self.root / "out"
        return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}

    def restore(self, snapshot: dict[str, bytes]) -> None:
        """Put the dataset back to what it was."""
        shutil.rmtree(self.root / "out")
        for name, data in snapshot.items():
            file = self.root / "out" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    def look(self, work: Work) -> None:
        """In place of the stages."""
        name = "/".join(filter(None, (work.uri.removeprefix(f"{self.below}/"), work.member)))
        self.computed.append(name)
        word = (work.data or b"").decode().split()[0]
        work.data, work.width, work.height = None, 640, 480
        if word == "heic" and word not in self.decoders:
            work.format = "HEIF"
            try:
                plugin("HEIF")
            except Undecodable as error:
                work.end(error.reason, error.detail)
        elif word == "broken" and word not in self.decoders:
            work.end(Reason.CORRUPT, "the decoder refused")
        else:
            work.content_sha256, work.phash, work.format, work.orientation = f"{len(name):064x}", 0, "JPEG", 1
            work.faces = [] if word == "none" else [face(seed=len(name))]
            work.status = Status.OK if work.faces else Status.NO_FACE

    def compute(
        self,
        settings: config.Config,
        console: Console,
        epoch: Epoch,
        writer: Writer,
        networks: None,
        todo: list[Shard],
        state: State,
    ) -> pipeline.Cost:
        """In place of the job on Ray: the same reader and the same writer."""
        self.before_reading()
        reader = Reader(writer.dataset, Base(), settings.decode.max_bytes)
        left = [(shard, state.done.get(shard.shard_id, [])) for shard in todo]
        works: list[Work] = []
        for parcel in reader.parcels(left, epoch.guard, Parcels(64, 1 << 20)):
            works += unpacked(parcel)
        for work in works:
            if work.status is None:
                self.look(work)
        for start in range(0, len(works), self.bundle):
            writer.write(works[start : start + self.bundle])
        return pipeline.Cost()


@contextmanager
def a_world(root: Path) -> Iterator[World]:
    """A world in a folder."""
    made = World(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "Storage", lambda _: made.storage)
        patch.setattr(pipeline, "_networks", lambda *_: None)
        patch.setattr(pipeline, "facts_of", lambda *_: made.facts)
        patch.setattr(pipeline, "_compute", made.compute)
        patch.setitem(EXTRAS, "HEIF", ABSENT)
        plugin.cache_clear()
        yield made
    plugin.cache_clear()
