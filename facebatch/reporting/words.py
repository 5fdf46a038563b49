"""Text and numbers as a report shows them. Names are those of an archive that nobody vouches for."""

from __future__ import annotations

LONGEST = 300
"""Characters of a text that are shown: paths are shorter, and a name of 10,000 would push all else off the page."""

Value = str | int | float | None
"""What a table of a report holds."""


def shown(text: str, most: int = LONGEST) -> str:
    """Text of one line in which everything can be seen: what has no picture of its own is written as an escape.

    That holds for line breaks and control characters, and for those that turn the direction of what follows. Long text
    loses its middle: how a path begins and how it ends tells most.
    """
    if len(text) > most:
        half = (most - 3) // 2
        text = f"{text[:half]}...{text[-half:]}"
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def said(value: Value) -> str:
    """A value for people: whole numbers with commas, others with three digits."""
    if value is None:
        return ""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
