"""Jobs that are submitted to a cluster and stopped there, by Ray's own commands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from facebatch.failpoints import VARIABLE
from tests.faults.nodes import Nodes
from tests.faults.runs import SMALL, assert_same

pytest.importorskip("aiohttp", reason="needs the extra `cluster`: Ray takes jobs only with its dashboard's packages")
pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]


def test_a_submitted_job_may_be_stopped_at_any_time_and_submitted_again(
    nodes: Callable[..., Nodes], photos: Path, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, failpoints = tmp_path / "out", tmp_path / "failpoints"
    failpoints.mkdir()
    monkeypatch.setenv(VARIABLE, str(failpoints))
    cluster = nodes(4, jobs=True)
    (failpoints / "end").write_text("always hold")  # Ray's command takes seconds: no job ends before it is stopped
    ready = time.monotonic() + 120
    internal = output / "_facebatch"

    def commits() -> int:
        return len(list(internal.glob("records/*.json")))

    def ray(*words: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("ray")), "job", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": cluster.jobs},
            timeout=300,
            check=False,
        )
        if "No available agent" in done.stderr and time.monotonic() < ready:  # the cluster has only just begun
            return ray(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    index = ["--", sys.executable, str(ROOT / "jobs" / "index.py"), "--input", str(photos), "--output", str(output)]
    before = 0
    moments: list[Callable[[], bool]] = [
        lambda: (internal / "epochs" / "00001.json").exists(),
        lambda: (internal / "plan" / "00000.parquet").exists(),
        lambda: commits() > before,
        lambda: commits() > before + 2,
    ]
    for number, reached in enumerate(moments):
        before = commits()
        name = f"job-{number}"
        ray("submit", "--submission-id", name, "--no-wait", *index, *SMALL)
        deadline = time.monotonic() + 240
        while not reached():
            assert time.monotonic() < deadline, ray("logs", name)
            time.sleep(0.02)
        assert "was stopped" in ray("stop", name)
    (failpoints / "end").unlink()
    ray("submit", "--submission-id", "last", *index, *SMALL)
    assert "succeeded" in ray("status", "last").lower()
    assert_same(output, expected)
