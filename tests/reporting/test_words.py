"""Text of strangers on a page of ours."""

from __future__ import annotations

import pytest

from facebatch.reporting.words import LONGEST, Value, said, shown
from tests.reporting.conftest import HOSTILE


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("/photos/a b-é漢.jpg", "/photos/a b-é漢.jpg"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\x00\x1b[31m\x7f\x85", "\\x00\\x1b[31m\\x7f\\x85"),
        ("\u202egpj.exe\u2066", "\\u202egpj.exe\\u2066"),
        ("\ud800 \ufeff", "\\ud800 \\ufeff"),
    ],
)
def test_what_has_no_picture_of_its_own_is_written_as_an_escape(text: str, seen: str) -> None:
    assert shown(text) == seen


def test_long_text_keeps_its_ends() -> None:
    text = shown(f"s3://bucket/{'x' * 10_000}/name.jpg")
    assert len(text) <= LONGEST
    assert text.startswith("s3://bucket/xx")
    assert text.endswith("xx/name.jpg")
    assert "..." in text
    assert shown("x" * LONGEST) == "x" * LONGEST
    assert len(shown("y" * 100, 20)) <= 20


def test_every_hostile_name_becomes_one_printable_line() -> None:
    for name in HOSTILE:
        assert shown(name).isprintable()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("a\n", "a\\n"),
        (0, "0"),
        (1234567, "1,234,567"),
        (0.05, "0.05"),
        (12.345, "12.3"),
        (4567.8, "4,568"),
        (-250.0, "-250"),
        (0.000123, "0.000123"),
    ],
)
def test_numbers_are_said_for_people(value: Value, text: str) -> None:
    assert said(value) == text
