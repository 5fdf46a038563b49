"""The page: the figures of the report, and nothing that a hostile name could do."""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path

import pytest

from facebatch import ledger
from facebatch.dataset import Dataset
from facebatch.errors import UsageError
from facebatch.reporting import page
from facebatch.reporting.contact import Sheet, Tile
from facebatch.reporting.figures import Report, gather
from facebatch.reporting.page import html
from facebatch.reporting.words import said, shown
from facebatch.storage import Storage
from tests.reporting.conftest import HOSTILE, empty, rows
from tests.reporting.reading import Page


@pytest.fixture
def report(local: Dataset) -> Report:
    return gather(local, ledger.state(local))


def test_every_table_stands_on_the_page_with_all_its_rows(report: Report) -> None:
    read = Page(html(report))
    for table in report.tables:
        titles, *lines = read.tables.pop(table.name)
        assert titles == list(table.columns)
        assert lines == [[said(value) for value in row] for row in table.rows]
    assert read.tables == {}


def test_the_numbers_on_the_page_are_those_of_the_tables(local: Dataset, report: Report) -> None:
    read, images, faces = Page(html(report)), rows(local, "images"), rows(local, "faces")
    statuses = read.counts("images", "images", "status")
    assert statuses["all",] == len(images)
    for status in ("ok", "no_face", "failed", "skipped"):
        assert statuses[status,] == sum(row["status"] == status for row in images)
    for (reason, status), n in read.counts("reasons", "images", "reason", "status").items():
        assert n == sum((row["reason"], row["status"]) == (reason, status) for row in images)
    for name in ("face_px", "score", "quality"):
        assert sum(read.counts(name, "faces", "from").values()) == len(faces)


def test_a_table_without_rows_says_why_and_draws_nothing(tmp_path: Path) -> None:
    fresh = empty(Storage(), str(tmp_path / "fresh"))
    read = Page(html(gather(fresh, ledger.state(fresh))))
    assert read.named("svg") == []
    assert set(read.tables) == {"identity", "images", "faces"}
    text = " ".join(read.text)
    assert "There are no faces to count." in text
    assert "No run has noted anything." in text


def test_nothing_is_loaded_run_or_sent_anywhere(report: Report) -> None:
    text = html(report)
    read = Page(text)
    assert {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    } in read.named("meta")
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "img", "a"} & {
        tag for tag, _ in read.tags
    }
    for tag, known in read.tags:
        for key, value in known.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("src", "href", "xlink:href", "action", "data"):
                assert (value or "").startswith("#"), (tag, key, value)
    style = "".join(re.findall(r"<style>.*?</style>", text, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_names_are_shown_and_harmless(report: Report) -> None:
    text = html(report)
    read = Page(text)
    assert [row[0] for row in read.tables["slowest"][1 : len(HOSTILE) + 1]] == [shown(f"/photos/{n}") for n in HOSTILE]
    clean = Page(html(Report("/out", tuple(table for table in report.tables if table.name != "slowest"))))
    assert {tag for tag, _ in read.tags} == {tag for tag, _ in clean.tags}, "they made no tag"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", text)
    assert "<script" not in text
    assert "{{ 7 * 7 }}" in "".join(read.text), "what looks like a template is text"
    assert max(map(len, (cell for row in read.tables["slowest"] for cell in row))) <= 300


def test_an_output_with_a_hostile_name_is_harmless_too(report: Report) -> None:
    for name in HOSTILE:
        read = Page(html(Report(name, report.tables)))
        assert read.named("script") == []
        assert sum(shown(name) in text for text in read.text) >= 2, "title and heading"


def test_ids_are_unique_and_labels_refer_to_them(report: Report) -> None:
    read = Page(html(report, Sheet(9, 1, 0, [Tile("a", 0.5, 0.5, (), b"x")])))
    ids = [known["id"] for _, known in read.tags if "id" in known]
    assert len(ids) == len(set(ids))
    labels = {known["aria-labelledby"] for _, known in read.tags if "aria-labelledby" in known}
    assert labels
    assert labels <= set(ids)


def test_columns_and_rows_have_headers(report: Report) -> None:
    heads = Page(html(report)).named("th")
    assert sum(head.get("scope") == "col" for head in heads) == sum(len(table.columns) for table in report.tables)
    assert sum(head.get("scope") == "row" for head in heads) == sum(len(table.rows) for table in report.tables)


def test_it_is_for_light_and_dark_and_for_paper(report: Report) -> None:
    text = html(report)
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text


def test_a_sample_of_faces_is_pictures_within_the_page(report: Report) -> None:
    tiles = [Tile(name, 0.987, 0.5, ("LOW_SHARPNESS",), b"\xff\xd8jpeg") for name in HOSTILE]
    sheet = Sheet(1234, len(HOSTILE) + 3, 7, tiles)
    sheet.unread["NOT_FOUND"] = 3
    sheet.named = ["/gone/<b>.jpg: there is none"]
    read = Page(html(report, sheet))
    pictures = read.named("img")
    assert len(pictures) == len(HOSTILE)
    assert all((picture["src"] or "").startswith("data:image/jpeg;base64,") for picture in pictures)
    assert [picture["title"] for picture in pictures] == [shown(name) for name in HOSTILE]
    assert pictures[0]["alt"] == "Face 1 of the sample"
    text = " ".join(" ".join(read.text).split())
    assert "These are pictures of people" in text
    assert f"{len(HOSTILE)} of 1,234 faces, drawn by --seed 7" in text
    assert "score 0.99, quality 0.50, LOW_SHARPNESS" in text
    assert "3 NOT_FOUND" in text
    assert "/gone/<b>.jpg: there is none" in text
    assert read.named("b") == []


def test_without_a_sample_there_is_no_picture_of_anyone(report: Report) -> None:
    assert "data:image" not in html(report)


@pytest.mark.parametrize("absent", ["jinja2", "matplotlib"])
def test_absent_packages_are_told_with_what_to_install(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page.check_packages()
    monkeypatch.setattr(page, "find_spec", lambda name: None if name == absent else util.find_spec(name))
    with pytest.raises(UsageError, match=rf"a page needs {absent}: pip install 'facebatch\[report\]'"):
        page.check_packages()
