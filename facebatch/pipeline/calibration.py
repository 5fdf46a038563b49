"""Calibration: a few of the images that a run is about to do are computed first, where the others will be, so that it
is laid out by what they take and not by what images take elsewhere.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import ray
import ray.exceptions
from ray.data.exceptions import ExecutionTimeoutError

from facebatch import forecast, plan, tally
from facebatch.config import Config, Run
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.forecast import Sample
from facebatch.networks import Networks
from facebatch.pipeline import job as jobs
from facebatch.pipeline.machine import TASK_CPUS
from facebatch.pipeline.nodes import selector
from facebatch.plan import Shard
from facebatch.session import CUDA
from facebatch.sources import Kind, Source
from facebatch.sources.base import Base
from facebatch.stages import Place
from facebatch.storage import Storage

T = TypeVar("T")
_WORTH = 32
"""A run of fewer times the images of the sample is done before the sample has paid."""
_PLACES = 3
"""Shards that are sampled: archives are sorted by age, and photographs grow with their cameras."""
_PATIENCE = 120.0
"""Seconds without a move of the rehearsal, and then for all of the sample: the process, reading, the first call on a
GPU, and four of computing."""


def calibrate(
    config: Config, models: dict[str, Any], dataset: Dataset, todo: Sequence[Shard], images: int, provider: str
) -> tuple[Sample | None, str]:
    """What a sample of the images to do takes on this provider, and in words what was measured, or why nothing was.

    A sample that cannot be had stops no run: what is wrong with an image will cost its row, and not the run.
    models: references to the networks. images: about how many there are to do.
    """
    wanted = config.run.calibrate
    if not wanted:
        return None, "not calibrated, as asked for (run.calibrate=0)"
    if not pays(config.run, images):
        return None, f"not calibrated: {images} images are done before a sample of {wanted} has paid"
    sources = chosen(dataset, todo, wanted, Base.at(config.base_uri))
    # What a process holds of a GPU goes only with the process; on a CPU it stays, and reads.
    place: dict[str, Any] = {"num_gpus": 1, "max_calls": 1} if provider == CUDA else {}
    if labels := selector(config.run):
        place["label_selector"] = labels
    asked = config, models, dataset.storage, sources, provider, wanted  # storage with the driver's credentials
    task = _measured.options(num_cpus=TASK_CPUS, **place).remote(*asked)
    try:
        jobs.rehearse(config.run, _PATIENCE)
        sample: Sample = ray.get(task, timeout=_PATIENCE)
    except (ray.exceptions.GetTimeoutError, ExecutionTimeoutError):
        ray.cancel(task, force=True)
        return None, f"not calibrated: no answer in {_PATIENCE:g} s"
    except (ray.exceptions.RayError, FacebatchError) as error:
        ray.cancel(task, force=True)  # it may be the rehearsal that failed
        cause = getattr(error, "cause", None) or error
        return None, f"not calibrated: {(str(cause).strip().splitlines() or [type(cause).__name__])[0]}"
    return sample, f"calibrated on {sample.images} images: {sample.words}"


def pays(run: Run, images: int) -> bool:
    """Whether a run of so many images is calibrated."""
    return 0 < _WORTH * run.calibrate <= images


def chosen(dataset: Dataset, shards: Sequence[Shard], images: int, base: Base) -> list[Source]:
    """Sources that hold about so many images, from the beginning, the middle and the end, where they lie now."""
    places = _spread([shard for shard in shards if shard.kind is not Kind.BROKEN], _PLACES)
    each = math.ceil(images / max(len(places), 1))
    found = [source for shard in places for source in _spread(plan.sources(dataset, shard), each)]
    return [replace(source, object=base.located(source.object)) for source in found]


def _spread(items: Sequence[T], most: int) -> list[T]:
    """So many of them at most, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[k * (len(items) - 1) // max(most - 1, 1)] for k in range(most)]


@ray.remote(max_retries=0)
def _measured(
    config: Config, models: dict[str, Any], storage: Storage, sources: list[Source], provider: str, most: int
) -> Sample:
    importlib.import_module("ray.data")  # this process goes on in the run, where that would cost a second of a core
    networks = Networks(**{name: ray.get(model) for name, model in models.items()})
    sample = forecast.measure(config, networks, storage, sources, Place(provider), most)
    tally.taken()  # and the run's counts are not these
    return sample
