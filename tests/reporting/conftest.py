"""A dataset of which all is known: without Ray, models and pictures, with names from a nightmare."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facebatch import config, epochs, ledger, plan
from facebatch.dataset import Dataset
from facebatch.quality import Quality
from facebatch.reasons import QualityReason, Reason
from facebatch.session import CPU
from facebatch.sink import Writer
from facebatch.slowest import Slow
from facebatch.sources import Kind, Source
from facebatch.storage import Object, Storage
from facebatch.summary import Summary, report
from facebatch.work import Work
from tests.test_sink import FACTS, work

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "{{ 7 * 7 }}{% raw %}$\\frac{1}{2}$",
    "\u202egpj.exe\u202c",
    "two\nlines\r\x1b[31m\x00\x85",
    "]]></title></style><svg onload=alert(3)>",
    "https://evil.example/x.png",
    "&lt;b&gt; 漢字 \U0001f600 \ud7fb",
    "long" * 2500,
)
"""Names that files may have; URIs and members are kept as they are where they are valid UTF-8."""
REASONS = (Reason.CORRUPT, Reason.TRUNCATED, Reason.NOT_AN_IMAGE, Reason.NOT_FOUND)


def images(number: int = 60, seed: int = 3) -> list[Work]:
    """Finished works: every fifth failed, the others with none to twelve faces of any size, score and quality. The
    first ones have hostile names."""
    draw = random.Random(seed)
    made = []
    for index in range(number):
        if index % 5 == 4:
            made.append(work(index, reason=draw.choice(REASONS)))
        else:
            made.append(work(index, draw.choice((0, 0, 1, 1, 1, 2, 5, 12))))
            made[-1].format = draw.choice(("JPEG", "JPEG", "PNG", "TIFF"))
        made[-1].size_bytes = draw.randrange(1_000_000)
        made[-1].uri = f"/photos/{HOSTILE[index]}" if index < len(HOSTILE) else made[-1].uri
        for face in made[-1].faces:
            side = draw.choice((5.0, 8.0, 31.9, 32.0, 200.0, 3000.0))
            face.box = np.array([1, 2, 1 + side, 2 + 2 * side], np.float32)
            face.score = draw.choice((0.3, 0.95, 0.9499, 1.0))
            words = tuple(draw.sample(list(QualityReason), draw.randrange(3)))
            face.quality = Quality(1.0, 0.5, None, draw.random(), words)
    return made


def slow(works: list[Work]) -> tuple[Slow, ...]:
    """As a run notes them."""
    return tuple(
        Slow(w.uri, w.member, 5.0 - k / 10, {"decode": 4.0 - k / 10, "chip": 1.0}) for k, w in enumerate(works)
    )


def summary(**known: Any) -> Summary:
    """What a run of these images has cost."""
    facts: dict[str, Any] = {
        "totals": {"ok": 1},
        "planned": 60,
        "new_images": 60,
        "seconds": 12.0,
        "whole_seconds": 20.0,
        "peak_bytes": 3 << 30,
        "output": "/out",
        "provider": CPU,
        "spent": {"decode": 6.5, "detect": 12.25, "write": 0.5},
        "moved": 2_500_000,
        "pools": {"index": {"actors": 2, "threads": 1, "cpus": 0.75, "gpus": 0}},
        "layout": ("layout fused: one decode", "two actors"),
        "timeline": ((0.0, 0, 0, 0), (4.0, 10, 20, 1000), (8.0, 50, 100, 5000), (12.0, 60, 120, 6000)),
    }
    return Summary(**(facts | known))


def empty(storage: Storage, root: str) -> Dataset:
    """A dataset before its first run."""
    made = Dataset.at(storage, root)
    made.open({**FACTS, "contract": {}})
    return made


def written(made: Dataset, works: list[Work], commits: int = 4) -> None:
    """One run that writes the works in so many commits, and notes nothing."""
    files = [Source(Kind.FILES, Object(f"/p/{i}.jpg", 10, None, 1), bytes=10) for i in range(len(works))]
    plan.freeze(made, 0, files, config.Shards())
    (shard,) = plan.shards(made)
    for one in works:
        one.shard_id = shard.shard_id
    with epochs.taken(made) as epoch:
        ledger.settle(made, epoch.number)
        writer = Writer(made, epoch.guard, FACTS)
        for k in range(commits):
            writer.write(works[k::commits])


@pytest.fixture
def dataset(place: tuple[Storage, str]) -> Dataset:
    """Sixty images in several commits, and a run that has noted what it took; on a disk, and on S3."""
    made, works = empty(*place), images()
    written(made, works)
    note(made, summary(slowest=slow(works[:12])))
    return made


@pytest.fixture
def local(tmp_path: Path) -> Dataset:
    """The same on a disk."""
    made, works = empty(Storage(), str(tmp_path / "out")), images()
    written(made, works)
    note(made, summary(slowest=slow(works[:12])))
    return made


def note(dataset: Dataset, told: Summary, number: int = 1, **changes: Any) -> None:
    settings = config.load(None, ["run.layout=fused", "storage.region=x"], inputs=("/photos",), output=dataset.root)
    dataset.note_run(number, report(settings, told) | changes)


def rows(dataset: Dataset, table: str) -> list[dict[str, Any]]:
    """All rows of a table, by a plain glob."""
    objects = dataset.storage.objects(dataset.path(table) + "/")
    read = [pq.ParquetFile(io.BytesIO(dataset.storage.read(found.uri)[0])).read() for found in objects]
    return list(pa.concat_tables(read).to_pylist())
