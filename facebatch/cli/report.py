"""`facebatch report`: what a dataset holds and what its runs took, as one page, and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from facebatch import config
from facebatch.cli.base import command, configured, count, quiet
from facebatch.dataset import Dataset
from facebatch.errors import UsageError
from facebatch.storage import Storage, absolute, scheme

_PAGE = "facebatch-report.html"


def declare(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Add `report` to the command line."""
    report = command(commands, "report", _report, "write down what a dataset holds and what its runs took")
    report.add_argument("output", metavar="OUT", help="the dataset's folder or URI, of any age, finished or not")
    report.add_argument(
        "--html", metavar="FILE", help=f"one page that loads nothing; default, without --json: {_PAGE} here"
    )
    report.add_argument("--json", metavar="FILE", help="the same numbers for machines; - is stdout")
    report.add_argument(
        "--faces",
        metavar="N",
        type=count,
        default=0,
        help="show so many faces on the page, read again from their sources: it contains pictures of people then",
    )
    report.add_argument("--seed", metavar="S", type=count, default=0, help="draws other faces; default: %(default)s")
    configured(report)


def _report(arguments: argparse.Namespace) -> int:
    from facebatch import audit, ledger
    from facebatch.reporting import contact, figures, page

    settings = config.load(arguments.config, arguments.settings)
    dataset = Dataset.at(Storage(settings.storage), arguments.output)
    dataset.facts()
    html = arguments.html or (None if arguments.json else _here(dataset))
    for file in filter(None, (html, arguments.json)):
        _check(file)
    if html:
        page.check_packages()
    elif arguments.faces:
        raise UsageError("--faces are shown on the page, and none is asked for: name it with --html")
    state = ledger.state(dataset)
    report = figures.gather(dataset, state)
    if arguments.json:
        _write(arguments.json, json.dumps(report.as_json(), indent=1) + "\n")
    if html:
        sheet = None
        if arguments.faces:
            own = audit.configuration(dataset, arguments.config, arguments.settings)
            with quiet():
                sheet = contact.sample(dataset, state, own, arguments.faces, arguments.seed)
        _write(html, page.html(report, sheet))
    return 0


def _here(dataset: Dataset) -> str:
    """The page's own name. Into a dataset nothing is written that the user has not named."""
    if absolute(_PAGE).startswith(f"{dataset.root}/"):
        raise UsageError(f"{_PAGE} would stand in the dataset {dataset.root}: name another place with --html")
    return _PAGE


def _check(file: str) -> None:
    """What is wrong with a place is said before a large dataset is read."""
    if scheme(file):
        raise UsageError(f"{file} is no local file: name one, and copy the report from there")
    if not Path(file).absolute().parent.is_dir():
        raise UsageError(f"{file} cannot be written: there is no folder {Path(file).absolute().parent}")


def _write(file: str, text: str) -> None:
    if file == "-":
        print(text, end="")
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from None
    print(f"written: {file}", file=sys.stderr)
