"""The command line. Results go to stdout, progress and remarks to stderr."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import facebatch
from facebatch import config, demo, packs, summary
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError, UsageError
from facebatch.storage import Storage

_EPILOG = """\
exit codes: 0 done, 1 failed (the same command resumes), 2 bad usage or configuration, 3 the sums do not reconcile
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors of ours are one sentence on stderr, never a trace."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except FacebatchError as error:
        print(f"facebatch: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("facebatch: stopped; what was committed stays, and the same command goes on from there", file=sys.stderr)
        return 1


def _index(arguments: argparse.Namespace) -> int:
    settings = config.load(
        arguments.config, arguments.settings, inputs=tuple(arguments.input or ()), output=arguments.output
    )
    if not settings.inputs:
        raise UsageError("there is nothing to index: name photos with --input, or `inputs` in the configuration")
    if not settings.output:
        raise UsageError("there is nowhere to write to: name a folder or URI with --output")
    return _run_index(settings)


def _run_index(settings: config.Config) -> int:
    from facebatch.pipeline.index import index  # here, because importing Ray takes a second that --help need not pay

    summary.show(_stdout(), index(settings, _stderr()))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from facebatch.verify import verify

    settings = config.load(arguments.config, arguments.settings)
    report = verify(Dataset.at(Storage(settings.storage), arguments.output))
    statuses = ", ".join(f"{n} {status}" for status, n in sorted(report.statuses.items())) or "none"
    print(f"{report.images} images ({statuses}), {report.faces} faces in {report.files} files")
    if report.retryable:
        print(f"{report.retryable} of them failed for reasons outside the image; `facebatch index` tries them again")
    for problem in report.problems:
        print(f"PROBLEM {problem}")
    print("the dataset is whole" if not report.problems else f"{len(report.problems)} problems")
    return 3 if report.problems else 0


def _models(arguments: argparse.Namespace) -> int:
    table = Table(box=None, pad_edge=False, header_style="")
    for title in ("pack", "kind", "weights", "licence"):
        table.add_column(title, overflow="fold")
    for pack in packs.packs().values():
        where = packs.find(pack)
        table.add_row(pack.name, pack.kind, where or f"missing: {pack.weights.file}", pack.licence.name)
    _stdout().print(table)
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.output)
    settings = config.load(
        arguments.config, arguments.settings, inputs=tuple(demo.build(folder)), output=str(folder / "index")
    )
    return _run_index(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facebatch",
        description="Point it at a photo archive, get a face index in Parquet, each image exactly once.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"facebatch {facebatch.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    index = _command(commands, "index", _index, "index an archive, or go on with it")
    index.add_argument(
        "--input",
        action="append",
        metavar="URI",
        help="a folder or prefix (recursive), a photo, a tar, or a pattern such as 'shards/*.tar'; may be repeated",
    )
    index.add_argument("--output", metavar="URI", help="the dataset: a new folder or prefix, or one to go on with")
    _configured(index)

    verify = _command(commands, "verify", _verify, "prove that a dataset is whole")
    verify.add_argument("output", metavar="OUT", help="the dataset's folder or URI")
    _configured(verify)

    _command(commands, "models", _models, "list the model packs, and where their weights were found")

    trial = _command(commands, "demo", _demo, "index a few photographs that other Python packages carry")
    trial.add_argument("--output", metavar="DIR", default="facebatch-demo", help="default: %(default)s")
    _configured(trial)
    return parser


def _command(commands: argparse._SubParsersAction, name: str, run: object, what: str) -> argparse.ArgumentParser:  # type: ignore[type-arg]
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=f"{what}.", epilog=_EPILOG)
    command.set_defaults(command=run)
    return command


def _configured(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("configuration")
    group.add_argument("--config", metavar="FILE", help="YAML; conf/local.yaml explains every setting")
    group.add_argument(
        "settings",
        nargs="*",
        metavar="KEY=VALUE",
        help="single settings, as in run.layout=split; they win over the file",
    )


def _stdout() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


def _stderr() -> Console:
    """A console on a descriptor of its own, which stays visible while Ray's noise on descriptor 2 is turned away."""
    seen = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    return Console(file=seen, width=None if seen.isatty() else 160)
