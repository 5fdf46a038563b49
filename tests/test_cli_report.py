"""`facebatch report` on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from facebatch.cli import main
from facebatch.dataset import Dataset
from facebatch.reporting import page
from tests.reporting.conftest import local as local
from tests.reporting.reading import Page


def _tree(root: str) -> set[str]:
    return {str(path) for path in Path(root).rglob("*")}


def test_without_words_a_page_is_written_here_and_nothing_into_the_dataset(
    local: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = _tree(local.root)
    assert main(["report", local.root]) == 0
    assert _tree(local.root) == before
    read = Page(Path("facebatch-report.html").read_text(encoding="utf-8"))
    assert read.counts("images", "images", "status")["all",] == 60
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "written: facebatch-report.html\n")


def test_json_goes_where_it_is_told_and_says_the_same_as_the_page(
    local: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", local.root, "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert not Path("facebatch-report.html").exists(), "only what was asked for"
    assert main(["report", local.root, "--json", "a.json", "--html", "a.html"]) == 0
    again = json.loads(Path("a.json").read_text())
    for facts in (told, again):
        del facts["tables"]["identity"]["reported"]
    assert told == again
    read = Page(Path("a.html").read_text(encoding="utf-8"))
    assert read.counts("images", "images", "status") == {
        (row["status"],): row["images"] for row in told["tables"]["images"]
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "-", "--faces", "3"], "name it with --html"),
        (["--html", "s3://bucket/report.html"], "s3://bucket/report.html is no local file"),
        (["--html", "/nowhere/at/all.html"], "there is no folder /nowhere/at"),
        (["--json", "."], "cannot be written: Is a directory"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: list[str], said: str, local: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", local.root, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_inside_a_dataset_the_page_needs_a_name(
    local: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _tree(local.root)
    for folder in (local.root, local.path("images")):
        monkeypatch.chdir(folder)
        assert main(["report", local.root]) == 2
        assert f"would stand in the dataset {local.root}: name another place with --html" in capsys.readouterr().err
    assert _tree(local.root) == before
    assert main(["report", local.root, "--html", "mine.html"]) == 0, "who names a place there, has it"
    assert _tree(local.root) == before | {local.path("images", "mine.html")}


def test_json_needs_no_package_that_a_page_needs(
    local: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("jinja2", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    assert main(["report", local.root, "--json", "-"]) == 0
    capsys.readouterr()
    never = tmp_path / "never.html"
    assert main(["report", local.root, "--html", str(never)]) == 2
    assert "pip install 'facebatch[report]'" in capsys.readouterr().err
    assert not never.exists()


def test_faces_that_cannot_be_read_again_are_no_error(local: Dataset, tmp_path: Path) -> None:
    """The sources of this dataset have never been."""
    file = tmp_path / "faces.html"
    assert main(["report", local.root, "--html", str(file), "--faces", "5", "--seed", "1"]) == 0
    text = " ".join(" ".join(Page(file.read_text(encoding="utf-8")).text).split())
    assert "These are pictures of people" in text
    assert "Of the 5 that were drawn could not be shown: 5 NOT_FOUND." in text


def test_the_help_says_that_the_page_then_shows_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    assert "contains pictures of people" in " ".join(capsys.readouterr().out.split())
