"""What all commands share: how they are declared, and where they write."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import TextIO, cast

from rich.console import Console
from rich.table import Table

from facebatch import config, logs
from facebatch.errors import UsageError
from facebatch.logs import Lines

EPILOG = """\
exit codes: 0 done, 1 failed (the same command resumes), 2 bad usage or configuration, 3 the sums do not reconcile
"""


def command(commands: argparse._SubParsersAction, name: str, run: object, what: str) -> argparse.ArgumentParser:  # type: ignore[type-arg]
    made: argparse.ArgumentParser = commands.add_parser(name, help=what, description=f"{what}.", epilog=EPILOG)
    made.set_defaults(command=run)
    return made


def configured(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("configuration")
    group.add_argument("--config", metavar="FILE", help="YAML; conf/local.yaml explains every setting")
    group.add_argument(
        "settings",
        nargs="*",
        metavar="KEY=VALUE",
        help="single settings, as in run.layout=split; they win over the file",
    )


def with_inputs(index: argparse.ArgumentParser) -> None:
    """Options of a command that has inputs; `indexing` reads them."""
    index.add_argument(
        "--input",
        action="append",
        metavar="URI",
        help="a folder or prefix (recursive), a photo, a tar, a table (Parquet, CSV, JSONL), a list of URIs (.txt), "
        "or a pattern such as 'shards/*.tar'; may be repeated",
    )
    index.add_argument("--include", action="append", metavar="PATTERN", help="of loose files only these, as in '*.jpg'")
    index.add_argument("--exclude", action="append", metavar="PATTERN", help="nothing of this, as in 'thumbs/**'")
    index.add_argument("--base-uri", metavar="URI", help="URIs in the dataset are relative to it: archives may move")
    index.add_argument(
        "--retry",
        action="append",
        metavar="REASON[,REASON...]",
        help="compute rows again that ended for good with these reasons, as in UNSUPPORTED_FORMAT after a package was "
        "installed. Not SOURCE_CHANGED: a plan holds one version of a source. What failed for reasons outside the "
        "image is tried again anyway",
    )
    index.add_argument("--output", metavar="URI", help="the dataset: a new folder or prefix, or one to go on with")
    configured(index)


def indexing(arguments: argparse.Namespace) -> config.Config:
    """The configuration of a command that has inputs."""
    retry = [reason for given in arguments.retry or () for reason in given.split(",")]
    settings = config.load(
        arguments.config,
        [*arguments.settings, *([f"run.retry={json.dumps(retry)}"] if retry else [])],
        inputs=tuple(arguments.input or ()),
        include=tuple(arguments.include or ()),
        exclude=tuple(arguments.exclude or ()),
        base_uri=arguments.base_uri,
        output=arguments.output,
    )
    if not settings.inputs:
        raise UsageError("there is nothing to index: name photos with --input, or `inputs` in the configuration")
    return settings


def count(word: str) -> int:
    """A number from 0 on, as an option has it."""
    number = int(word)
    if number < 0:
        raise ValueError(word)
    return number


@contextmanager
def quiet() -> Iterator[None]:
    """Decoders write to descriptor 2 what they find in damaged files, which rows tell in `reason` and `detail`."""
    sys.stderr.flush()
    seen = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(seen, 2)
        os.close(seen)


def stdout(width: int = 160) -> Console:
    """As wide as the terminal; in a file or pipe `width` characters."""
    return Console(width=None if sys.stdout.isatty() else width)


def show_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table without lines on stdout, its first column of words and the others of figures."""
    table = Table(box=None, pad_edge=False, header_style="")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    stdout(260).print(table)


def stderr() -> Console:
    """A console on a descriptor of its own, which stays visible while Ray's noise on descriptor 2 is turned away."""
    seen = _seen()
    return Console(file=seen, width=None if seen.isatty() else 160)


@contextmanager
def logged(how: str) -> Iterator[Console]:
    """The console of a run whose stderr is as `run.logs` has it. As `json`, all that Python writes to stderr meanwhile
    becomes such lines, errors included."""
    if how == "text":
        yield stderr()
        return
    seen = _seen()
    lines = cast(TextIO, Lines(seen))
    logs.to(seen)
    try:
        with redirect_stderr(lines):
            yield Console(file=lines)
    except Exception as error:
        logs.event("mistake", f"{type(error).__name__}: {error}", logging.ERROR, trace=traceback.format_exc())
        raise SystemExit(1) from error  # or Python would print the trace
    finally:
        lines.write("\n")  # what is left of a line
        logs.stop()


def _seen() -> TextIO:
    return os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
