"""Drawings that stand inside a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from facebatch import ledger
from facebatch.dataset import Dataset
from facebatch.reporting.figures import gather
from facebatch.reporting.plots import svg
from facebatch.reporting.table import Plot, Table
from tests.reporting.conftest import HOSTILE


def _bars(*names: str) -> Table:
    rows = tuple((name, k + 1) for k, name in enumerate(names))
    return Table("words", "Words & <more>", ("word", "times"), rows, "", Plot("bars", "times", ("word",)))


def _texts(drawing: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(drawing).iter("text")]


def _bars_of(drawing: str) -> int:
    return len(re.findall(r'<path d="[^"]*" clip-path="[^"]*" style="fill: var\(--main\)', drawing))


def test_bars_have_their_names_and_numbers_as_text() -> None:
    drawing = svg(_bars("CORRUPT", "TRUNCATED"))
    assert {"CORRUPT", "TRUNCATED", "1", "2", "times"} <= set(_texts(drawing))
    assert _bars_of(drawing) == 2


def test_a_histogram_has_a_bar_for_each_bin_and_a_line_goes_through_all_points() -> None:
    bins = tuple((k / 20, (k + 1) / 20, k) for k in range(20))
    drawing = svg(Table("score", "Scores", ("from", "below", "faces"), bins, "", Plot("histogram", "faces")))
    assert _bars_of(drawing) == 20
    assert {"0", "0.1", "0.9", "faces"} <= set(_texts(drawing))
    points = tuple((float(k + 1), k) for k in range(7))
    line = svg(Table("t", "T", ("second", "rate"), points, "", Plot("line", "rate", ("second",))))
    (drawn,) = re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="fill: none; stroke: var\(--main\)', line)
    assert drawn.count("L") == 2 * 7, "a step for each"


def test_colours_are_those_of_the_page_and_nothing_is_fetched() -> None:
    drawing = svg(_bars("a"))
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", drawing)) <= {
        "none", "var(--ink)", "var(--faint)", "var(--main)",
    }  # fmt: skip
    assert "http" not in drawing
    assert not re.search(r"<(?:script|style|image|metadata|foreignObject|!DOCTYPE)", drawing)


def test_it_has_a_title_for_those_who_do_not_see_it() -> None:
    root = ElementTree.fromstring(svg(_bars("a")))
    assert root.attrib["role"] == "img"
    assert root[0].tag == "title"
    assert root[0].attrib["id"] == root.attrib["aria-labelledby"]
    assert root[0].text == "Plot: Words & <more>. Its numbers are in the table."


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_a_drawing_that_is_well_formed(name: str) -> None:
    drawing = svg(_bars(name, "second"))
    root = ElementTree.fromstring(drawing)
    assert not {element.tag for element in root.iter()} - {
        "svg",
        "title",
        "defs",
        "g",
        "path",
        "use",
        "text",
        "clipPath",
        "rect",
    }
    assert not any(key.startswith("on") for element in root.iter() for key in element.attrib)
    (text,) = (text for text in _texts(drawing) if text.startswith(name[:3].encode("unicode_escape").decode()[:3]))
    assert len(text) <= 34
    assert text.isprintable()


def test_ids_of_all_drawings_of_a_page_differ_and_what_refers_to_them_finds_them(local: Dataset) -> None:
    report = gather(local, ledger.state(local))
    drawings = [svg(table) for table in report.tables if table.plot and table.rows]
    assert len(drawings) == 10
    ids = re.findall(r' id="([^"]+)"', "".join(drawings))
    assert len(ids) == len(set(ids)) > 100
    referred = re.findall(r'(?:href="|url\()#([^")]+)', "".join(drawings))
    assert referred
    assert set(referred) <= set(ids)


def test_the_same_table_is_drawn_the_same() -> None:
    assert svg(_bars("a", "b")) == svg(_bars("a", "b"))
