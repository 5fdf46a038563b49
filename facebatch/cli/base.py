"""What all commands share: how they are declared, and where they write."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

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
    seen = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    return Console(file=seen, width=None if seen.isatty() else 160)
