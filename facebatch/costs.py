"""What an image and a face cost, as measured: by a run that a dataset remembers, or here and now on one core.

Both ways end at a dataset: its last large run tells the seconds, its files the sizes.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facebatch import demo, epochs, ledger, networks, plan
from facebatch.config import Config
from facebatch.contract import facts_of
from facebatch.dataset import Dataset
from facebatch.errors import UsageError
from facebatch.ledger import File, State
from facebatch.networks import Networks
from facebatch.plan import Shard
from facebatch.reader import Parcels, Reader
from facebatch.reasons import Status
from facebatch.scale import NETWORKS, PARTS, Archive, Costs, Sizes, Table
from facebatch.session import CPU, CUDA
from facebatch.sink import Writer, encoded
from facebatch.sources import Kind, inputs
from facebatch.sources.base import Base
from facebatch.stages import FusedStage, Place
from facebatch.stopwatch import Stopwatch, parts
from facebatch.storage import Storage
from facebatch.summary import Summary, report
from facebatch.work import Work, unpacked

ENOUGH = 100_000
"""Images from which on a run's planning is taken to grow with them. Of fewer the start is most: 20 images take 0.8 s,
100,000 objects 2.5 (`python -m tests.million`, 2 cores)."""
_STAGES = ("decode", "detect", "chip", "embed")
"""Parts that the actors of a fused run do."""
_PARCELS = Parcels(128, 16 << 20)
_ROUNDS = 3
"""Of which the fastest counts: what else a machine does can only slow it."""
_LOOSE = (Kind.FILES, Kind.BROKEN)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a dataset tells: the archive that was measured, what it cost, and in words where that is from.

    busy: the share of their time in which the workers of the run were at work. left_out: seconds of its planning,
    where they say nothing of a larger run's.
    """

    archive: Archive
    costs: Costs
    origin: str
    busy: float
    left_out: float | None


def measured(dataset: Dataset) -> Measured:
    """The costs of the run that indexed most of a dataset, and the sizes of its files.

    Raises UsageError where there is no dataset, no run that tells what it cost, or no face in it.
    """
    facts = dataset.facts()
    number, record = _run(dataset)
    state, shards = ledger.state(dataset), plan.shards(dataset)
    totals = state.totals()
    images, faces = sum(totals.get(status, 0) for status in Status), totals.get("faces", 0)
    if not faces:
        raise UsageError(
            f"{dataset.root} holds no face, and what one costs cannot be told from it: index photos of people"
        )
    if any(state.missing(shard) for shard in shards):
        raise UsageError(f"{dataset.root} is not finished: `facebatch status {dataset.root}` says how to go on with it")
    archive = _archive(shards, images, faces)
    sizes = _sizes(dataset, state, archive.sources)
    indexed, spent = record["images"], _spent(record)
    pictures, people = images * sizes.images.more, faces * sizes.faces.more
    # What of a part faces cost. Writing is shared out by bytes.
    shares = {"chip": 1.0, "embed": 1.0, "write": people / (pictures + people)}
    planning = record["planning_seconds"]
    costs = Costs(
        image={part: (1 - shares.get(part, 0.0)) * took / indexed for part, took in spent.items()},
        face={part: share * spent.get(part, 0.0) / (indexed * archive.faces) for part, share in shares.items()},
        sizes=sizes,
        on_gpu=record["provider"] == CUDA,
        planning=planning / indexed if indexed >= ENOUGH else None,
    )
    origin = (
        f"run {number} of {dataset.root}: {indexed:,} images on {record['provider']}, {facts['detector']}, "
        f"{facts['embedder']}, facebatch {record['facebatch']}"
    )
    return Measured(archive, costs, origin, _busy(record), None if indexed >= ENOUGH else planning)


def index_demo(config: Config, folder: Path) -> Dataset:
    """A dataset of the demo's photographs, made on one core of this machine without Ray, with the record of its run.

    Raises UsageError when a package that carries a photograph is not installed, or a network is not at hand.
    """
    demo.write(demo.archive(), folder)
    settings = replace(config, inputs=demo.inputs(folder), output=str(folder / "index"), include=(), exclude=())
    settings = replace(settings, base_uri=None)
    chosen = networks.load(settings)
    dataset = Dataset.at(Storage(settings.storage), settings.output)
    facts = dataset.open(facts_of(settings, chosen))
    with epochs.taken(dataset) as epoch:
        ledger.settle(dataset, epoch.number)
        dataset.note_run(epoch.number, _compute(settings, chosen, Writer(dataset, epoch.guard, facts)))
    return dataset


def _compute(settings: Config, chosen: Networks, writer: Writer) -> dict[str, Any]:
    """Plan, read, compute and write on one core; returns the record of the run."""
    dataset, watch, began = writer.dataset, Stopwatch(), time.perf_counter()
    plan.freeze(dataset, 0, inputs.expand(dataset.storage, settings), settings.shards, writer.guard.check)
    planning = time.perf_counter() - began
    reader = Reader(dataset, Base.at(None), settings.decode.max_bytes)
    todo = reader.parcels([(shard, []) for shard in plan.shards(dataset)], writer.guard, _PARCELS)
    parcels = list(watch.waiting_for("read", todo))
    reading = parts(watch.taken())
    stage = FusedStage(settings, chosen, Place(), watch)
    stage(unpacked(parcels[0])[:1])  # sessions and decoders warm up
    rounds = []
    for _ in range(_ROUNDS):
        watch.taken()
        done, started = list[Work](), time.perf_counter()
        for parcel in parcels:
            with watch.timing("pack"):
                works = unpacked(parcel)
            done += stage(works)
        rounds.append((time.perf_counter() - started, parts(watch.taken())))
    seconds, spent = min(rounds, key=itemgetter(0))
    with watch.timing("write"):
        writer.write(done)
    summary = Summary(
        totals=ledger.state(dataset).totals(),
        planned=len(done),
        new_images=len(done),
        seconds=seconds,
        whole_seconds=time.perf_counter() - began,
        peak_bytes=0,
        output=dataset.root,
        provider=CPU,
        spent=reading | spent | parts(watch.taken()),
        planning_seconds=planning,
        pools={"index": {"actors": 1, "threads": 1, "cpus": 1.0, "gpus": 0.0}},
    )
    return report(settings, summary)


def _run(dataset: Dataset) -> tuple[int, dict[str, Any]]:
    """Of the runs that tell what they cost, the number and the record of the one that indexed most."""
    told = []
    for number in range(1, epochs.last_epoch(dataset) + 1):
        record = dataset.run(number) or {}
        if record.get("images") and record.get("spent") and record.get("pools"):
            told.append((number, record))
    if not told:
        raise UsageError(
            f"no run of {dataset.root} tells what it cost: none came to its end with something to do, or an older "
            "facebatch made it. Index some thousand images into a new output, and name that"
        )
    return max(told, key=lambda run: run[1]["images"])


def _spent(record: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by part, of cores, and of GPUs where networks ran on them. Records have seconds of workers, each of
    which may have several threads, or a part of a GPU; that not all threads are always busy is left out."""
    spent, pools = {part: float(record["spent"].get(part, 0.0)) for part in PARTS}, record["pools"]
    for part in _STAGES:
        if pool := pools.get("index") or pools.get(part):
            on_gpu = record["provider"] == CUDA and part in NETWORKS
            spent[part] *= pool["gpus"] if on_gpu else pool["threads"]
    return spent


def _busy(record: Mapping[str, Any]) -> float:
    """The share of a run's time in which its actors were in a stage."""
    pools, spent = record["pools"], record["spent"]
    stages = _STAGES if "index" in pools else tuple(pools)
    actors = sum(pool["actors"] for pool in pools.values())
    return float(sum(spent.get(part, 0.0) for part in stages) / max(actors * record["seconds"], 1e-9))


def _archive(shards: Sequence[Shard], images: int, faces: int) -> Archive:
    return Archive(
        images=images,
        bytes=sum(shard.bytes for shard in shards) / images,
        faces=faces / images,
        loose=sum(shard.rows for shard in shards if shard.kind in _LOOSE),
        containers=sum(1 for shard in shards if shard.kind not in _LOOSE),
    )


def _sizes(dataset: Dataset, state: State, sources: int) -> Sizes:
    """How large files of the dataset are; from the records, the plans, and the first file of each kind."""
    plans = [found for found in dataset.storage.objects(dataset.internal("plan/")) if found.uri.endswith(".parquet")]
    ranges = [len(json.dumps(record.ranges)) for record in state.records]
    whole = sum(len(json.dumps(asdict(record))) for record in state.records)
    return Sizes(
        images=_table(dataset, [record.images for record in state.records]),
        faces=_table(dataset, [record.faces for record in state.records]),
        plan=_grown(
            _one_row(dataset, plans[0].uri, _plan_file), sum(found.size for found in plans), len(plans), sources
        ),
        record=(whole - sum(ranges)) / len(ranges),
        range=sum(ranges) / sum(len(record.ranges) for record in state.records),
    )


def _table(dataset: Dataset, files: Sequence[File]) -> Table:
    largest = max(files, key=lambda file: file.rows)
    first = _one_row(dataset, dataset.path(largest.path), encoded)
    return _grown(first, sum(file.bytes for file in files), len(files), sum(file.rows for file in files))


def _grown(first: int, size: int, files: int, rows: int) -> Table:
    """Files of so many bytes and rows together, where one of one row has `first` bytes."""
    return Table(first, (size - files * first) / (rows - files)) if rows > files else Table(size / files, size / files)


def _one_row(dataset: Dataset, uri: str, encode: Callable[[pa.Table], bytes]) -> int:
    """Bytes of the file if it held its first row only: what a file costs beside its rows."""
    with dataset.storage.open(uri) as stream:
        table = pq.ParquetFile(stream).read_row_group(0)
    return len(encode(table.slice(0, 1)))


def _plan_file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
