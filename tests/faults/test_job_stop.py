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
MOMENTS = ("resume", "planned", "record", "committed", "end")
"""Failpoints of the driver and of a writer, where each job is held: Ray's command takes seconds, and a job that is
stopped before its process has begun shows nothing."""


def test_a_submitted_job_may_be_stopped_at_any_time_and_submitted_again(
    nodes: Callable[..., Nodes], photos: Path, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, failpoints = tmp_path / "out", tmp_path / "failpoints"
    failpoints.mkdir()
    monkeypatch.setenv(VARIABLE, str(failpoints))
    cluster = nodes(4, jobs=True)
    ready = time.monotonic() + 120

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
    for point in MOMENTS:
        (failpoints / point).write_text("hold")
        ray("submit", "--submission-id", point, "--no-wait", *index, *SMALL)
        held, deadline = failpoints / f"{point}.held", time.monotonic() + 240
        while not held.exists():
            assert time.monotonic() < deadline, ray("logs", point)
            time.sleep(0.02)
        assert "was stopped" in ray("stop", point)
        held.unlink()
    ray("submit", "--submission-id", "last", *index, *SMALL)
    assert "succeeded" in ray("status", "last").lower()
    assert_same(output, expected)
