"""The job: shards are read, pass through the stages, and are committed. This page is the whole wiring.

fused:  read tasks -> index actors -> write tasks
split:  read tasks -> decode tasks -> detect actors -> chip tasks -> embed actors -> write tasks
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from logging import WARNING
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import DataContext

from facebatch import logs, tally
from facebatch.config import Config, Run
from facebatch.detect import Settings
from facebatch.networks import Networks
from facebatch.packs import Model, Pack
from facebatch.pipeline.datasink import CommitSink
from facebatch.pipeline.datasource import ShardSource
from facebatch.pipeline.desk import RemoteJournal, counted
from facebatch.pipeline.machine import TASK_CPUS
from facebatch.pipeline.nodes import selector
from facebatch.pipeline.pools import Layout, Pool
from facebatch.pipeline.watch import Watch, forget, tell
from facebatch.reader import Reader
from facebatch.sink import Writer
from facebatch.slowest import Slowest
from facebatch.stages import ChipStage, DecodeStage, DetectStage, EmbedStage, FusedStage, Place, Stage
from facebatch.stopwatch import Stopwatch
from facebatch.suspects import Cautious
from facebatch.trial import Rules
from facebatch.work import Work, packed, unpacked

BEGIN = 300
"""Seconds that the actors of a pool have to begin, restarts included."""
_BATCH_BYTES = 16 << 20
"""Of encoded images that a worker holds at once: 32 scans of 200 megabytes would be more than its memory."""


@dataclass(frozen=True)
class Job:
    """Everything that the stages need, small enough to be sent to each of them: models go as object references."""

    config: Config
    detector_pack: Pack
    gate_pack: Pack | None
    models: dict[str, Any]
    """References by what they are in `Networks`; those that there are."""
    batch: int
    reader: Reader
    desk: Any
    run: int
    """Its number in the dataset."""

    @classmethod
    def of(
        cls, config: Config, networks: Networks, models: dict[str, Any], batch: int, reader: Reader, desk: Any, run: int
    ) -> Job:
        """models: what `put` gave for the networks."""
        gate = networks.gate.pack if networks.gate else None
        return cls(config, networks.detector.pack, gate, models, batch, reader, desk, run)

    def model(self, name: str) -> Model:
        """One of the networks."""
        model: Model = ray.get(self.models[name])
        return model

    def model_or_none(self, name: str) -> Model | None:
        """One that not every job has."""
        return self.model(name) if name in self.models else None

    @property
    def journal(self) -> RemoteJournal:
        """Where suspects are noted."""
        return RemoteJournal(self.desk)

    @property
    def rules(self) -> Rules:
        """How a suspect is tried."""
        settings = Settings.of(self.config.detect, self.detector_pack)
        return Rules(self.config.decode, settings, self.config.run.image_seconds)


def put(networks: Networks) -> dict[str, Any]:
    """The models where every worker can take them: references by what they are in `Networks`."""
    there = {f.name: model for f in fields(networks) if (model := getattr(networks, f.name))}
    return {name: ray.put(model) for name, model in there.items()}


def run(job: Job, source: ShardSource, layout: Layout, writer: Writer) -> None:
    """Index all shards of the source. Returns when every row is committed; raises what a worker raised."""
    context, before = _configure(job, layout), sys.exc_info()[1]
    try:
        _flow(job, source, layout, writer)
    except BaseException as error:
        let_go(error, before)
        raise
    finally:
        forget(context)


def let_go(error: BaseException, before: BaseException | None = None) -> None:
    """Release what the frames hold that an error has passed through: Ray Data's pools among it, whose actors live as
    long as somebody has a handle. Who keeps the error, as a notebook does, would keep their CPUs and GPUs.

    before: the caller's own error, behind which this one was raised; its frames stay as they are.
    """
    met = [before]
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or any(one is other for other in met):
            continue
        met.append(one)
        traceback.clear_frames(one.__traceback__)
        todo += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    gc.collect()


def _flow(job: Job, source: ShardSource, layout: Layout, writer: Writer) -> None:
    retries = _remote_args(max_retries=job.config.run.restarts)
    rows = ray.data.read_datasource(
        source,
        override_num_blocks=len(source),
        num_cpus=TASK_CPUS,
        concurrency=layout.readers,
        ray_remote_args=retries,
    )
    if layout.name == "fused":
        rows = _actors(rows, job, layout.pools[0], fused, last=True)
    else:
        detect, embed = layout.pools
        rows = _tasks(rows, job, decode, layout.decode_cpus)
        rows = _actors(rows, job, detect, detecting)
        rows = _tasks(rows, job, chip, layout.decode_cpus)
        rows = _actors(rows, job, embed, embedding, last=True)
    sink = CommitSink(writer, layout.commit_parcels, job.desk)
    rows.write_datasink(sink, ray_remote_args={"num_cpus": TASK_CPUS, **retries}, concurrency=layout.writers)


def fused(job: Job, place: Place, watch: Stopwatch) -> Stage:
    networks = Networks(**{name: ray.get(model) for name, model in job.models.items()})
    return FusedStage(job.config, networks, place, watch)


def decode(job: Job, place: Place, watch: Stopwatch) -> Stage:
    return watch.around("decode", DecodeStage(job.config, job.detector_pack, place, gate=job.gate_pack))


def detecting(job: Job, place: Place, watch: Stopwatch) -> Stage:
    return watch.around("detect", DetectStage(job.config, job.model("detector"), place, job.model_or_none("gate")))


def chip(job: Job, place: Place, watch: Stopwatch) -> Stage:
    return watch.around("chip", ChipStage(job.config, place, job.model_or_none("landmarks")))


def embedding(job: Job, place: Place, watch: Stopwatch) -> Stage:
    return watch.around("embed", EmbedStage(job.config, job.model("embedder"), place))


Recipe = Callable[[Job, Place, Stopwatch], Stage]


class StageActor:
    """A stage inside a Ray actor: built once from its recipe, then called with parcels."""

    def __init__(self, job: Job, recipe: Recipe, pool: Pool, last: bool) -> None:
        seen = devices(pool.gpus)  # before CUDA looks
        logs.from_worker(job.run)
        if ray.get_runtime_context().was_current_actor_reconstructed:
            job.desk.add.remote({"retries/worker": 1})
            logs.event("worker_restarted", f"a worker of {pool.name} was lost; this one is in its place", WARNING)
        watch = Stopwatch()
        try:
            stage = recipe(job, replace(pool.place, restarted=True), watch)
        except Exception as error:
            ray.get(job.desk.stumbled.remote(pool.name, f"{type(error).__name__}: {error}"))
            raise
        job.desk.seat.remote(pool.name, seen)
        self._work = Worker(Cautious(pool.name, stage, job.journal, job.rules), job, watch, last)

    def __call__(self, parcel: pa.Table) -> pa.Table:
        return self._work(parcel)


class Worker:
    """A stage that is given parcels and gives parcels, and tells the desk what that took."""

    def __init__(self, stage: Cautious, job: Job, watch: Stopwatch, last: bool = False) -> None:
        self._stage, self._watch, self._last = stage, watch, last
        self._batch, self._desk, self._reader = job.batch, job.desk, job.reader
        self._slowest = Slowest()

    def __call__(self, parcel: pa.Table) -> pa.Table:
        with self._watch.timing("pack"):
            works = unpacked(parcel)
        done: list[Work] = []
        batches = self._watch.waiting_for("read", batched(self._reader.read(works), self._batch))
        for batch in self._stage.block(batches):
            done += batch
            self._tell(batch)
        with self._watch.timing("pack"):
            parcel = packed(done)
        self._desk.add.remote(self._watch.taken() | {"moved": parcel.nbytes})
        return parcel

    def _tell(self, batch: list[Work]) -> None:
        spent = self._watch.taken() | tally.taken()
        if self._last:
            self._desk.add.remote(spent | counted(batch), self._slowest.met(batch))
        else:
            self._desk.add.remote(spent)


# A stage is given blocks as they are, a parcel each, which is bounded in bytes. `Dataset.map_batches` insists on a
# number of rows where a stage has GPUs; its developer API beneath does not.


def _actors(rows: Any, job: Job, pool: Pool, recipe: Recipe, last: bool = False) -> Any:
    return rows.map_batches_internal(
        type(pool.name, (StageActor,), {}),  # what `ps`, dashboards and Ray's messages call it
        fn_constructor_args=(job, recipe, pool, last),
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=2),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        udf_modifying_row_count=False,
        **_remote_args(max_restarts=job.config.run.restarts, max_task_retries=job.config.run.restarts),
    )


def _tasks(rows: Any, job: Job, recipe: Recipe, cpus: float) -> Any:
    def work(parcel: pa.Table) -> pa.Table:
        job.desk.seat.remote(recipe.__name__, devices(0))
        logs.from_worker(job.run)
        watch = Stopwatch()
        stage = Cautious(recipe.__name__, recipe(job, Place(restarted=True), watch), job.journal, job.rules)
        return Worker(stage, job, watch)(parcel)

    work.__name__ = recipe.__name__
    return rows.map_batches_internal(
        work,
        batch_format="pyarrow",
        num_cpus=cpus,
        udf_modifying_row_count=False,
        **_remote_args(max_retries=job.config.run.restarts),
    )


def batched(works: Iterable[Work], size: int, most_bytes: int = _BATCH_BYTES) -> Iterator[list[Work]]:
    """So many at once, and of so many bytes; a larger one ends its batch."""
    batch: list[Work] = []
    held = 0
    for work in works:
        batch.append(work)
        held += len(work.data or b"")
        if len(batch) == size or held >= most_bytes:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def devices(gpus: float) -> str:
    """The GPUs that this process sees, as CUDA counts them. Where none were planned it sees none from here on: Ray
    2.60 leaves all of them visible to workers that asked for none."""
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def _remote_args(**args: Any) -> dict[str, Any]:
    """The one place for arguments that Ray Data takes only in the way that goes away in Ray 2.64.

    Restarts and retries among them are finite: Ray Data's own are without end, and an image that crashes the decoder
    would restart its actor for ever.
    """
    return args


def rehearse(run: Run, patience: float) -> None:
    """Start what Ray Data starts with its first job, and a process that has all that reading and writing need: two
    seconds that pass beside something else, and not while the actors wait for their first images.

    patience: seconds without progress after which ExecutionTimeoutError is raised.
    """
    _quiet(run).execution_no_progress_timeout_s = patience
    rows = ray.data.from_items([0])
    rows.map_batches(_as_it_is, batch_format="pyarrow", num_cpus=TASK_CPUS).materialize()


def _as_it_is(rows: pa.Table) -> pa.Table:
    return rows


def _quiet(run: Run) -> DataContext:
    context = DataContext.get_current()
    context.execution_options.label_selector = selector(run) or None
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.memory_usage_poll_interval_s = None  # it walks the pages of each worker every second, for statistics
    return context


def _configure(job: Job, layout: Layout) -> DataContext:
    context = _quiet(job.config.run)
    tell(context, job.desk, job.config.run.unreadable, layout.actors if layout.name == "fused" else 0)
    context.target_max_block_size = 1  # each parcel is a block of its own, as the reader has made it
    context.max_errored_blocks = 0  # an errored block is lost images: never tolerated
    context.execution_options.preserve_order = False
    context.wait_for_min_actors_s = BEGIN  # a pool that cannot start fails the job, and does not crawl
    context.execution_no_progress_timeout_s = job.config.run.patience
    context.custom_execution_callback_classes = [Watch]
    return context
