"""`facebatch index`: from inputs to a dataset that holds each of their images exactly once. Its steps on one page."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial

import ray
import ray.exceptions
from ray.data.exceptions import ExecutionTimeoutError
from rich.console import Console

from facebatch import epochs, ledger, logs, networks, plan, release, tally
from facebatch.config import Config, Run
from facebatch.contract import facts_of
from facebatch.dataset import Dataset
from facebatch.detect import Settings
from facebatch.epochs import Epoch, Guard
from facebatch.errors import FacebatchError, Unreconciled, UsageError
from facebatch.failpoints import failpoint
from facebatch.forecast import Sample
from facebatch.ledger import State
from facebatch.logs import say
from facebatch.networks import Networks
from facebatch.pipeline import job as jobs
from facebatch.pipeline import nodes
from facebatch.pipeline.calibration import calibrate
from facebatch.pipeline.cluster import LOGS, connected
from facebatch.pipeline.datasource import ShardSource
from facebatch.pipeline.desk import Desk
from facebatch.pipeline.machine import provider_of
from facebatch.pipeline.pools import Work, lay_out
from facebatch.pipeline.watch import Stranded
from facebatch.plan import Listing, Shard
from facebatch.plugins import Wanted
from facebatch.progress import Progress, Target, listed
from facebatch.reader import Reader
from facebatch.reasons import Reason
from facebatch.session import CPU, CUDA, Session, providers
from facebatch.sink import Writer
from facebatch.slowest import Slow
from facebatch.sources import inputs
from facebatch.sources.base import Base
from facebatch.stopwatch import parts
from facebatch.storage import Storage
from facebatch.summary import Spared, Summary, begun, report
from facebatch.timeline import Point

BYTES_A_PHOTO = 300_000
"""To guess how many images a container holds before it has been read."""


@dataclass(frozen=True)
class Cost:
    """What the job took: seconds, bytes of memory at most, the GPUs that the workers of each stage saw, on what the
    networks ran, what a gate has saved, the seconds that all workers together spent in each stage, the bytes that
    went through the object store, how the workers were laid out and why so, and the sample that it was laid out by;
    what was done when, and which images took longest."""

    seconds: float = 0.0
    peak_bytes: int = 0
    seats: dict[str, list[str]] = field(default_factory=dict)
    provider: str | None = None
    spared: Spared | None = None
    spent: dict[str, float] = field(default_factory=dict)
    moved: int = 0
    pools: dict[str, dict[str, float]] = field(default_factory=dict)
    sample: Sample | None = None
    layout: tuple[str, ...] = ()
    timeline: tuple[Point, ...] = ()
    slowest: tuple[Slow, ...] = ()


def index(config: Config, console: Console) -> Summary:
    """Index every image that the inputs name and the dataset does not hold yet. Remarks go to the console.

    Raises UsageError before anything is written, FacebatchError when the run cannot go on (the same command resumes
    it), Unreconciled when the sums do not add up.
    """
    lost: Stranded | None = None
    while True:
        try:
            return _run(config, console)
        except Stranded as error:
            # The same command again, as a user would type it: in a new epoch, so that nothing of the old layout that
            # still runs somewhere can write, and laid out for the nodes there are now.
            say(console, f"{error}; the run goes on from what was committed, laid out anew")
            lost = error
            provider = "cuda" if error.on_gpus else config.run.provider
            # Released is released; and what is lost is not waited for.
            run = replace(config.run, provider=provider, retry=(), min_cpus=0, min_gpus=0)
            config = replace(config, run=run)
        except UsageError as error:
            if lost is None:
                raise
            raise FacebatchError(f"{lost}, and they are too few: {error}") from error


def _run(config: Config, console: Console) -> Summary:
    logs.begin(None)
    started = time.monotonic()
    dataset = Dataset.at(Storage(config.storage), config.output)
    inputs.check(dataset.storage, config)
    again = release.chosen(config.run.retry)
    chosen = _networks(config, console)
    facts = dataset.open(facts_of(config, chosen))
    with epochs.taken(dataset, tell=partial(say, console)) as epoch:
        logs.begin(epoch.number)
        dataset.note_run(epoch.number, begun(config))
        state = _released(dataset, epoch.guard, ledger.settle(dataset, epoch.number), again, console)
        shards = _planned(dataset, epoch.guard, config, console)
        todo = [shard for shard in shards if state.missing(shard)]
        planning = time.monotonic() - started
        _announce(console, shards, todo, state)
        writer = Writer(dataset, epoch.guard, facts)
        cost = _compute(config, console, epoch, writer, chosen, todo, state) if todo else Cost()
        state = ledger.state(dataset)
        if not state.records:
            writer.write_empty()
            state = ledger.state(dataset)
        ledger.sweep(dataset, epoch.guard, state)
        new = sum(r.images.rows for r in state.records if r.epoch == epoch.number and not r.replaces)
        planned = sum(state.count(shard) or 0 for shard in shards)
        summary = Summary(
            totals=state.totals(),
            planned=planned,
            new_images=new,
            seconds=cost.seconds,
            whole_seconds=time.monotonic() - started,
            peak_bytes=cost.peak_bytes,
            output=dataset.root,
            seats=cost.seats,
            provider=cost.provider,
            spared=cost.spared,
            spent=cost.spent,
            moved=cost.moved,
            planning_seconds=planning,
            pools=cost.pools,
            sample=cost.sample,
            layout=cost.layout,
            timeline=cost.timeline,
            slowest=cost.slowest,
        )
        dataset.note_run(epoch.number, report(config, summary))
        failpoint("end")
    _reconcile(dataset, shards, state)
    return summary


def _networks(config: Config, console: Console) -> Networks:
    chosen = networks.load(config)
    for model in chosen:
        Session(model, CPU).prove_batch()  # a wrong file is refused here, not by a worker an hour later
        kind = "gate" if model is chosen.gate else model.pack.kind
        place = "built in" if model.pack.weights.built_in else f"from {model.path}"
        say(console, f"{kind} {model.pack.name} {place}, licence: {model.pack.licence.name}")
    if any(model.pack.weights.built_in for model in chosen):
        say(console, "stronger models than the built-in ones: `facebatch models list`, then detect.pack=, embed.pack=")
    return chosen


def _released(dataset: Dataset, guard: Guard, state: State, again: frozenset[Reason], console: Console) -> State:
    """The state without the rows that the user wants to be computed again."""
    found = release.counts(state, again)
    if found:
        reasons = ", ".join(f"{reason} {n}" for reason, n in found.items())
        commits = f"{len(release.stale(state, again))} of {len(state.records)} commits are written anew without them"
        say(console, f"{sum(found.values())} images are computed again ({reasons}); {commits}")
    elif again:
        say(console, f"there is nothing to retry: no image has ended with {' or '.join(sorted(again))}")
    elif curable := release.curable(state):
        formats = ", ".join(f"{format} {n}" for format, n in curable.items())
        say(
            console,
            f"{sum(curable.values())} images failed when the package for them was absent, which is installed now "
            f"({formats}); they stay failed until --retry {Reason.UNSUPPORTED_FORMAT}",
        )
    return release.release(dataset, guard, state, again)


def _planned(dataset: Dataset, guard: Guard, config: Config, console: Console) -> list[Shard]:
    """All shards of the dataset, those of this run's new objects included, which are frozen first.

    The number of the new plan is taken before the listing, which can last hours: a run that was taken over meanwhile
    finds that number used, or its right to write gone.
    """
    number = plan.count(dataset)
    failpoint("resume")
    listing = Listing()
    wanted = Wanted()
    stream = listed(inputs.expand(dataset.storage, config), partial(say, console))
    fresh = plan.compare(stream, plan.planned(dataset, number), listing)
    written = plan.freeze(dataset, number, wanted.passing(fresh), config.shards, guard.check)
    for remark in wanted.remarks():
        say(console, remark)
    if listing.changed:
        few = ", ".join(listing.examples) + (" ..." if listing.changed > len(listing.examples) else "")
        say(console, f"{listing.changed} objects changed since they were planned; their rows stay as is: {few}")
    return plan.shards(dataset, number + written)


def estimated_bytes(shard: Shard) -> int:
    """What reading a shard moves; of files that were named and not listed, as much as they usually have."""
    return shard.bytes or shard.rows * BYTES_A_PHOTO


def _announce(console: Console, shards: list[Shard], todo: list[Shard], state: State) -> None:
    finished = sum(record.images.rows for record in state.records if not record.retryable)
    if not todo:
        say(console, f"nothing to do: all {finished} images are indexed already")
        return
    already = f"; {finished} images are indexed already" if finished else ""
    size = sum(shard.bytes for shard in todo)
    known = f", {size / 1e6:.1f} MB" if size else ""
    say(console, f"{len(todo)} of {len(shards)} shards to do{known}{already}")


def _compute(
    config: Config,
    console: Console,
    epoch: Epoch,
    writer: Writer,
    chosen: Networks,
    todo: list[Shard],
    state: State,
) -> Cost:
    """Run the job over the shards."""
    size = sum(map(estimated_bytes, todo))
    counts = [state.left(shard) for shard in todo]
    known = None if None in counts else sum(count or 0 for count in counts)
    images = sum(shard.bytes // BYTES_A_PHOTO + 1 if n is None else n for n, shard in zip(counts, todo, strict=True))
    with connected(config.run.address):
        machine = nodes.room(config.run, partial(say, console))
        views = Settings.of(config.detect, chosen.detector.pack).view_bytes
        provider, _ = provider_of(machine, config.run, providers())
        models = jobs.put(chosen)
        sample, calibrated = calibrate(config, models, writer.dataset, todo, images, provider)
        layout = lay_out(machine, config.run, Work(images, size, len(todo), views), providers(), sample)
        why = (*layout.why, calibrated)
        for reason in why:
            say(console, reason)
        writer.dataset.note_run(epoch.number, begun(config, provider))
        reader = Reader(writer.dataset, Base.at(config.base_uri), config.decode.max_bytes)
        left = [(shard, state.done.get(shard.shard_id, [])) for shard in todo]
        desk = Desk(epoch.number, images)
        desk.handle.add.remote(tally.taken())  # of planning
        source = ShardSource(reader, epoch.guard, left, desk.handle, layout.parcels)
        job = jobs.Job.of(config, chosen, models, layout.batch, reader, desk.handle, epoch.number)
        started = time.time()
        try:
            with Progress(console, Target(known, size), desk.read) as progress:
                jobs.run(job, source, layout, writer)
        except Stranded as error:
            error.on_gpus = layout.pools[0].place.provider == CUDA
            raise
        except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
            raise _translated(error, config.run, desk.trouble()) from error
        seconds = time.time() - (desk.first_byte() or started)
        timeline = progress.timeline(seconds)
        counted = desk.read()
        spent = {name: round(took, 3) for name, took in parts(counted).items()}
        return Cost(
            seconds,
            peak_bytes=progress.peak_bytes,
            seats=desk.seats(),
            provider=provider,
            spared=Spared.of(counted),
            spent=spent,
            moved=counted.get("moved", 0),
            pools=layout.facts,
            sample=sample,
            layout=why,
            timeline=tuple(timeline),
            slowest=tuple(desk.slowest()),
        )


_ON = "What was committed stays, and the same command goes on from there"
_DEATHS = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
)
"""How Ray tells that a process was lost and could not be made good, for want of restarts."""


def _translated(error: Exception, run: Run, trouble: str = "") -> FacebatchError:
    """What a worker raised, in our words where it is an error of ours; and what the loss of workers comes to.

    trouble: why a worker could not begin, where that is known.
    """
    cause = getattr(error, "cause", None) or error
    words = str(cause).strip().splitlines() or [type(cause).__name__]
    if isinstance(cause, FacebatchError):
        return type(cause)(words[0])  # the lines behind it are Ray's advice
    if isinstance(cause, ExecutionTimeoutError):
        return FacebatchError(
            f"nothing has moved for {run.patience} s (run.patience): the cluster may have lost the room that a stage "
            f"needs, or a worker hangs; `ray status` and the logs in {LOGS} on each node tell. {_ON}"
        )
    if isinstance(cause, _DEATHS) and trouble:
        return FacebatchError(f"workers could not begin: {trouble}. {_ON}")
    if isinstance(cause, _DEATHS):
        return FacebatchError(
            f"workers died again and again, and were started again {run.restarts} times at most (run.restarts): "
            f"{type(cause).__name__}: {words[0]} Look at worker-*.err and raylet.out in {LOGS} on the workers' nodes: "
            f"memory that ran out, or a crash in a library. {_ON}"
        )
    if isinstance(cause, ray.exceptions.GetTimeoutError):
        return FacebatchError(
            f"the planned workers have not all begun in {jobs.BEGIN} s: others may have taken their room since, as "
            f"`ray status` tells, or some died while they began, as the logs in {LOGS} on each node do. {_ON}"
        )
    return FacebatchError(
        f"a worker failed: {type(cause).__name__}: {words[0]}. {_ON}. The workers' logs are in {LOGS}"
    )


def _reconcile(dataset: Dataset, shards: list[Shard], state: State) -> None:
    """The sum law. Raises FacebatchError where it holds, but for rows that are tried again; else Unreconciled."""
    retry: Counter[str] = Counter()
    for record in state.records:
        retry.update({key: n for key, n in record.counts.items() if record.retryable and "/" in key})
    if retry:
        reasons = ", ".join(f"{key.rpartition('/')[2]} {n}" for key, n in sorted(retry.items()))
        raise FacebatchError(
            f"{sum(retry.values())} images failed for reasons outside them ({reasons}); the column `detail` says "
            f"which. Mend what is wrong and run the same command again: only these are tried again"
        )
    if short := [shard for shard in shards if state.missing(shard)]:
        raise Unreconciled(
            f"{len(short)} of {len(shards)} shards do not have the rows they should have, the first is "
            f"{short[0].shard_id}. Run the same command again: what is missing is computed then. If it stays so, run "
            f"`facebatch verify {dataset.root}`"
        )
