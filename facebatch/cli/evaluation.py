"""`facebatch eval`: how good detectors and embedders are, on data with known answers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.table import Table

from facebatch import config
from facebatch.cli.base import command, configured, quiet, stderr, stdout
from facebatch.errors import UsageError


def declare(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Add `eval` to the command line."""
    outer: argparse.ArgumentParser = commands.add_parser("eval", help="measure detectors and embedders on your data")
    verbs = outer.add_subparsers(title="what to measure", metavar="detection | verification", required=True)

    detection = command(verbs, "detection", _detection, "average precision of face detectors on annotated photographs")
    detection.add_argument(
        "--data", metavar="PATH", required=True, help="a ground_truth.jsonl or its folder, or WIDER FACE's"
    )
    detection.add_argument("--images", metavar="DIR", help="WIDER FACE's photographs, where they lie elsewhere")
    detection.add_argument("--official", metavar="DIR", help="WIDER FACE's .mat files, where they lie elsewhere")
    detection.add_argument("--detector", metavar="PACK", action="append", help="may be repeated; default: all here")
    detection.add_argument(
        "--protocol",
        default="plain",
        help="plain (IoU 0.5), or that of a card: slim-320, ssh-mxnet; default: %(default)s",
    )
    detection.add_argument("--output", metavar="DIR", default="out/eval", help="default: %(default)s")
    configured(detection)


def _detection(arguments: argparse.Namespace) -> int:
    from facebatch.evaluation import detecting, showing, wider

    settings = config.load(arguments.config, arguments.settings)
    if arguments.protocol not in detecting.PROTOCOLS:
        raise UsageError(f"there is no protocol {arguments.protocol!r}; there are {', '.join(detecting.PROTOCOLS)}")
    protocol = detecting.PROTOCOLS[arguments.protocol]
    data = detecting.read_data(arguments.data, arguments.images, arguments.official)
    chosen = detecting.available(arguments.detector or ())
    remarks = stderr()

    def tell(said: str) -> None:
        remarks.print(said, soft_wrap=True, markup=False, highlight=False)

    with quiet():
        results = [detecting.measure(pack, settings, data, protocol, tell) for pack in chosen]
    table = Table(box=None, pad_edge=False, header_style="")
    titles, rows = showing.table(results, wider.SUBSETS if data.official else ())
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    stdout().print(table)
    for file in showing.write(Path(arguments.output), data, results, arguments.protocol, protocol.rule, sys.argv[1:]):
        tell(f"written: {file}")
    return 0
