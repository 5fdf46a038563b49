"""A Ray cluster on this machine whose nodes can be lost: each is a `ray start` in a process group of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.ports import free_port

ROOT = str(Path(__file__).parents[2])
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),  # for `python` in jobs
    "RAY_FAKE_CLUSTER": "1",  # for nodes that Ray's autoscaler starts
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
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
        ray = str(Path(sys.executable).with_name("ray"))
        self._process = subprocess.Popen(
            [ray, "start", "--block", "--disable-usage-stats", f"--dashboard-agent-listen-port={free_port()}", *words],
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


def command_of(process: psutil.Process) -> list[str]:
    """Its command line, which Ray's workers make their title; none of one that has ended since it was listed."""
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


class Nodes:
    """A head, where drivers run, and the nodes that are added to it."""

    def __init__(
        self, cpus: int, store: int = 100 << 20, jobs: bool = False, scales: int = 0, metrics: int = 0
    ) -> None:
        """jobs: whether it takes jobs that are submitted to it, which its dashboard does. metrics: the port on which
        the head shows them; 0: one that Ray chooses. scales: up to so many nodes of two CPUs are started by Ray's own
        autoscaler when somebody asks for them, and stopped when nobody does."""
        port, dashboard = free_port(), free_port()
        self.address, self.jobs = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
        self._folder = Path(tempfile.mkdtemp(prefix="fb"))  # short: Ray's sockets lie in it
        words = [f"--port={port}", f"--temp-dir={self._folder}", f"--include-dashboard={str(jobs).lower()}"]
        words += [f"--dashboard-port={dashboard}"] if jobs else []
        words += [f"--metrics-export-port={metrics}"] if metrics else []
        if scales:
            scaling = self._folder.with_suffix(".json")
            scaling.write_text(json.dumps(_scaling(scales, self.address)))
            words += ["--node-ip-address=127.0.0.1", f"--autoscaling-config={scaling}"]
        self.head = Node("--head", *words, *_share(cpus, store))
        self._others: list[Node] = []

    def add(self, cpus: int, gpus: int = 0, labels: str = "") -> Node:
        """One more machine. gpus: logical ones. labels: as in team=photos,zone=a."""
        words = [f"--num-gpus={gpus}", *([f"--labels={labels}"] if labels else [])]
        self._others.append(Node(f"--address={self.address}", *words, *_share(cpus, 100 << 20)))
        return self._others[-1]

    @property
    def all(self) -> list[Node]:
        """The head, and the others."""
        return [self.head, *self._others]

    @property
    def logs(self) -> Path:
        """The folder with the logs of all its nodes and workers."""
        return self._folder / "session_latest" / "logs"

    def spilled(self) -> list[Path]:
        """The files with objects for which the object stores had no room."""
        return [file for folder in self._folder.glob("session_2*/ray_spilled*") for file in folder.iterdir()]

    def close(self) -> None:
        for node in (*self._others, self.head):
            node.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.with_suffix(".json").unlink(missing_ok=True)


def _scaling(nodes: int, address: str) -> dict[str, Any]:
    """For Ray's autoscaler: nodes are processes on this machine (a provider that Ray has for its own tests)."""
    provider = {"type": "fake_multinode", "gcs_address": address, "launch_multiple": True, "use_node_id_as_ip": True}
    quiet = {"disable_node_updaters": True, "disable_launch_config_check": True}
    worker = {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": nodes}
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "facebatch",
        "max_workers": nodes,
        "provider": provider | quiet,
        "available_node_types": {"ray.head.default": head, "worker": worker},
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "file_mounts_sync_continuously": False,
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{f"{command}_commands": [] for command in commands},
    }


def _share(cpus: int, store: int) -> list[str]:
    return [f"--num-cpus={cpus}", f"--object-store-memory={store}"]
