"""Poison: an image that crashes the decoder, one that it never comes back from, one that eats up the memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from facebatch.failpoints import VARIABLE
from tests.e2e.conftest import command, table
from tests.faults.archives import photos

pytestmark = pytest.mark.faults

KINDS = {"crash": "WORKER_CRASH", "spin": "TIMEOUT", "eat": "OUT_OF_MEMORY"}


@pytest.mark.parametrize("layout", ["fused", "split"])
def test_one_of_each_kind_among_500_costs_its_own_row(tmp_path: Path, layout: str) -> None:
    files = photos(tmp_path / "photos", 500)
    guilty = {files[index].name: kind for index, kind in zip((101, 257, 402), KINDS, strict=True)}
    armed = tmp_path / "failpoints"
    armed.mkdir()
    words = ["--input", str(tmp_path / "photos"), f"run.layout={layout}"]

    def index(output: str, **environment: str) -> tuple[int, str, float]:
        started = time.monotonic()
        ended = command("index", *words, "--output", str(tmp_path / output), **environment)
        return ended.returncode, ended.stdout + ended.stderr, time.monotonic() - started

    code, said, quiet = index("sound")
    assert code == 0, said
    for name, kind in guilty.items():
        (armed / f"decode {name}").write_text(f"always {kind}")
    code, said, poisoned = index("poisoned", **{VARIABLE: str(armed)})
    print(f"{layout}: {quiet:.1f} s without poison, {poisoned:.1f} s with it: {poisoned - quiet:.1f} s extra")
    assert code == 1, said
    assert "1 images failed for reasons outside them (OUT_OF_MEMORY 1)" in said

    sound, rows = ({r["uri"]: r for r in table(tmp_path / o, "images").to_pylist()} for o in ("sound", "poisoned"))
    assert len(rows) == 500
    bad = {Path(uri).name: row for uri, row in rows.items() if row["reason"]}
    assert {name: row["reason"] for name, row in bad.items()} == {n: KINDS[kind] for n, kind in guilty.items()}
    assert all(row["detail"] for row in bad.values())
    others = [uri for uri in rows if Path(uri).name not in guilty]
    assert all(rows[uri]["n_faces"] == sound[uri]["n_faces"] and rows[uri]["status"] == "ok" for uri in others)
    ended = command("verify", str(tmp_path / "poisoned"))
    assert "497 ok" in ended.stdout
    assert "the dataset is whole" in ended.stdout

    # The next run tries the one again that failed for want of memory, and only that.
    code, said, _ = index("poisoned")
    assert code == 0, said
    after = {r["uri"]: r for r in table(tmp_path / "poisoned", "images").to_pylist()}
    assert {Path(uri).name: row["reason"] for uri, row in after.items() if row["reason"]} == {
        name: reason for name, reason in ((n, KINDS[k]) for n, k in guilty.items()) if reason != "OUT_OF_MEMORY"
    }
