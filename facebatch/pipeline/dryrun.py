"""`facebatch plan`: what `facebatch index` would do. Nothing is written, unless a manifest is asked for.

The inputs are listed as a run would list them, compared with what the dataset holds, and laid out on the Ray that the
run would use; a sample of the images tells how long it would take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from rich.console import Console

from facebatch import forecast, ledger, networks, plan, release
from facebatch.config import Config
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.forecast import Reservoir, Sample
from facebatch.listing import ManifestWriter
from facebatch.logs import say
from facebatch.pipeline import calibration, nodes
from facebatch.pipeline.cluster import connected
from facebatch.pipeline.index import BYTES_A_PHOTO
from facebatch.pipeline.machine import provider_of
from facebatch.pipeline.pools import Layout, Work, lay_out
from facebatch.plan import Listing
from facebatch.progress import clock, listed
from facebatch.seen import Seen
from facebatch.session import CPU, providers
from facebatch.sources import Kind, Source, inputs
from facebatch.sources.base import Base
from facebatch.storage import Storage
from facebatch.storage.walk import walk
from facebatch.summary import Row

_NAMES = {Kind.FILES: "files", Kind.TAR: "tars", Kind.ROWS: "row groups", Kind.BROKEN: "that cannot be opened"}
_START = 10.0
"""Seconds that starting Ray and its workers takes."""


@dataclass(slots=True)
class Todo:
    """What is left to do, of plans there are and of what is new."""

    shards: int = 0
    bytes: int = 0
    images: int = 0
    """Of shards whose count is known."""
    unread: int = 0
    """Bytes of containers whose count is not known."""
    kinds: Counter[Kind] = field(default_factory=Counter)

    def add(self, count: int | None, size: int) -> None:
        """One more shard: how many images of it are left, and its bytes."""
        self.shards += 1
        self.bytes += size
        self.images += count or 0
        self.unread += size if count is None else 0


def dry_run(config: Config, console: Console, list_to: str | None = None) -> Iterator[Row]:
    """The rows of the table. Raises UsageError as `index` would. list_to: where a manifest of all files is written."""
    storage, base = Storage(config.storage), Base.at(config.base_uri)
    inputs.check(storage, config)
    todo, seen, shards, before = Todo(), Seen(), 0, 0
    again, retried = release.chosen(config.run.retry), dict[str, int]()
    dataset = Dataset.at(storage, config.output) if config.output else None
    if dataset and storage.stat(dataset.internal("dataset.json")):
        dataset.facts()
        state, planned = ledger.state(dataset), plan.shards(dataset)
        retried = release.counts(state, again)
        seen = plan.planned(dataset, plan.count(dataset))
        shards, before = len(planned), sum(shard.rows for shard in planned)
        for shard in planned:
            if state.missing(shard):
                todo.add(state.left(shard), shard.bytes)
    listing, sample = Listing(), Reservoir()
    stream = listed(inputs.expand(storage, config, walk if list_to else Storage.objects), partial(say, console))
    if list_to:
        writer = ManifestWriter(storage, list_to, base)
        stream = writer.passing(stream)
    stream = sample.passing(stream)
    for group in plan.grouped(plan.compare(stream, seen, listing), config.shards):
        counts = [source.rows for source in group]
        todo.add(None if None in counts else sum(n or 0 for n in counts), sum(s.bytes for s in group))
        todo.kinds.update(source.kind for source in group)
        shards += 1
    if list_to:
        yield "manifest", f"{writer.close():,}", f"files in {list_to}{writer.remark()}"
    named = ", ".join(f"{n:,} {_NAMES[kind]}" for kind, n in sorted(todo.kinds.items())) or "nothing"
    yield "new", f"{listing.fresh:,}", f"{named}; {before:,} were planned before"
    if listing.changed:
        yield "changed", f"{listing.changed:,}", f"since they were planned, e.g. {listing.examples[0]}; they stay as is"
    if retried:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in retried.items())
        yield (
            "retried",
            f"{sum(retried.values()):,}",
            f"are computed again ({reasons}); not in the figures below",
        )
    size = f"{todo.bytes / 1e6:,.1f} MB" if todo.bytes or not todo.shards else "sizes are known when they are read"
    yield "shards", f"{todo.shards:,}", f"of {shards:,} to do, {size}"
    if not todo.shards:
        return
    located = [replace(source, object=base.located(source.object)) for source in sample.sources]
    measured = _measured(config, storage, located)
    average = measured.bytes / measured.images if isinstance(measured, Sample) else BYTES_A_PHOTO
    images = todo.images + round(todo.unread / average)
    yield "images", f"{images:,}", "to do" if not todo.unread else f"to do, about: {average / 1e3:.0f} kB an image"
    with connected(config.run.address):
        if lack := nodes.lacking(config.run):
            yield "layout", "?", f"not known before there is room for {nodes.asked_for(config.run)}, {lack}"
            return
        machine = nodes.machine(config.run)
        work = Work(images, todo.bytes or round(images * average), todo.shards)
        provider, _ = provider_of(machine, config.run, providers())
        ours = provider == CPU and calibration.pays(config.run, images)  # it was measured here, on a CPU
        told = measured if isinstance(measured, Sample) and ours else None
        layout = lay_out(machine, config.run, work, providers(), told)
    for title, why in zip(("provider", "layout", "pools", "memory", "sizes"), layout.why, strict=True):
        yield title, "", why
    yield "time", *_time(layout, measured, images)


def _measured(config: Config, storage: Storage, sources: list[Source]) -> Sample | FacebatchError:
    """What the sample costs, or why that is not known: the rest of a plan is worth printing without it."""
    try:
        return forecast.measure(config, networks.load(config), storage, sources)
    except FacebatchError as error:
        return error


def _time(layout: Layout, measured: Sample | FacebatchError, images: int) -> tuple[str, str]:
    if isinstance(measured, FacebatchError):
        return "?", f"not known: {measured}"
    if layout.pools[0].place.provider != CPU:
        return "?", "not known for a GPU before one has been measured: every run prints its rate"
    rate = measured.rate * layout.actors * max(pool.place.threads for pool in layout.pools)
    seconds = _START + images / rate
    sampled = f"{measured.images} sampled images took {1000 * measured.seconds / measured.images:.0f} ms of a core each"
    faces = f"{measured.faces / measured.images:.1f} faces an image"
    return clock(seconds), f"about, {rate:.0f} images/s: {sampled}, {faces}; measured on this machine"
