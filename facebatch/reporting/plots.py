"""A table as a drawing: SVG that stands inside a page, takes its colours, and holds its text as text.

Matplotlib draws; what it writes is read again as XML, so that what goes into the page is known: no metadata, no styles
for the whole page, no address of anything, no ids that two drawings share.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from facebatch.reporting.table import Plot, Table
from facebatch.reporting.words import Value, said, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_INK, _FAINT, _MAIN = "#010203", "#040506", "#070809"
_COLOURS = {_INK: "var(--ink)", _FAINT: "var(--faint)", _MAIN: "var(--main)"}
"""Stand-ins for colours of the page, which is light or dark."""
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": _FAINT,
    "grid.color": _FAINT,
    "text.parse_math": False,  # a dollar in a name is a dollar
}
_WIDE, _NAMED = 6.4, 34
"""Inches, and characters of a name beside its bar."""
_LABELS = 16
"""Bins of which each can be labelled."""


def svg(table: Table) -> str:
    """The drawing of a table that has rows and a plot, as the text of an `svg` element with a title.

    Needs matplotlib (`facebatch.reporting.page.check_packages`).
    """
    from matplotlib import rc_context

    assert table.plot is not None
    draw = {"bars": _bars, "histogram": _histogram, "line": _line}[table.plot.kind]
    file = io.BytesIO()
    with rc_context(_STYLE | {"svg.hashsalt": table.name}), warnings.catch_warnings():  # type: ignore[arg-type]
        # Of letters that matplotlib's own font lacks: the browser has them.
        warnings.filterwarnings("ignore", r"Glyph .* missing", UserWarning)
        draw(table, table.plot).savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    return _for_page(file.getvalue(), table)


def _bars(table: Table, plot: Plot) -> Figure:
    values = _numbers(table.column(plot.value))
    columns = [table.column(name) for name in plot.label]
    names = [shown(" ".join(filter(None, map(str, parts))), _NAMED) for parts in zip(*columns, strict=True)]
    figure, axes = _axes(0.7 + 0.26 * len(values), left=0.42)
    axes.barh(range(len(values)), values, height=0.7, color=_MAIN)
    axes.set_yticks(range(len(values)), names)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    for place, value in enumerate(table.column(plot.value)):
        axes.annotate(said(value), (values[place], place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlabel(plot.value)
    _whole(axes.xaxis, table.column(plot.value))
    return figure


def _histogram(table: Table, plot: Plot) -> Figure:
    starts = table.column(table.columns[0])
    figure, axes = _axes(2.8)
    axes.bar(range(len(starts)), _numbers(table.column(plot.value)), width=0.92, color=_MAIN)
    shown_starts = range(0, len(starts), 1 if len(starts) <= _LABELS else 2)
    axes.set_xticks([place - 0.5 for place in shown_starts], [said(starts[place]) for place in shown_starts])
    axes.set_xlim(-0.6, len(starts) - 0.4)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(plot.value)
    _whole(axes.yaxis, table.column(plot.value))
    return figure


def _line(table: Table, plot: Plot) -> Figure:
    (over,) = plot.label
    figure, axes = _axes(2.8)
    # Each value is that of the time since the row before, the first since the beginning.
    values = _numbers(table.column(plot.value))
    at = [0.0, *_numbers(table.column(over))]
    axes.plot(at, [values[0], *values], color=_MAIN, linewidth=1.4, drawstyle="steps-pre")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(over)
    axes.set_ylabel(plot.value)
    return figure


def _axes(high: float, left: float = 0.11) -> tuple[Figure, Axes]:
    """high: inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDE, high))
    axes = figure.add_axes((left, 0.5 / high, 0.98 - left, 1 - 0.6 / high))
    axes.grid(linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.ticklabel_format(style="plain")
    return figure, axes


def _whole(axis: Axis, values: Sequence[Value]) -> None:
    """No ticks between whole numbers where there are none between them."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(6, integer=all(isinstance(value, int) for value in values)))


def _numbers(values: Sequence[Value]) -> list[float]:
    return [float(value or 0) for value in values]


def _for_page(drawn: bytes, table: Table) -> str:
    root = ElementTree.fromstring(drawn)
    for parent in list(root.iter()):
        for child in [child for child in parent if _plain(child.tag) == "style"]:
            parent.remove(child)
    for element in root.iter():
        element.tag = _plain(element.tag)  # inside a page names need no namespaces
        element.attrib = {_plain(key): _attribute(_plain(key), value, table.name) for key, value in element.items()}
    title = ElementTree.Element("title", id=f"{table.name}-title")
    title.text = f"Plot: {table.title}. Its numbers are in the table."
    root.insert(0, title)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-labelledby": f"{table.name}-title"}
    return ElementTree.tostring(root, "unicode")


def _plain(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(key: str, value: str, name: str) -> str:
    """Ids, and what refers to them, by the name of the table; colours and letters by those of the page."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    for stand_in, colour in _COLOURS.items():
        value = value.replace(stand_in, colour)
    return re.sub(r"font-family: [^;]*", "font-family: inherit", value.replace("url(#", f"url(#{name}-"))
