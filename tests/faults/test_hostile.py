"""Thousands of hostile files in one run: each is a row, and the run lives on.

FACEBATCH_HOSTILE=20000 pytest -s -m faults tests/faults/test_hostile.py
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from facebatch.dataset import Dataset
from facebatch.reasons import Reason
from facebatch.storage import Storage
from facebatch.verify import verify
from tests.e2e.conftest import command, table
from tests.e2e.test_memory import CEILING
from tests.faults import hostile

pytestmark = pytest.mark.faults
COUNT = int(os.environ.get("FACEBATCH_HOSTILE", "2000"))
_EACH = 0.25
"""Seconds that a file may take on average, of two cores: what is sound among them has faces."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many loose files, a tar and a table."""
    folder = tmp_path_factory.mktemp("hostile")
    hostile.write(folder / "loose", hostile.loose(COUNT))
    hostile.tar(folder / "some.tar")
    hostile.rows(folder / "rows.parquet")
    return folder


def test_every_hostile_file_is_a_row_and_nothing_else_happens(archive: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    inputs = [word for name in ("loose", "some.tar", "rows.parquet") for word in ("--input", str(archive / name))]
    done = command("index", *inputs, "--output", str(output), "rows.column=bytes", "rows.key=key")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr

    images = table(output, "images")
    wanted = COUNT + hostile.tar(tmp_path / "counted.tar") + hostile.rows(tmp_path / "counted.parquet")
    assert images.num_rows == wanted
    assert len(set(images["image_id"].to_pylist())) == wanted
    assert verify(Dataset.at(Storage(), str(output))).problems == []

    reasons = Counter(images["reason"].to_pylist())
    retryable = [reason for reason in reasons if reason and Reason(reason).retryable]
    assert not retryable, "every one of them has got its last word"
    assert reasons[None] > COUNT // 20, "some survive"
    assert len(reasons) >= 6, reasons

    (run,) = (output / "_facebatch" / "runs").glob("*.json")
    record = json.loads(run.read_text())
    assert record["peak_bytes"] < CEILING
    assert record["seconds"] < 60 + _EACH * wanted
    print(f"{wanted} files in {record['seconds']:.0f} s, {record['peak_bytes'] / 2**30:.2f} GiB, {dict(reasons)}")


def test_what_survives_can_be_found_again_by_its_name(archive: Path, tmp_path: Path) -> None:
    """The names of the index, as they are, lead to the files."""
    output = tmp_path / "out"
    done = command("index", "--input", str(archive / "loose" / "sound"), "--output", str(output))
    assert done.returncode == 0, done.stderr
    rows = table(output, "images").to_pylist()
    statuses = Counter(row["status"] for row in rows)
    assert set(statuses) <= {"ok", "no_face"}, "the smallest may be too small for a face"
    assert statuses["ok"] > len(rows) / 2
    assert all(Path(row["uri"]).exists() for row in rows)
