"""Chaos: whole runs in processes of their own that are killed, and what must be true of their dataset afterwards."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from facebatch.dataset import Dataset
from facebatch.epochs import epoch_path
from facebatch.failpoints import VARIABLE
from facebatch.storage import Storage
from facebatch.verify import verify
from tests.e2e.conftest import assert_same_faces
from tests.s3 import S3_CREDENTIALS

PATIENCE = 300
_SETTINGS = ["run.commit_images=8", "shards.files=16"]
"""Many commits of many shards, so that a moment is seldom the same twice."""


@dataclass
class Job:
    """One command, run again and again into one output."""

    inputs: Sequence[Path]
    dataset: Dataset
    words: Sequence[str] = ()
    failpoints: Path | None = None
    kills: int = 0
    log: list[str] = field(default_factory=list)
    """What was done to it, to be told when something is wrong."""

    def start(self) -> subprocess.Popen[str]:
        """The command, running."""
        options = self.dataset.storage.options
        storage = [f"storage.endpoint={options.endpoint}", "storage.region=us-east-1"] if options.endpoint else []
        armed = {VARIABLE: str(self.failpoints)} if self.failpoints else {}
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "facebatch", "index"),
                *(word for given in self.inputs for word in ("--input", str(given))),
                *("--output", self.dataset.root, *_SETTINGS, *storage, *self.words),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**S3_CREDENTIALS, **os.environ, **armed},
        )

    def finish(self) -> str:
        """Run it to its end. Returns what it said."""
        running = self.start()
        said, _ = running.communicate(timeout=PATIENCE)
        assert running.returncode == 0, f"{said}\n{self.history}"
        return said

    def kill(self, running: subprocess.Popen[str], when: str, all_at_once: bool) -> None:
        """SIGKILL to the driver, unless it has ended already; all at once: to its Ray as well, as when the power fails.

        Otherwise its workers are left to find out by themselves, and the next run begins meanwhile.
        """
        family = _family(running.pid) if all_at_once else []
        if running.poll() is None:
            running.kill()
            self.kills += 1
            self.log.append(f"{'all' if all_at_once else 'driver'} killed {when}")
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        running.communicate(timeout=PATIENCE)

    def kill_workers(self, running: subprocess.Popen[str], dice: random.Random, most: int) -> None:
        """SIGKILL to random workers, one every second or so, until the run ends or so many are dead."""
        until(lambda: running.poll() is not None or bool(_workers(running.pid)))
        for _ in range(most):
            deadline = time.monotonic() + dice.uniform(0.1, 1.5)
            while time.monotonic() < deadline and running.poll() is None:
                time.sleep(0.02)
            if workers := _workers(running.pid):
                victim = dice.choice(workers)
                title = _title(victim)
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()
                    self.kills += 1
                    self.log.append(f"{title} killed")

    @property
    def history(self) -> str:
        return "\n".join(self.log)


def hold_and_kill(job: Job, point: str) -> None:
    """Kill the run while one of its processes stands at a failpoint."""
    assert job.failpoints is not None
    running = held_at(job, point)
    job.kill(running, f"at {point}", all_at_once=True)
    let_go(job.failpoints, point)


def held_at(job: Job, point: str) -> subprocess.Popen[str]:
    """A run, one of whose processes stands at a failpoint until it is let go."""
    assert job.failpoints is not None
    (job.failpoints / point).write_text("hold")
    running = job.start()
    held = job.failpoints / f"{point}.held"
    deadline = time.monotonic() + PATIENCE
    while not held.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert held.exists(), f"no process came by {point}: {running.communicate(timeout=PATIENCE)[0]}"
    return running


def let_go(failpoints: Path, point: str) -> None:
    """Whoever stands at a failpoint goes on now, if it still lives."""
    (failpoints / f"{point}.held").unlink()


@contextlib.contextmanager
def asleep(running: subprocess.Popen[str]) -> Iterator[None]:
    """All processes of a run stand still while the block lasts, as on a machine that is suspended."""
    family = [psutil.Process(running.pid), *_family(running.pid)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # one that was just about to end
            process.suspend()
    try:
        yield
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):  # one that those which woke before it have ended
                process.resume()


def elsewhere(dataset: Dataset, epoch: int) -> None:
    """Have a run look as if it were of another machine, so that only its heartbeat tells whether it lives."""
    path = epoch_path(dataset, epoch, "json")
    owner = json.loads(dataset.storage.read(path)[0])
    dataset.storage.put(path, json.dumps({**owner, "host": "elsewhere"}).encode())


def tables(dataset: Dataset) -> dict[str, pa.Table]:
    """Both tables, by what a plain glob finds."""
    found = {}
    for name in ("images", "faces"):
        objects = dataset.storage.objects(dataset.path(name) + "/")
        files = [o.uri for o in objects if o.uri.endswith(".parquet") and not o.uri.rpartition("/")[2].startswith(".")]
        found[name] = pa.concat_tables([pq.ParquetFile(io.BytesIO(dataset.storage.read(u)[0])).read() for u in files])
    return found


def assert_same_index(job: Job, expected: dict[str, pa.Table]) -> None:
    """Each image once, with the outcome of an uninterrupted run; each face once, with its box and vector; no file that
    a plain glob finds and no record names."""
    found = tables(job.dataset)
    outcome = ["image_id", "status", "reason", "n_faces", "width", "height", "content_sha256"]
    one, other = (t["images"].select(outcome).sort_by("image_id").to_pylist() for t in (found, expected))
    assert one == other, job.history
    try:
        assert_same_faces(found["faces"], expected["faces"], ["image_id"])
    except AssertionError as error:
        raise AssertionError(f"{error}\n{job.history}") from error
    assert verify(job.dataset).problems == [], job.history


def uninterrupted(inputs: Sequence[Path], output: Path) -> dict[str, pa.Table]:
    """What a run gives that nobody disturbs."""
    job = Job(inputs, Dataset.at(Storage(), str(output)))
    job.finish()
    return tables(job.dataset)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def _family(pid: int) -> list[psutil.Process]:
    """Everything that a process has started, down to Ray's workers."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _workers(pid: int) -> list[psutil.Process]:
    """The workers of a run's Ray, in the order of their numbers. Ray's agents are parts of a node, and no workers."""
    titles = {process: _title(process) for process in _family(pid)}
    workers = [p for p, title in titles.items() if title.startswith("ray::") and "Agent" not in title]
    return sorted(workers, key=lambda process: process.pid)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip() or process.name()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
