"""`facebatch plan --images`: a run on paper, from the command line."""

from __future__ import annotations

import pytest

from facebatch import cli
from facebatch.cli.plan import positive, quantity, whole
from facebatch.errors import UsageError
from tests.test_cli import run


@pytest.mark.parametrize(
    ("word", "number"),
    [("1e9", 1e9), ("0", 0), ("0.7", 0.7), ("300k", 3e5), ("2.5M", 2.5e6), ("1T", 1e12)],
)
def test_numbers_are_said_as_people_say_them(word: str, number: float) -> None:
    assert quantity(word) == pytest.approx(number)


@pytest.mark.parametrize("word", ["", "k", "-1", "nan", "inf", "1e400", "3 x", "12Q"])
def test_what_is_no_number_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="."):
        quantity(word)


def test_some_are_above_nothing_and_some_without_a_fraction() -> None:
    assert whole("1.5k") == 1500
    for read, word in ((positive, "0"), (whole, "0"), (whole, "0.5")):
        with pytest.raises(ValueError, match=word):
            read(word)
    with pytest.raises(SystemExit):
        cli._parser().parse_args(["plan", "--images", "many"])


def test_without_costs_the_demo_is_measured_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "--images", "1M", "--bytes-per-image", "3M", "--nodes", "2", "--cores", "8") == 0
    table = {line[:11].strip(): line[11:].split() for line in capsys.readouterr().out.splitlines()}
    assert table["images"][:3] == ["1,000,000", "3.0", "MB"]
    assert table["records"][0] == "489"
    assert table["objects"][0] == str(f"{3 * 489 + 1 + 6:,}"), "loose files, though the demo has a tar"
    assert " ".join(table["costs"]).startswith("the demo's 20 images of 295.3 kB, on one core here and now")
    assert table["planning"][0] == table["reading"][0] == "?"


def test_without_the_demo_it_is_said_what_else_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise UsageError("the demo's photographs come with other packages: pip install 'facebatch[demo]'")

    monkeypatch.setattr("facebatch.demo.archive", absent)
    assert run("plan", "--images", "1M") == 2
    assert "pip install 'facebatch[demo]'; or name with --costs a dataset" in capsys.readouterr().err
