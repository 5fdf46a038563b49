"""A run on paper is held against the run that took place."""

from __future__ import annotations

from pathlib import Path

import pytest

from facebatch import demo
from tests.e2e.conftest import command, run

pytestmark = pytest.mark.usefixtures("a_ray")


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    demo.write(demo.archive(), tmp_path)
    return run(demo.inputs(tmp_path), tmp_path / "out").output


def test_objects_records_and_bytes_are_those_that_the_run_wrote(indexed: Path) -> None:
    done = command("plan", "--images", "20", "--costs", str(indexed))
    assert done.returncode == 0, done.stderr
    table = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    files = [file for file in indexed.rglob("*") if file.is_file()]
    assert int(table["objects"][1]) == len(files)
    assert int(table["records"][1]) == len(list(indexed.glob("_facebatch/records/*.json")))
    assert table["plan"][1] == str(len(list(indexed.glob("_facebatch/plan/*.parquet"))))
    assert table["plan"][-2:] == ["2", "shards"]
    said = float(table["written"][1]) * {"kB": 1e3, "MB": 1e6}[table["written"][2]]
    told = [file for file in files if file.parent.name in ("images", "faces", "records", "plan")]
    assert said == pytest.approx(sum(file.stat().st_size for file in told), rel=0.02)
    assert "run 1 of" in done.stdout
