"""Ray itself: what it leaves behind."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from contextlib import suppress
from subprocess import PIPE

import psutil
import pytest

from facebatch.errors import FacebatchError, UsageError
from facebatch.pipeline import cluster
from facebatch.pipeline.cluster import bury


def test_a_worker_that_does_not_end_is_ended() -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    quick = subprocess.Popen([sys.executable, "-c", ""])
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as hanging:
        assert hanging.stdout
        hanging.stdout.readline()
        bury([psutil.Process(quick.pid), psutil.Process(hanging.pid)], patience=0.2)
        assert hanging.wait(5) == -9
    assert quick.wait(5) == 0


def test_a_ray_that_does_not_start_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", fails)
    with pytest.raises(FacebatchError, match="could not be started .* timed out .* run the same command again"):
        cluster._connect(None)


def test_a_run_is_let_in_although_the_first_workers_die() -> None:
    """All that begin until then. Left to itself Ray waits for one for each core, and for the dead without an end."""
    look = """
import os, sys
from facebatch.pipeline import cluster
seen = os.dup(1)
with cluster.connected(None):
    os.write(seen, b"in\\n")
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", look], stdin=PIPE, stdout=PIPE, text=True) as run:
        assert run.stdin
        assert run.stdout
        over, killed = time.monotonic() + 60, 0
        try:
            while not select.select([run.stdout], [], [], 0.01)[0]:
                assert time.monotonic() < over, f"Ray still waits, {killed} workers died"
                for process in psutil.Process(run.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        if any(word.endswith("default_worker.py") or word == "ray::IDLE" for word in process.cmdline()):
                            process.kill()
                            killed += 1
            assert run.stdout.readline() == "in\n"
            run.stdin.close()
            assert run.wait(60) == 0
        finally:
            run.kill()


def test_what_the_user_has_said_of_the_allocator_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = cluster._MALLOC | cluster._LOGS
    for name in ours:
        monkeypatch.delenv(name, raising=False)
    assert cluster._environment() == ours
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert sorted(cluster._environment()) == sorted(ours.keys() - {"MALLOC_ARENA_MAX"})


def test_a_cluster_is_not_driven_from_outside() -> None:
    """Ray's client has no way to ask what is free."""
    with pytest.raises(UsageError, match=r"Ray cannot be reached at ray://head:10001: .*use `facebatch submit`"):
        cluster._connect("ray://head:10001")
