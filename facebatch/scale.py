"""A run on paper: how long a fleet takes over an archive, what holds it back, and how much it writes. Pure arithmetic.

What an image and a face cost is measured elsewhere (`facebatch.costs`); nothing here knows a speed. Each resource is
taken to be busy without a pause, so that what comes out is the least that a run can take (`NEGLECTED`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from facebatch.config import Config
from facebatch.errors import UsageError
from facebatch.plan import PLAN_ROWS
from facebatch.sink import FACES_A_FILE, commit_images

NETWORKS = ("detect", "embed")
"""The parts that a GPU takes over."""
PARTS = ("read", "decode", "detect", "chip", "embed", "pack", "write")
"""In the order in which an image meets them (`spent` in a run's record). `pack`: into parcels and out of them."""
NEGLECTED = (
    "start-up, stragglers, workers that wait for each other, what travels between nodes, requests that are tried "
    "again, lost nodes; pictures are taken to be like those that were measured"
)
_BOOKKEEPING = 6
"""Objects of a run whatever its size: dataset.json, the run's record, and the four of its epoch."""

# Memory of the driver, without Ray's own: measured on CPython 3.11 with `python -m tests.million` at 100,000 and
# 800,000 objects (206 and 257 MB), and with tracemalloc over 10,000 shards and 2,000 records of 1 to 50 shards each.
_DRIVER_BYTES = 200e6
_SOURCE_BYTES = 80
"""24 while it is remembered (`facebatch.seen`), 79 at most while two halves are merged into one."""
_SHARD_BYTES = 320
"""194 of its own, and its place among what is left to do."""
_RECORD_BYTES = 2000
_RANGE_BYTES = 450
"""Of a shard in a record: 265 there, 185 where all records are added up."""


@dataclass(frozen=True, slots=True)
class Archive:
    """What is to be indexed. bytes: of an image as it is read; faces: of an image, on average. Images are loose files
    (`loose`), or lie in so many `containers`: tars, or row groups of tables."""

    images: int
    bytes: float
    faces: float
    loose: int
    containers: int = 0

    @property
    def sources(self) -> int:
        """What is listed and planned."""
        return self.loose + self.containers

    def grown(
        self, images: int, bytes: float | None = None, faces: float | None = None, packed: float | None = None
    ) -> Archive:
        """One of so many images that is like this one but for what is given. packed: images in a container."""
        loose = 0 if packed else round(images * self.loose / self.images)
        containers = math.ceil(images / packed) if packed else round(images * self.containers / self.images)
        return Archive(
            images, self.bytes if bytes is None else bytes, self.faces if faces is None else faces, loose, containers
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """What it runs on. cores: of a node; gpus: of all nodes together; bandwidth: bytes a second that a node reads.

    Prices are for an hour, in whatever currency.
    """

    nodes: int = 1
    cores: float = 1
    gpus: int = 0
    bandwidth: float | None = None
    core_hour: float | None = None
    gpu_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """How large Parquet files are: `first` bytes with one row, schema and statistics among them, `more` bytes for each
    further row."""

    first: float
    more: float

    def bytes(self, files: float, rows: float) -> float:
        """Of so many files that hold so many rows together."""
        return files * self.first + max(rows - files, 0) * self.more


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large what is written is. record: bytes of one without its ranges; range: of a shard named in a record."""

    images: Table
    faces: Table
    plan: Table
    record: float
    range: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What an image and a face take, in seconds by part (`PARTS`): of a core; of a GPU for `NETWORKS` if `on_gpu`.

    planning: seconds of the driver for an image, until it is known what there is to do; None where that was not
    measured.
    """

    image: Mapping[str, float]
    face: Mapping[str, float]
    sizes: Sizes
    on_gpu: bool = False
    planning: float | None = None

    def seconds(self, archive: Archive) -> dict[str, float]:
        """Of the whole archive, by part."""
        faces = archive.images * archive.faces
        return {p: archive.images * self.image.get(p, 0.0) + faces * self.face.get(p, 0.0) for p in PARTS}


@dataclass(frozen=True, slots=True)
class Written:
    """What a run leaves in its dataset. objects: all there are, of which `records` name two tables each."""

    shards: int
    records: int
    plans: int
    objects: int
    table_bytes: float
    record_bytes: float
    plan_bytes: float

    @property
    def bytes(self) -> float:
        return self.table_bytes + self.record_bytes + self.plan_bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run takes. cores, gpus: seconds of one of them by part; took: seconds of the whole fleet by resource;
    seconds: of the run, at least; in_turn: whether cores and GPUs wait for each other; price: of the fleet meanwhile,
    None without prices."""

    cores: Mapping[str, float]
    gpus: Mapping[str, float]
    took: Mapping[str, float]
    seconds: float
    in_turn: bool
    price: float | None
    bytes_read: float
    written: Written
    driver_bytes: float

    @property
    def bottleneck(self) -> str:
        """The resource that takes longest: more of the others does not help."""
        return max(self.took, key=lambda name: self.took[name])


def fitted(costs: Costs, fleet: Fleet, speedup: float | None) -> Costs:
    """Costs for this fleet. speedup: how many times as fast as a core a GPU runs the networks.

    Raises UsageError where it is not known what the networks take on it: no speed is made up.
    """
    if fleet.gpus and not costs.on_gpu:
        if speedup is None:
            raise UsageError(
                "the costs were measured without a GPU, and how fast one is cannot be told from them: name with "
                "--costs a dataset that was indexed on such a GPU, or with --gpu-speedup how many times as fast as a "
                "core it runs the networks"
            )
        return replace(costs, image=_faster(costs.image, speedup), face=_faster(costs.face, speedup), on_gpu=True)
    if costs.on_gpu and not fleet.gpus:
        raise UsageError(
            "the costs were measured on a GPU, and do not tell what the networks take of a core: say --gpus, or name "
            "with --costs a dataset that was indexed without one"
        )
    if speedup is not None:
        why = "the costs were measured on a GPU" if fleet.gpus else "there are no --gpus"
        raise UsageError(f"--gpu-speedup={speedup:g} has no meaning here: {why}")
    return costs


def estimate(archive: Archive, fleet: Fleet, costs: Costs, config: Config) -> Estimate:
    """What indexing the archive takes on the fleet, with the sizes of shards and commits that the configuration says.

    Raises UsageError for a fleet that has no core left beside its GPUs.
    """
    parts = costs.seconds(archive)
    gpus = {part: parts.pop(part) for part in NETWORKS} if costs.on_gpu else {}
    # A GPU's worker keeps a core busy all the time: with tensors of pixels before the network, boxes behind it.
    free = fleet.nodes * fleet.cores - fleet.gpus
    if free <= 0:
        raise UsageError(
            f"{fleet.gpus} GPUs need a core each that feeds them, and more that decode; there are "
            f"{fleet.nodes * fleet.cores:g} cores on {fleet.nodes} node(s): raise --nodes or --cores"
        )
    took = {"cores": sum(parts.values()) / free}
    if fleet.gpus:
        took["GPUs"] = sum(gpus.values()) / fleet.gpus
    if fleet.bandwidth:
        took["reading"] = archive.images * archive.bytes / (fleet.bandwidth * fleet.nodes)
    seconds = max(took.values())
    in_turn = fleet.gpus > 0 and not _overlaps(fleet, config)
    if in_turn:
        seconds = max(took["cores"] + took["GPUs"], seconds)
    if costs.planning is not None:  # before anything is read, by the driver alone: more nodes do not help
        took["planning"] = archive.images * costs.planning
        seconds += took["planning"]
    left = written(archive, costs.sizes, config)
    return Estimate(
        cores=parts,
        gpus=gpus,
        took=took,
        seconds=seconds,
        in_turn=in_turn,
        price=_price(fleet, seconds),
        bytes_read=archive.images * archive.bytes,
        written=left,
        driver_bytes=_driver_bytes(archive, left),
    )


def written(archive: Archive, sizes: Sizes, config: Config) -> Written:
    """What is left in the dataset. Records and objects are about so many: commits are filled up by whole parcels."""
    faces = archive.images * archive.faces
    commit = commit_images(config.run.commit_images, archive.images)
    full = max(
        1, math.ceil(commit * archive.faces / FACES_A_FILE)
    )  # commits that this one is cut into, for its vectors
    records = math.ceil(archive.images / commit) * full
    shards = archive.containers + _groups(archive, config)
    plans = math.ceil(archive.sources / PLAN_ROWS)
    return Written(
        shards=shards,
        records=records,
        plans=plans,
        # Two tables and their record; a note for each container that was read to its end.
        objects=3 * records + plans + archive.containers + _BOOKKEEPING,
        table_bytes=sizes.images.bytes(records, archive.images) + sizes.faces.bytes(records, faces),
        record_bytes=records * sizes.record + _ranges(shards, records) * sizes.range,
        plan_bytes=sizes.plan.bytes(plans, archive.sources),
    )


def _ranges(shards: int, records: int) -> int:
    """Shards named in all records together: a border of commits cuts a shard in two."""
    return shards + records - 1


def _driver_bytes(archive: Archive, left: Written) -> float:
    """Memory that the driver needs at most, when it has just ended: it holds what is planned, and what is done."""
    ranges = _ranges(left.shards, left.records)
    held = left.shards * _SHARD_BYTES + left.records * _RECORD_BYTES + ranges * _RANGE_BYTES
    return _DRIVER_BYTES + archive.sources * _SOURCE_BYTES + held


def _groups(archive: Archive, config: Config) -> int:
    """Shards of loose files: up to so many files or bytes, at least one file in each."""
    fitting = config.shards.bytes / archive.bytes if archive.bytes else math.inf
    return math.ceil(archive.loose / max(1, min(config.shards.files, math.floor(min(fitting, 2**62)))))


def _overlaps(fleet: Fleet, config: Config) -> bool:
    """Whether cores decode while GPUs compute. In layout fused one worker does everything in turn; the planner takes
    that for a single GPU on a single node."""
    if config.run.layout == "auto":
        return fleet.gpus > 1 or fleet.nodes > 1
    return config.run.layout == "split"


def _price(fleet: Fleet, seconds: float) -> float | None:
    """Of the whole fleet for as long as the run lasts, busy or not; None without prices."""
    if fleet.core_hour is None and fleet.gpu_hour is None:
        return None
    each = fleet.nodes * fleet.cores * (fleet.core_hour or 0.0) + fleet.gpus * (fleet.gpu_hour or 0.0)
    return seconds / 3600 * each


def _faster(seconds: Mapping[str, float], times: float) -> dict[str, float]:
    return {part: took / times if part in NETWORKS else took for part, took in seconds.items()}
