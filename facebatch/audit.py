"""`facebatch verify --deep`: a sample of a dataset, read again from its sources, computed again, compared row by row.

Without Ray, in this process, one image after the other. In memory are a few hundred images' rows at a time and one
batch of pictures, whatever the dataset and the sample; of the sample, its places.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import pyarrow as pa

from facebatch import config, epochs, ledger, networks, plan
from facebatch.agreement import NEAR, UNREAD, WIDE, Stored, Tolerance, differences
from facebatch.contract import contract
from facebatch.contract import differences as terms_that_differ
from facebatch.dataset import Dataset
from facebatch.detect import Settings
from facebatch.errors import UsageError
from facebatch.ledger import Record, State, merged
from facebatch.networks import Networks
from facebatch.plan import Shard
from facebatch.reader import Reader
from facebatch.reasons import Reason
from facebatch.session import CPU
from facebatch.sources.base import Base
from facebatch.stages import FusedStage, Place
from facebatch.storage import UNKNOWN
from facebatch.summary import COMPUTING, begun
from facebatch.verify import Damaged, few, read_table
from facebatch.work import Work

_AT_ONCE = 256
"""Sampled images whose rows are held at a time."""
_BATCH_BYTES = 64 << 20
"""Of encoded pictures that are held at a time, or one that is larger."""
_DANGEROUS = (Reason.WORKER_CRASH, Reason.TIMEOUT, Reason.OUT_OF_MEMORY)
"""Reasons of images that would do to this process what they did to a worker."""
_SETTINGS = ("base_uri", "decode", "gate", "detect", "landmarks", "embed", "quality")
"""Of a run's configuration, what belongs to the dataset. How it was laid out belongs to the machine."""


@dataclass(slots=True)
class Audit:
    """What computing `drawn` of `images` images again has shown. `problems` is empty where all agree."""

    images: int
    drawn: int
    seed: int
    compared: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that are not computed again, by the reason for which they failed."""
    unread: Counter[str] = field(default_factory=Counter)
    """Sources that cannot be compared, by reason."""
    example: str = ""
    """The first of these, and what is known of it."""
    tolerances: dict[str, str] = field(default_factory=dict)
    """What was compared how, and why so."""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    """A committed image: the record that holds its row, and where it was planned."""

    record: int
    shard: str
    index: int


def configuration(dataset: Dataset, file: str | None, words: Iterable[str]) -> config.Config:
    """How the dataset was made, as its last run has noted it, with a file and `key=value` words laid over that.

    How storage is reached is written nowhere, and how the work is laid out is another machine's: both are as given now.
    """
    runs = (dataset.run(epoch) for epoch in range(epochs.last_epoch(dataset), 0, -1))
    noted: dict[str, Any] = next((run["config"] for run in runs if run), {})
    return config.load(file, words, {key: noted[key] for key in _SETTINGS if key in noted})


def models(dataset: Dataset, settings: config.Config) -> Networks:
    """The networks. Raises UsageError where settings and weights are not those of the dataset's contract."""
    terms = dataset.facts()["contract"]
    chosen = networks.load(settings)
    if changes := terms_that_differ(terms, contract(settings, chosen)):
        raise UsageError(
            f"{dataset.root} was made under another contract than would be computed here: {'; '.join(changes)}. Take "
            "the settings and weights back with which it was made"
        )
    return chosen


def audit(dataset: Dataset, settings: config.Config, chosen: Networks, sample: int = 100, seed: int = 0) -> Audit:
    """Compute so many images again and compare. The same images for the same seed, as long as nothing is committed.

    Raises FacebatchError where nothing can be computed here, e.g. without the GPU that was asked for.
    """
    state = ledger.state(dataset)
    places = _drawn(state, sample, seed)
    report = Audit(sum(map(_images, state.records)), len(places), seed)
    provider = CPU if settings.run.provider == "auto" else settings.run.provider
    stage = FusedStage(settings, chosen, Place(provider, settings.run.threads or 1))
    threshold = Settings.of(settings.detect, chosen.detector.pack).score
    reader = Reader(dataset, Base.at(settings.base_uri), settings.decode.max_bytes)
    shards = {shard.shard_id: shard for shard in plan.shards(dataset)}
    tolerances = _tolerances(dataset, state.records, begun(settings, provider))
    stream = iter(places)
    while some := list(islice(stream, _AT_ONCE)):
        for name, group in groupby(_stored(dataset, state.records, some, report), lambda pair: pair[0].shard):
            left = {place.index: (place, stored) for place, stored in group}
            if name not in shards:  # verify names it
                report.left_out["no plan names their shard"] += len(left)
                continue
            for work in _computed(reader, stage, shards[name], list(left), settings.run.batch or config.BATCH):
                place, stored = left.pop(work.index)
                tolerance, how = tolerances[state.records[place.record].name]
                if why := _unread(stored, work, tolerance, reader, shards[name]):
                    report.unread[why] += 1
                    report.example = report.example or f"{_name(stored)}: {work.detail or why}"
                    continue
                report.compared += 1
                report.tolerances[how] = tolerance.words
                if found := list(differences(stored, work, tolerance, threshold)):
                    report.problems.append(f"{_name(stored)}: {'; '.join(found)}")
            for index, (_, stored) in left.items():
                report.problems.append(f"{_name(stored)}: its source has no image number {index} any more")
    report.problems = few(report.problems, "images that differ")
    return report


def _images(record: Record) -> int:
    return sum(high - low for ranges in record.ranges.values() for low, high in ranges)


def _drawn(state: State, sample: int, seed: int) -> list[_Place]:
    """Places drawn from the ranges of all records, each image with the same chance, in the order of their sources."""
    ends, total = [], 0
    for record in state.records:
        total += _images(record)
        ends.append(total)
    found = []
    for number in sorted(random.Random(seed).sample(range(total), min(sample, total))):
        which = bisect_left(ends, number + 1)
        record = state.records[which]
        rest = number - (ends[which] - _images(record))
        for shard, (low, high) in ((s, r) for s, ranges in sorted(record.ranges.items()) for r in ranges):
            if rest < high - low:
                found.append(_Place(which, shard, low + rest))
                break
            rest -= high - low
    return sorted(found, key=lambda place: (place.shard, place.index))


def _stored(
    dataset: Dataset, records: list[Record], places: list[_Place], report: Audit
) -> Iterator[tuple[_Place, Stored]]:
    """The rows of these images, but for those that are not to be computed again, which are counted."""
    found: dict[_Place, Stored] = {}
    for which in sorted({place.record for place in places}):
        record = records[which]
        wanted = {(p.shard, p.index): p for p in places if p.record == which}
        try:
            images, faces = read_table(dataset, record.images), read_table(dataset, record.faces)
        except Damaged:  # verify names it
            report.left_out["their tables are damaged"] += len(wanted)
            continue
        rows = zip(images["shard_id"].to_pylist(), images["index"].to_pylist(), strict=True)
        owners = faces["image_id"].to_pylist()
        for number, key in enumerate(rows):
            if (place := wanted.pop(key, None)) is None:
                continue
            (image,) = images.slice(number, 1).to_pylist()
            if record.retryable or image["reason"] in (*_DANGEROUS, Reason.SOURCE_CHANGED, Reason.ERASED):
                report.left_out[image["reason"]] += 1
                continue
            own = [k for k, owner in enumerate(owners) if owner == image["image_id"]]
            found[place] = Stored(image, faces.take(pa.array(own, pa.int64())))
        report.problems += [f"image {index} of shard {shard} has no row in {record.name}" for shard, index in wanted]
    for place in places:
        if place in found:
            yield place, found[place]


def _computed(reader: Reader, stage: FusedStage, shard: Shard, indices: Iterable[int], most: int) -> Iterator[Work]:
    """The images of a shard, read and computed again a few at a time."""
    batch: list[Work] = []
    size = 0
    for work in reader.chosen(shard, merged((index, index + 1) for index in indices)):
        batch.append(work)
        size += len(work.data or b"")
        if len(batch) >= most or size >= _BATCH_BYTES:
            yield from stage(batch)
            batch, size = [], 0
    yield from stage(batch)


def _unread(stored: Stored, work: Work, tolerance: Tolerance, reader: Reader, shard: Shard) -> str | None:
    """Why a row says nothing about the image that was computed; None if it does."""
    if work.reason in UNREAD:
        return str(work.reason)
    reasons = {stored.image["reason"], work.reason}
    if tolerance is WIDE and len(reasons) == 2 and Reason.UNSUPPORTED_FORMAT in reasons:
        return str(Reason.UNSUPPORTED_FORMAT)  # the package that decodes it is here and was not there, or the reverse
    was, now = stored.image["content_sha256"], work.content_sha256
    if was and now and was != now:
        planned = plan.sources(reader.dataset, shard)
        source = planned[work.index] if len(planned) > 1 else planned[0]
        if source.object.version == UNKNOWN:  # nothing else could have told that it was replaced
            return str(Reason.SOURCE_CHANGED)
    return None


def _tolerances(dataset: Dataset, records: list[Record], here: dict[str, Any]) -> dict[str, tuple[Tolerance, str]]:
    """For each record, by its name, how its images are compared and why so.

    A record that stands for others holds rows that any run up to its own may have computed.
    """
    noted = {epoch: dataset.run(epoch) for epoch in range(1, max((r.epoch for r in records), default=0) + 1)}
    found: dict[str, tuple[Tolerance, str]] = {}
    for record in records:
        runs = [epoch for epoch in range(1, record.epoch + 1) if noted[epoch]] if record.replaces else []
        each = [_tolerance(epoch, noted[epoch], here) for epoch in runs or [record.epoch]]
        found[record.name] = next((one for one in each if one[0] is WIDE), each[-1])
    return found


def _tolerance(epoch: int, run: dict[str, Any] | None, here: dict[str, Any]) -> tuple[Tolerance, str]:
    """here: what would be noted of a run that computed as we do."""
    provider = run.get("provider") if run else None
    if run is None or provider is None:
        return WIDE, f"run {epoch} has not noted on what it computed"
    if provider != CPU or here["provider"] != CPU:
        return WIDE, f"run {epoch} computed on {provider}, this on {here['provider']}"
    changes = [
        f"{name} {run['versions'].get(name, 'absent')}, here {here['versions'].get(name, 'absent')}"
        for name in COMPUTING
        if run["versions"].get(name) != here["versions"].get(name)
    ]
    if run["machine"] != here["machine"]:
        changes.insert(0, f"{run['machine']}, here {here['machine']}")
    if changes:
        return WIDE, f"run {epoch} was made with {'; '.join(changes)}"
    return NEAR, "made with the packages that are here"


def _name(stored: Stored) -> str:
    """An image, as a person finds it."""
    uri, member = stored.image["uri"], stored.image["member"]
    return f"{uri} {member}".strip()
