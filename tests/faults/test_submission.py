"""A cluster of three nodes, one of them with logical GPUs, that is sent jobs: by Ray's command and by ours, in both
layouts, stopped half-way and sent again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from facebatch.failpoints import VARIABLE
from facebatch.pipeline.submission import _code
from tests.e2e.conftest import command
from tests.faults.nodes import Nodes, command_of
from tests.faults.runs import SMALL, assert_same, workers

pytest.importorskip("aiohttp", reason="needs the extra `cluster`: Ray takes jobs only with its dashboard's packages")
pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
LONGEST = 240.0
"""Seconds that a job may take to come to a failpoint."""


class Sender:
    """Sends the same run again and again, in one way."""

    def __init__(self, way: str, cluster: Nodes, wheel: Path, photos: Path, output: Path, words: Sequence[str]) -> None:
        self._run = ["--input", str(photos), "--output", str(output), *SMALL, *words]
        self._way, self._cluster, self._wheel = way, cluster, wheel
        self._sent = 0

    def start(self) -> tuple[subprocess.Popen[str], str]:
        """The command, which follows the job, and the job's submission id."""
        self._sent += 1
        if self._way == "ray":
            name = f"job-{self._sent}"
            words = ["ray", "job", "submit", "--submission-id", name, "--working-dir", str(ROOT), "--"]
            return self._begin([*words, "python", "jobs/index.py", *self._run], ROOT), name
        # As in a wheel: out of the package alone, from another folder.
        words = [sys.executable, "-m", "facebatch", "submit", "--address", self._cluster.jobs, *self._run]
        sent = subprocess.run([*words, "--no-wait"], capture_output=True, text=True, **self._where(self._wheel))  # type: ignore[call-overload]
        assert sent.returncode == 0, sent.stderr
        return self._begin(words, self._wheel), sent.stdout.strip()

    def stop(self, name: str) -> None:
        words = ["ray", "job", "stop", name]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, **self._where(ROOT))  # type: ignore[call-overload]
        assert "was stopped" in done.stdout, done.stdout + done.stderr

    def _begin(self, words: list[str], cwd: Path) -> subprocess.Popen[str]:
        where = self._where(cwd)
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **where)  # type: ignore[call-overload, no-any-return]

    def _where(self, cwd: Path) -> dict[str, object]:
        bin_folder = str(Path(sys.executable).parent)
        path = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
        ours = {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": self._cluster.jobs, "PATH": path, "PYTHONPATH": str(cwd)}
        return {"cwd": cwd, "env": {**os.environ, **ours}}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as a wheel has it: packs and built-in models are in it."""
    place = tmp_path_factory.mktemp("wheel") / "site"
    env: dict[str, object] = {}
    with _code(env):
        shutil.copytree(str(env["working_dir"]), place)
    return place


@pytest.mark.parametrize(("layout", "way"), [("split", "ray"), ("fused", "facebatch")])
def test_a_job_that_is_stopped_half_way_and_sent_again_gives_the_same_and_nothing_twice(
    layout: str,
    way: str,
    nodes: Callable[..., Nodes],
    photos: Path,
    expected: Path,
    wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, failpoints = tmp_path / "out", tmp_path / "failpoints"
    failpoints.mkdir()
    monkeypatch.setenv(VARIABLE, str(failpoints))
    cluster = nodes(1, jobs=True)
    cluster.add(2, gpus=1)
    cluster.add(2)
    _wait_for_agent(cluster)
    words = [f"run.layout={layout}", "run.provider=cpu", "run.min_cpus=5", "run.actors=2"]
    sender = Sender(way, cluster, wheel, photos, output, words)
    (failpoints / "record").write_text("hold")
    following, name = sender.start()
    held, until = failpoints / "record.held", time.monotonic() + LONGEST
    while not held.exists():
        assert time.monotonic() < until, f"{name} came to no commit"
        assert following.poll() is None, following.communicate()[0]
        time.sleep(0.05)
    if way == "facebatch":
        drivers = [p for p in cluster.head.processes() if command_of(p)[1:4] == ["-m", "facebatch", "index"]]
        at_work = [w for node in cluster.all for w in workers(node.processes(), "Map", "Write", "Read")]
        assert len(drivers) == 1
        assert at_work
        for process in drivers + at_work:
            assert "runtime_resources" in process.cwd(), "the code that was sent is what runs"
    sender.stop(name)
    held.unlink()
    said, _ = following.communicate(timeout=120)
    assert following.returncode == (0 if way == "ray" else 1), said  # Ray's own command finds nothing amiss
    following, name = sender.start()
    said, _ = following.communicate(timeout=LONGEST)
    assert following.returncode == 0, said
    assert f"layout {layout}" in said
    assert "faces      221" in said, "the closing table is shown where it was sent from"
    assert_same(output, expected)
    again = command("index", "--input", str(photos), "--output", str(output), *SMALL)
    assert "nothing to do: all 60 images are indexed already" in again.stderr


def test_the_job_of_a_wrong_command_ends_with_its_exit_code(nodes: Callable[..., Nodes], tmp_path: Path) -> None:
    cluster = nodes(1, jobs=True)
    _wait_for_agent(cluster)
    words = [
        "submit",
        "--address",
        cluster.jobs,
        "--input",
        str(tmp_path / "nothing"),
        "--output",
        str(tmp_path / "out"),
    ]
    done = command(*words, RAY_AUTH_MODE="disabled")
    assert done.returncode == 2
    assert "names nothing: no such file, folder with files, or match of a pattern" in done.stdout
    assert "-1 has FAILED, exit code 2" in done.stderr


def _wait_for_agent(cluster: Nodes) -> None:
    """Until the head takes jobs, which is some seconds after it is there."""
    until = time.monotonic() + 120
    ray = str(Path(sys.executable).with_name("ray"))
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": cluster.jobs}
    while True:
        words = [ray, "job", "submit", "--", "true"]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120, check=False)
        if done.returncode == 0:
            return
        assert time.monotonic() < until, done.stdout + done.stderr
        time.sleep(1)
