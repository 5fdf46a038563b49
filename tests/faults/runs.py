"""A run of `facebatch index` in a process of its own, to be watched and disturbed; and what it must have written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil
import pyarrow as pa

from facebatch.dataset import Dataset
from facebatch.storage import Storage
from facebatch.verify import verify
from tests.e2e.conftest import assert_same_faces, table
from tests.faults.nodes import command_of

T = TypeVar("T")
SMALL = ("shards.files=2", "run.commit_images=4")
"""Many small tasks: there is always one on its way. Rows say which shard they were planned in, so all runs have it."""
_LONGEST = 240.0
"""Seconds that anything here may take before it counts as a hang."""


class Run:
    """Started at once; killed when the block ends, if it has not come to its end."""

    def __init__(self, photos: Path, output: Path, *words: str, **environment: str) -> None:
        self.output = output
        self._said = output.with_suffix(".said").open("w+")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "facebatch",
                "index",
                "--input",
                str(photos),
                "--output",
                str(output),
                *SMALL,
                *words,
            ],
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", **environment},
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            for process in (*self.family(), psutil.Process(self.process.pid)):
                _killed(process)
            self.process.wait()
        self._said.close()

    @property
    def said(self) -> str:
        self._said.seek(0)
        return self._said.read()

    def commits(self) -> int:
        """How many bundles of rows count so far."""
        return len(list(self.output.glob("_facebatch/records/*.json")))

    def wait_for(self, what: Callable[[], T]) -> T:
        """What there is, as soon as there is something. The run must not end before."""
        until = time.monotonic() + _LONGEST
        while not (found := what()):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.02)
        return found

    def family(self) -> list[psutil.Process]:
        """The processes of the Ray that this run has started for itself."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill_a_worker(self, name: str) -> None:
        """SIGKILL for one that does this work, as soon as there is one."""

        def killed() -> bool:
            victims = workers(self.family(), name)[:1]
            done = any(map(_killed, victims))
            psutil.wait_procs(victims, timeout=30)  # or the next call might find it dying, and kill it twice
            return done

        self.wait_for(killed)

    def kill_whoever_stands_at(self, held: Path) -> None:
        """SIGKILL for the process that a failpoint holds, as soon as there is one."""
        victim = psutil.Process(int(self.wait_for(lambda: held.exists() and held.read_text())))
        _killed(victim)
        psutil.wait_procs([victim], timeout=30)
        held.unlink()

    def end(self, longest: float = _LONGEST) -> int:
        """The exit code. Fails where the run hangs."""
        try:
            return self.process.wait(longest)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run hangs; it said: {self.said}") from None


def workers(processes: list[psutil.Process], *names: str) -> list[psutil.Process]:
    """Those of Ray's workers that are at work, and whose title holds one of these names."""
    found = []
    for process in processes:
        title = "".join(command_of(process))
        at_work = "MapWorker" not in title or title.rstrip("\0 ").endswith(".submit")
        if title.startswith("ray::") and at_work and any(name in title for name in names):
            found.append(process)
    return found


def _killed(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        process.kill()
        return True
    return False


def images(output: Path) -> list[dict[str, object]]:
    return list(table(output, "images").sort_by("image_id").to_pylist())


def logged(folder: Path) -> list[dict[str, Any]]:
    """The events of all workers, among what Ray itself writes into their files in this folder."""
    lines = [line for file in folder.glob("worker-*.err") for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.startswith('{"time"')]


def faces(output: Path) -> pa.Table:
    return table(output, "faces")


def assert_same(output: Path, expected: Path) -> None:
    """The same rows as an uninterrupted run, each once, and a dataset that is whole."""
    assert verify(Dataset.at(Storage(), str(output))).problems == []
    assert images(output) == images(expected)
    assert_same_faces(faces(output), faces(expected), key=["uri"])
