"""`facebatch bench`: how fast facebatch is here, beside what nobody can avoid and what else one could run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from facebatch import config, demo, gpus, networks
from facebatch.cli.base import command, configured, quiet, show_table, stderr
from facebatch.errors import FacebatchError, UsageError


def declare(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Add `bench` to the command line."""
    bench = command(
        commands,
        "bench",
        _bench,
        "measure facebatch against the floor (bare reading, decoding and networks), rivals, and growing archives",
    )
    bench.add_argument(
        "--input", metavar="DIR", help="photographs to take; default: those of the demo. Sound, upright JPEGs count"
    )
    bench.add_argument("--images", type=_positive, default=2000, metavar="N", help="under so many names: %(default)s")
    bench.add_argument("--rounds", type=_positive, default=3, metavar="N", help="of which the median counts: 3")
    bench.add_argument("--least-megapixels", type=float, default=0.0, metavar="MP", help="only photographs of so many")
    bench.add_argument("--most-megapixels", type=float, default=0.0, metavar="MP", help="only photographs up to here")
    bench.add_argument("--least-kilobytes", type=float, default=0.0, metavar="KB", help="only files of so many")
    bench.add_argument(
        "--rival", action="append", default=[], metavar="NAME", help="insightface or ray-data; may be repeated"
    )
    bench.add_argument(
        "--growth",
        action="append",
        type=_positive,
        default=[],
        metavar="N",
        help="instead: index so many images, then find nothing to do; may be repeated, as in --growth 1000 "
        "--growth 10000",
    )
    bench.add_argument("--output", metavar="DIR", default="out/bench", help="default: %(default)s")
    configured(bench)


def _positive(word: str) -> int:
    number = int(word)
    if number <= 0:
        raise ValueError(word)
    return number


def _bench(arguments: argparse.Namespace) -> int:
    from facebatch.bench import archive as archives
    from facebatch.bench import report
    from facebatch.bench.contest import contest
    from facebatch.bench.growth import growth
    from facebatch.bench.rivals import ours, rival

    remarks = stderr()

    def say(text: str) -> None:
        remarks.print(text, soft_wrap=True, markup=False, highlight=False)

    settings = config.load(arguments.config, arguments.settings)
    # Where a user's own archive and dataset are is no affair of a measurement.
    settings = replace(settings, inputs=(), include=(), exclude=(), base_uri=None, output="")
    networks.load(settings)  # what is missing is said now, and not by a contestant
    there = _gpus(settings.run.provider, say)
    # Said to all of them, who would not all find out alike.
    settings = replace(settings, run=replace(settings.run, provider="cuda" if there else "cpu"))
    words = config.words(config.as_dict(settings))
    output = Path(arguments.output)
    with TemporaryDirectory(prefix="facebatch-bench-") as place:
        with quiet():
            photos = archives.photos(
                _source(arguments.input, Path(place) / "demo"),
                round(1e6 * arguments.least_megapixels),
                round(1e6 * arguments.most_megapixels),
                round(1e3 * arguments.least_kilobytes),
            )
        folder = Path(place) / "archive"
        if arguments.growth:
            sizes = growth(folder, photos, arguments.growth, words, say)
            show_table(report.GROWN, report.grown_rows(sizes))
            written = report.write_growth(output, sys.argv, words, sizes, there)
        else:
            archive = archives.lay(folder, photos, arguments.images)
            say(
                f"{archive.images} images, {len(archive.photos)} photographs under new names: "
                f"{archive.bytes / archive.images / 1e3:.0f} kB and {archive.megapixels:.2f} megapixels each"
            )
            rivals = [rival(name, archive, words, settings) for name in arguments.rival]
            standings = contest([*ours(archive, words), *rivals], arguments.rounds, say, on_gpus=bool(there))
            show_table(report.titles(standings), report.rows(standings))
            show_table(report.part_titles(standings), report.part_rows(standings))
            written = report.write(output, sys.argv, words, archive, standings, there)
            if wrong := report.check(standings):
                raise FacebatchError(wrong)
    for file in written:
        say(f"written: {file}")
    return 0


def _gpus(provider: str, say: Callable[[str], None]) -> list[str]:
    """The names of those that it is measured on; none on the CPU. Raises UsageError where they were asked for, and
    cannot be used, FacebatchError where the driver does not tell."""
    from facebatch.session import CPU, CUDA, providers

    if provider == CPU or (provider != CUDA and CUDA not in providers()):
        return []
    if CUDA not in providers():
        raise UsageError(f"run.provider=cuda: this ONNX Runtime has only {', '.join(providers())}")
    try:
        there = [gpu.name for gpu in gpus.visible()]
    except FacebatchError as error:
        if provider == CUDA:
            raise
        say(f"measured on the CPU: {error}")
        return []
    if provider == CUDA and not there:
        raise UsageError("run.provider=cuda, but nvidia-smi tells of no GPU that may be used; leave it at auto")
    return there


def _source(given: str | None, place: Path) -> Path:
    if given:
        return Path(given)
    demo.write(demo.archive(), place)
    return place
