"""`facebatch plan`: what `facebatch index` would do with its inputs; or, of so many images, a run on paper."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from facebatch import config, summary
from facebatch.cli.base import command, indexing, quiet, stderr, stdout, with_inputs
from facebatch.dataset import Dataset
from facebatch.errors import UsageError
from facebatch.storage import Storage

if TYPE_CHECKING:
    from facebatch.costs import Measured

_STEPS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_ON_PAPER = {
    "bytes_per_image": "--bytes-per-image",
    "faces_per_image": "--faces-per-image",
    "per_container": "--images-per-container",
    "nodes": "--nodes",
    "cores": "--cores",
    "gpus": "--gpus",
    "bandwidth": "--bandwidth",
    "gpu_speedup": "--gpu-speedup",
    "core_hour": "--core-hour",
    "gpu_hour": "--gpu-hour",
    "costs": "--costs",
}
_REAL = {
    "input": "--input",
    "include": "--include",
    "exclude": "--exclude",
    "base_uri": "--base-uri",
    "retry": "--retry",
    "output": "--output",
    "list_to": "--list-to",
}


def declare(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Add `plan` to the command line."""
    plan = command(commands, "plan", _plan, "what `index` would do and how long it would take; changes nothing")
    plan.add_argument("--list-to", metavar="URI", help="write a manifest of all files there, listed in parallel")
    paper = plan.add_argument_group(
        "on paper", "a run over images that are not here, instead of --input; numbers as in 1e9, 300k, 1.5G"
    )
    paper.add_argument("--images", type=whole, metavar="N", help="how many")
    paper.add_argument("--bytes-per-image", type=quantity, metavar="B", help="default: as measured")
    paper.add_argument("--faces-per-image", type=quantity, metavar="F", help="default: as measured")
    paper.add_argument(
        "--images-per-container",
        dest="per_container",
        type=positive,
        metavar="N",
        help="they lie in tars or row groups of so many; default: as in --costs, else loose files",
    )
    paper.add_argument("--nodes", type=whole, metavar="N", help="default: 1")
    paper.add_argument("--cores", type=positive, metavar="N", help="of a node; default: as many as here")
    paper.add_argument("--gpus", type=whole, metavar="N", help="of all nodes together; default: none")
    paper.add_argument("--bandwidth", type=positive, metavar="B", help="bytes a second that a node reads")
    paper.add_argument(
        "--gpu-speedup",
        type=positive,
        metavar="X",
        help="how many times as fast as a core a GPU runs the networks, where --costs is of no GPU",
    )
    paper.add_argument("--core-hour", type=quantity, metavar="PRICE", help="of a core for an hour")
    paper.add_argument("--gpu-hour", type=quantity, metavar="PRICE", help="of a GPU for an hour")
    paper.add_argument(
        "--costs",
        metavar="OUT",
        help="a dataset whose run tells what images and faces take; default: the demo's photographs, measured here on "
        "one core",
    )
    with_inputs(plan)


def quantity(word: str) -> float:
    """A number from 0 on: 1e9, 0.7, 300k, 2.5M, 1.2G."""
    number = float(word[:-1]) * _STEPS[word[-1]] if word[-1:] in _STEPS else float(word)
    if not 0 <= number < math.inf:
        raise ValueError(word)
    return number


def positive(word: str) -> float:
    """The same, above 0."""
    if not (number := quantity(word)):
        raise ValueError(word)
    return number


def whole(word: str) -> int:
    """The same, without a fraction."""
    if not (number := positive(word)).is_integer():
        raise ValueError(word)
    return int(number)


def _plan(arguments: argparse.Namespace) -> int:
    if arguments.images:
        return _on_paper(arguments)
    if idle := [option for name, option in _ON_PAPER.items() if getattr(arguments, name) is not None]:
        raise UsageError(f"{idle[0]} is for a run on paper: say of how many images with --images")
    settings = indexing(arguments)
    from facebatch.pipeline.dryrun import dry_run

    summary.show(stdout(), list(dry_run(settings, stderr(), arguments.list_to)))
    return 0


def _on_paper(arguments: argparse.Namespace) -> int:
    if real := [option for name, option in _REAL.items() if getattr(arguments, name)]:
        raise UsageError(f"{real[0]} is for a run over what is there, and --images for one on paper: name one of them")
    from facebatch import outlook
    from facebatch.costs import measured
    from facebatch.family import cores
    from facebatch.scale import Fleet, estimate, fitted

    settings = config.load(arguments.config, arguments.settings)
    fleet = Fleet(
        nodes=arguments.nodes or 1,
        cores=arguments.cores or cores(),
        gpus=arguments.gpus or 0,
        bandwidth=arguments.bandwidth,
        core_hour=arguments.core_hour,
        gpu_hour=arguments.gpu_hour,
    )
    known = measured(Dataset.at(Storage(settings.storage), arguments.costs)) if arguments.costs else _demo(settings)
    archive = known.archive.grown(
        arguments.images, arguments.bytes_per_image, arguments.faces_per_image, arguments.per_container
    )
    if not archive.bytes:
        raise UsageError("the sizes of the images were not known when they were planned: say --bytes-per-image")
    found = estimate(archive, fleet, fitted(known.costs, fleet, arguments.gpu_speedup), settings)
    summary.show(stdout(), outlook.rows(archive, fleet, known, arguments.gpu_speedup, found))
    return 0


def _demo(settings: config.Config) -> Measured:
    """What the demo's photographs cost here. Images are taken to be loose files: nothing says that they are packed."""
    from facebatch.costs import index_demo, measured
    from facebatch.outlook import amount

    try:
        with TemporaryDirectory(prefix="facebatch-plan-") as place, quiet():
            known = measured(index_demo(settings, Path(place)))
    except UsageError as error:
        raise UsageError(f"{error}; or name with --costs a dataset whose run tells what images cost") from None
    images, each = known.archive.images, amount(known.archive.bytes)
    origin = f"the demo's {images} images of {each}, on one core here and now; --costs OUT takes a run of yours"
    return replace(known, archive=replace(known.archive, loose=images, containers=0), origin=origin)
