"""A small table, of which page and JSON both are made: the same figures twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from facebatch.reporting.tally import Histogram
from facebatch.reporting.words import Value


@dataclass(frozen=True, slots=True)
class Plot:
    """How a table is drawn: bars of the column `value`, lying and named by the columns `label` (`bars`), or standing
    side by side, where the first two columns are the ends of each bin (`histogram`); or a line over the one `label`."""

    kind: Literal["bars", "histogram", "line"]
    value: str
    label: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """name: in JSON, and its id on the page. rows: as many values as there are columns. remark: what to know of it, or
    why it is empty."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    remark: str = ""
    plot: Plot | None = None

    def column(self, name: str) -> list[Value]:
        return [row[self.columns.index(name)] for row in self.rows]


FACTS = ("what", "value", "meaning")
"""Columns of a table of single facts."""


def facts(name: str, title: str, rows: Iterable[tuple[str, Value, str]], remark: str = "") -> Table:
    """A row for each fact that is known."""
    return Table(name, title, FACTS, tuple(row for row in rows if row[1] is not None), remark)


def histogram(name: str, title: str, what: str, found: Histogram, remark: str) -> Table:
    """A row for each bin; none where nothing was counted. what: is counted."""
    rows = tuple(zip(found.starts, (*found.starts[1:], None), found.counts, strict=True)) if any(found.counts) else ()
    return Table(
        name,
        title,
        ("from", "below", what),
        rows,
        remark if rows else f"There are no {what} to count.",
        Plot("histogram", what),
    )


def ranking(name: str, title: str, label: str, value: str, counts: Mapping[str, int], remark: str, empty: str) -> Table:
    """A row for each word, the most frequent first. empty: the remark where there is none."""
    rows = tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
    return Table(name, title, (label, value), rows, remark if rows else empty, Plot("bars", value, (label,)))
