"""The command line. Results go to stdout, progress and remarks to stderr."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import facebatch
from facebatch import config, demo, summary
from facebatch.cli import bench, evaluation, models, plan, report, submit
from facebatch.cli.base import (
    EPILOG,
    command,
    configured,
    count,
    indexing,
    logged,
    quiet,
    show_table,
    stdout,
    with_inputs,
)
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError, UsageError
from facebatch.ids import printable
from facebatch.storage import Storage


def entry(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code, which scripts rely on.

    Without the destructors of libraries: pyarrow's thread pools abort there now and then (2 of 90 runs of `verify` on
    busy cores; apache/arrow#34314), which would make of exit code 0 a 134.
    """
    try:
        code = main(argv)
        sys.stdout.flush()
    except SystemExit as leave:  # argparse's way out
        code = leave.code if isinstance(leave.code, int) else 2
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough, as in `facebatch models | head`
        code = 1
    sys.stderr.flush()
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = _parsed(_parser(), argv)
    return _told(partial(arguments.command, arguments))


def _told(command: Callable[[], int]) -> int:
    """The exit code of a command. Errors of ours are one sentence on stderr, never a trace."""
    try:
        return int(command())
    except FacebatchError as error:
        print(f"facebatch: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("facebatch: stopped; what was committed stays, and the same command goes on from there", file=sys.stderr)
        return 1


def _index(arguments: argparse.Namespace) -> int:
    settings = indexing(arguments)
    if not settings.output:
        raise UsageError("there is nowhere to write to: name a folder or URI with --output")
    return _run_index(settings)


def _run_index(settings: config.Config) -> int:
    from facebatch.pipeline.index import index  # here, because importing Ray takes a second that --help need not pay

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # of schedulers and `ray job stop`: as Ctrl-C

    def run() -> int:
        summary.show(stdout(), summary.rows(index(settings, console)))
        return 0

    with logged(settings.run.logs) as console:
        return _told(run)


def _verify(arguments: argparse.Namespace) -> int:
    from facebatch.verify import verify

    settings = config.load(arguments.config, arguments.settings)
    dataset = Dataset.at(Storage(settings.storage), arguments.output)
    recompute = _recompute(dataset, arguments) if arguments.deep else None
    report = verify(dataset)
    statuses = ", ".join(f"{n} {status}" for status, n in sorted(report.statuses.items())) or "none"
    print(f"{report.images} images ({statuses}), {report.faces} faces in {report.files} files")
    if report.retryable:
        print(f"{report.retryable} of them failed for reasons outside the image; `facebatch index` tries them again")
    problems = [*report.problems, *(recompute() if recompute else [])]
    for problem in problems:
        print(f"PROBLEM {problem}")
    print("the dataset is whole" if not problems else f"{len(problems)} problems")
    return 3 if problems else 0


def _recompute(dataset: Dataset, arguments: argparse.Namespace) -> Callable[[], list[str]]:
    """The deep part of verify, ready to go. What it lacks is said before hours are spent on the rest."""
    from facebatch import audit

    settings = audit.configuration(dataset, arguments.config, arguments.settings)
    models = audit.models(dataset, settings)
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed

    def recompute() -> list[str]:
        print(f"computing up to {arguments.sample} images again (seed {seed}) ...", file=sys.stderr)
        with quiet():
            found = audit.audit(dataset, settings, models, arguments.sample, seed)
        print(f"{found.compared} of {found.drawn} drawn images (--seed {seed}) were computed again and compared")
        for why, how in found.tolerances.items():
            print(f"  {how}: {why}")
        for reason, n in sorted(found.left_out.items()):
            print(f"  {n} of {found.drawn} were not computed again: {reason}")
        if found.unread:
            reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(found.unread.items()))
            total = found.unread.total()
            print(f"  {total} of {found.drawn} sources could not be compared: {reasons}, e.g. {found.example}")
        return found.problems

    return recompute


def _status(arguments: argparse.Namespace) -> int:
    from facebatch.status import status

    settings = config.load(arguments.config, arguments.settings)
    summary.show(stdout(), list(status(Dataset.at(Storage(settings.storage), arguments.output))))
    return 0


def _erase(arguments: argparse.Namespace) -> int:
    from facebatch import epochs, ledger
    from facebatch.erase import erase

    settings = config.load(arguments.config, arguments.settings)
    names = [
        printable(name) for name in (*(arguments.image or ()), *(_lines(arguments.list) if arguments.list else ()))
    ]
    if not names:
        raise UsageError("there is nothing to erase: name images with --image or --list")
    dataset = Dataset.at(Storage(settings.storage), arguments.output)
    dataset.facts()
    with epochs.taken(dataset, tell=partial(print, file=sys.stderr)) as epoch:
        done = erase(dataset, epoch.guard, ledger.settle(dataset, epoch.number), names)
    print(f"{done.images} images and their {done.faces} faces are erased")
    if done.before:
        print(f"{done.before} images had been before")
    return 0


def _lines(file: str) -> list[str]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    return [name for line in text.split("\n") if (name := line.removesuffix("\r"))]  # names may hold other breaks


def _demo(arguments: argparse.Namespace) -> int:
    from facebatch import verdict

    folder = Path(arguments.output)
    # A machine with a GPU may be without CUDA's libraries, which twenty pictures do not need.
    here = [] if arguments.config else ["run.provider=cpu"]
    settings = config.load(
        arguments.config,
        [*here, *arguments.settings],
        inputs=demo.inputs(folder),
        output=str(folder / "index"),
    )
    entries = demo.archive()
    demo.write(entries, folder)
    if code := _run_index(settings):
        return code
    found = verdict.judge(entries, *verdict.read(folder / "index"))
    sheet = folder / "faces.png"
    verdict.draw(sheet, found, settings.decode)
    show_table(*verdict.table(found))
    summary.show(stdout(), verdict.rows(found, sheet))
    return 1 if found.problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facebatch",
        description="Point it at a photo archive, get a face index in Parquet, each image exactly once.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"facebatch {facebatch.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    with_inputs(command(commands, "index", _index, "index an archive, or go on with it"))

    plan.declare(commands)
    submit.declare(commands)

    verify = command(commands, "verify", _verify, "prove that a dataset is whole, and with --deep that it is right")
    verify.add_argument("output", metavar="OUT", help="the dataset's folder or URI")
    verify.add_argument(
        "--deep",
        action="store_true",
        help="read a sample of the images again from their sources, compute them again on this machine's CPU (unless "
        "run.provider=cuda) with the dataset's own settings and models, and compare them with their rows",
    )
    verify.add_argument("--sample", metavar="N", type=count, default=100, help="how many images; default: %(default)s")
    verify.add_argument("--seed", metavar="S", type=count, help="draws the same images again; default: a new one")
    configured(verify)

    status = command(commands, "status", _status, "how far a dataset is, during a run or after one was killed")
    status.add_argument("output", metavar="OUT", help="the dataset's folder or URI")
    configured(status)

    report.declare(commands)

    erase = command(commands, "erase", _erase, "delete the faces of images from a dataset, for good")
    erase.add_argument("output", metavar="OUT", help="the dataset's folder or URI")
    erase.add_argument(
        "--image",
        action="append",
        metavar="NAME",
        help="its image_id or uri, as the images table has it; that of a tar or table names all its members. May be "
        "repeated",
    )
    erase.add_argument("--list", metavar="FILE", help="a file of such names, one in each line; - is stdin")
    configured(erase)

    models.declare(commands)
    evaluation.declare(commands)
    bench.declare(commands)

    trial = command(
        commands, "demo", _demo, "index a few photographs that other packages carry, and check what was found"
    )
    trial.add_argument("--output", metavar="DIR", default="facebatch-demo", help="default: %(default)s")
    configured(trial)
    return parser


def _parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line. argparse itself refuses a `key=value` behind an option that stands behind other words."""
    arguments, rest = parser.parse_known_args(argv)
    if strange := [word for word in rest if word.startswith("-") or not hasattr(arguments, "settings")]:
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    if rest:
        arguments.settings += rest
    return arguments
