"""A Ray cluster on this machine whose nodes can be lost: each is a `ray start` in a process group of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = str(Path(__file__).parents[2])
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    # A node that was lost is noticed after three seconds, not after fifteen.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


class Node:
    """One machine of the cluster."""

    def __init__(self, *words: str) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `close`
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._process = subprocess.Popen(
            [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats", *words],
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env={**ours, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])},
            start_new_session=True,
        )
        while "Ray runtime started" not in self._text():
            assert self._process.poll() is None, self._text()
            time.sleep(0.1)

    def kill(self) -> None:
        """All at once, as when the power fails: the node and every worker on it."""
        family = [psutil.Process(self._process.pid), *self.processes()]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self._process.wait()
        psutil.wait_procs(family, timeout=10)

    def processes(self) -> list[psutil.Process]:
        """What runs on this node."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def memory(self) -> int:
        """Bytes that all processes of the node use together, shared pages counted once."""
        total = 0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        self._said.close()

    def _text(self) -> str:
        self._said.seek(0)
        return self._said.read()


class Nodes:
    """A head, where drivers run, and the nodes that are added to it."""

    def __init__(self, cpus: int, store: int = 100 << 20, jobs: bool = False) -> None:
        """jobs: whether it takes jobs that are submitted to it, which its dashboard does."""
        port, dashboard = _free_port(), _free_port()
        self.address, self.jobs = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
        self._folder = Path(tempfile.mkdtemp(prefix="fb"))  # short: Ray's sockets lie in it
        words = [f"--port={port}", f"--temp-dir={self._folder}", f"--include-dashboard={str(jobs).lower()}"]
        words += [f"--dashboard-port={dashboard}"] if jobs else []
        self.head = Node("--head", *words, *_share(cpus, store))
        self._others: list[Node] = []

    def add(self, cpus: int) -> Node:
        self._others.append(Node(f"--address={self.address}", *_share(cpus, 100 << 20)))
        return self._others[-1]

    def spilled(self) -> list[Path]:
        """The files with objects for which the object stores had no room."""
        return [file for folder in self._folder.glob("session_2*/ray_spilled*") for file in folder.iterdir()]

    def close(self) -> None:
        for node in (*self._others, self.head):
            node.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _share(cpus: int, store: int) -> list[str]:
    return [f"--num-cpus={cpus}", f"--object-store-memory={store}"]
