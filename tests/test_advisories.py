"""What CI makes of the advisories on our dependencies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import advisories
from tests.advisories import audit, judged

SOUND: dict[str, Any] = {"name": "numpy", "version": "2.0", "vulns": []}
KNOWN: dict[str, Any] = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [
        {"id": "PYSEC-2023-175", "aliases": ["CVE-2023-4863"], "fix_versions": ["10.0.1"], "description": "libwebp"}
    ],
}
UNKNOWN: dict[str, Any] = {"name": "ours", "skip_reason": "Dependency not found"}


def test_a_known_vulnerability_fails_and_names_its_mend() -> None:
    assert judged([SOUND, KNOWN]) == (
        1,
        ["2 packages audited, 1 advisories", "pillow 9.0.0: PYSEC-2023-175, mended in 10.0.1"],
    )


@pytest.mark.parametrize("name", ["PYSEC-2023-175", "CVE-2023-4863"])
def test_one_that_is_accepted_does_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(advisories.ACCEPTED, name, "no WebP is decoded by it")
    assert judged([SOUND, KNOWN]) == (0, ["2 packages audited, 0 advisories"])


def test_what_was_not_audited_is_said() -> None:
    assert judged([SOUND, UNKNOWN]) == (0, ["1 packages audited, 0 advisories", "NOT AUDITED: ours"])
    assert judged([UNKNOWN]) == (0, ["NOT AUDITED: the advisory database knows none of 1 packages"])


def test_an_empty_list_of_pins_is_no_audit() -> None:
    assert judged([]) == (1, ["no package is pinned, so nothing was audited"])


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no route to host >&2; exit 1", (0, ["NOT AUDITED: no advisory database answered: no route to host"])),
        ("echo unrecognized arguments >&2; exit 2", (1, ["the auditor failed: unrecognized arguments"])),
        (
            f"echo '{json.dumps({'dependencies': [KNOWN]})}'; exit 1",
            (1, ["1 packages audited, 1 advisories", "pillow 9.0.0: PYSEC-2023-175, mended in 10.0.1"]),
        ),
    ],
)
def test_the_auditor_is_asked(script: str, said: tuple[int, list[str]], tmp_path: Path) -> None:
    auditor = tmp_path / "pip-audit"
    auditor.write_text(f"#!/bin/sh\n{script}\n")
    auditor.chmod(0o755)
    assert audit(str(auditor), "pins.txt") == said
