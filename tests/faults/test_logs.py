"""What a run on a cluster tells machines: its stderr as JSON, and the logs of its workers, held against the tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import command, table
from tests.faults.nodes import Nodes
from tests.faults.runs import SMALL, images, logged

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("layout", ["fused", "split"])
def test_lines_are_objects_with_the_run_and_commits_add_up_to_the_tables(
    nodes: Callable[..., Nodes], archive: Path, tmp_path: Path, layout: str
) -> None:
    cluster, output = nodes(4), tmp_path / "out"
    words = [*SMALL, f"run.address={cluster.address}", f"run.layout={layout}", "run.logs=json"]
    done = command("index", "--input", str(archive), "--output", str(output), *words, RAY_AUTH_MODE="disabled")
    assert done.returncode == 0, done.stderr
    assert "64" in done.stdout
    assert not done.stdout.startswith("{"), "results stay as they are"
    told = [json.loads(line) for line in done.stderr.splitlines()]
    runs = [each["run"] for each in told]
    assert set(runs) == {None, 1}
    assert runs == sorted(runs, key=lambda run: run or 0), "none before the run has its number"
    assert all(isinstance(each["message"], str) and each["level"] == "info" for each in told)

    rows, events = images(output), logged(cluster.logs)
    assert {event["run"] for event in events} == {1}
    of = {name: [event for event in events if event["event"] == name] for name in {e["event"] for e in events}}
    assert set(of) == {"shard_begun", "shard_read", "commit", "image_failed"}
    assert sum(event["images"] for event in of["commit"]) == len(rows) == 64
    assert sum(event["faces"] for event in of["commit"]) == table(output, "faces").num_rows
    records = {file.stem for file in output.glob("_facebatch/records/*.json")}
    assert {event["record"] for event in of["commit"]} == records
    shards = Counter(str(row["shard_id"]) for row in rows)
    assert {event["shard_id"]: event["images"] for event in of["shard_begun"]} == shards
    assert {event["shard_id"]: event["images"] for event in of["shard_read"]} == shards
    failed = {(row["shard_id"], row["index"], row["reason"]) for row in rows if row["status"] == "failed"}
    assert {(event["shard_id"], event["index"], event["reason"]) for event in of["image_failed"]} == failed
    assert len(failed) == 3
    names = [file.name for file in archive.iterdir()]
    assert not any(name in json.dumps(event) for event in events for name in names), "names of photos are personal"
