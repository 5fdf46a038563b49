"""A report as one page of HTML that loads nothing: styles, drawings and pictures are in it, scripts are not.

Whatever comes from an archive is text: jinja2 escapes it, `facebatch.reporting.words` has made what cannot be seen
visible, and the page's own policy forbids what is left.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec

from facebatch.errors import UsageError
from facebatch.reporting.contact import Sheet
from facebatch.reporting.figures import Report
from facebatch.reporting.plots import svg
from facebatch.reporting.table import Table
from facebatch.reporting.words import said, shown

_MANY = 12
"""Rows from which on a table scrolls."""
_WORD = 24
"""Letters of a word that is broken where the column is narrow."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """style: `n` for a number, `w` for a text that has to be broken somewhere."""

    text: str
    style: str


@dataclass(frozen=True, slots=True)
class _Part:
    """A table as the template needs it. drawing: an `svg` element, or ''."""

    name: str
    title: str
    remark: str
    columns: list[_Cell]
    rows: list[list[_Cell]]
    drawing: str
    long: bool


@dataclass(frozen=True, slots=True)
class _Picture:
    uri: str
    name: str
    words: str


def check_packages() -> None:
    """Raises UsageError where those of the extra `report` are absent, which a page needs."""
    if absent := [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]:
        raise UsageError(
            f"a page needs {' and '.join(absent)}: pip install 'facebatch[report]'. Without them there is --json"
        )


def html(report: Report, sheet: Sheet | None = None) -> str:
    """The page. Needs the packages (`check_packages`)."""
    from jinja2 import Environment, StrictUndefined

    source = resources.files("facebatch.reporting").joinpath("page.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return template.from_string(source).render(
        output=shown(report.output),
        parts=[_part(table) for table in report.tables],
        sheet=sheet,
        pictures=[_picture(sheet, number) for number in range(len(sheet.tiles))] if sheet else [],
        unread=[(shown(reason), n) for reason, n in sorted(sheet.unread.items())] if sheet else [],
        named=[shown(name) for name in sheet.named] if sheet else [],
    )


def _part(table: Table) -> _Part:
    numeric = [not any(isinstance(value, str) for value in table.column(name)) for name in table.columns]
    return _Part(
        table.name,
        table.title,
        shown(table.remark),
        [_cell(name, number) for name, number in zip(table.columns, numeric, strict=True)],
        [[_cell(said(value), number) for value, number in zip(row, numeric, strict=True)] for row in table.rows],
        svg(table) if table.plot and table.rows else "",
        len(table.rows) > _MANY,
    )


def _cell(text: str, number: bool) -> _Cell:
    if number:
        return _Cell(text, "n")
    return _Cell(text, "w" if any(len(word) > _WORD for word in text.split()) else "")


def _picture(sheet: Sheet, number: int) -> _Picture:
    tile = sheet.tiles[number]
    words = ", ".join((f"score {tile.score:.2f}", f"quality {tile.quality:.2f}", *tile.reasons))
    return _Picture(f"data:image/jpeg;base64,{base64.b64encode(tile.jpeg).decode()}", shown(tile.name), shown(words))
