"""Clusters that are not simply there: empty ones that scale, ones that others use, ones of which a part is meant."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.nodes import Node, Nodes, command_of
from tests.faults.runs import SMALL, Run, assert_same, workers

pytestmark = pytest.mark.faults

Start = Callable[..., Nodes]
HOLDER = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)

@ray.remote(num_cpus=float(sys.argv[2]), num_gpus=float(sys.argv[3]))
class Holder:
    def here(self):
        return True

holder = Holder.remote()
ray.get(holder.here.remote())
print("held", flush=True)
time.sleep(600)
"""

ON_LOGICAL_GPUS = """
import sys
from dataclasses import replace
from facebatch.cli import entry
from facebatch.pipeline import index as run
from facebatch.pipeline.pools import lay_out

def on_logical_gpus(machine, settings, work, available, sample):
    layout = lay_out(machine, settings, work, ["cpu", "cuda"], sample)
    pools = tuple(replace(pool, place=replace(pool.place, provider="cpu")) for pool in layout.pools)
    return replace(layout, pools=pools)

run.lay_out = on_logical_gpus
entry(sys.argv[1:])
"""
"""The command line, which plans for GPUs that only Ray believes in, and computes on the CPU where they are."""


@contextmanager
def somebody_else(cluster: Nodes, cpus: float, gpus: float) -> Iterator[subprocess.Popen[str]]:
    """A job that holds so much of the cluster as long as the block lasts."""
    words = [sys.executable, "-c", HOLDER, cluster.address, str(cpus), str(gpus)]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as job:
        assert job.stdout is not None
        assert any("held" in line for line in job.stdout), "Ray had no room for somebody else"
        try:
            yield job
        finally:
            job.kill()


def pids(node: Node, *titles: str) -> set[int]:
    return {process.pid for process in workers(node.processes(), *titles)}


def test_an_empty_cluster_is_asked_to_scale_and_scales_back(
    nodes: Start, photos: Path, expected: Path, tmp_path: Path
) -> None:
    cluster = nodes(0, scales=2)
    words = [f"run.address={cluster.address}"]
    with Run(photos, tmp_path / "out", *words) as run:
        assert run.end() == 1
        assert "there are no nodes that offer CPUs" in run.said
        assert "have a cluster that scales start them, as with run.min_cpus=" in run.said
    with Run(photos, tmp_path / "out", *words, "run.min_cpus=3") as run:
        assert run.end() == 0, run.said
        assert "on 4 CPUs" in run.said, "laid out for what has come, which is two nodes of two"
    assert_same(tmp_path / "out", expected)
    until = time.monotonic() + 90
    while _raylets(cluster) > 1:
        assert time.monotonic() < until, "nobody asks for the nodes any more"
        time.sleep(0.5)


def test_a_run_that_is_killed_while_it_waits_asks_for_nothing_any_more(
    nodes: Start, photos: Path, tmp_path: Path
) -> None:
    cluster = nodes(0, scales=1)
    with Run(photos, tmp_path / "out", f"run.address={cluster.address}", "run.min_cpus=8") as run:
        run.wait_for(lambda: "waiting for 8 CPUs" in run.said)
        run.wait_for(lambda: _raylets(cluster) == 2)
        run.process.kill()
    until = time.monotonic() + 90
    while _raylets(cluster) > 1:
        assert time.monotonic() < until
        time.sleep(0.5)


def test_room_that_does_not_come_ends_the_run_with_what_there_was(nodes: Start, photos: Path, tmp_path: Path) -> None:
    cluster = nodes(1)
    words = [f"run.address={cluster.address}", "run.min_cpus=2", "run.min_gpus=1", "run.scale_seconds=3"]
    with Run(photos, tmp_path / "out", *words) as run:
        assert run.end() == 1
        assert "no room for 2 CPUs and 1 GPUs in 3 s (run.scale_seconds): 1 CPUs and 0 GPUs are free" in run.said


def test_gpus_that_others_hold_are_not_waited_for_in_silence_and_the_cpu_does_not_step_in(
    nodes: Start, photos: Path, expected: Path, tmp_path: Path
) -> None:
    cluster = nodes(0)
    cluster.add(4, gpus=1)
    words = [f"run.address={cluster.address}"]
    with somebody_else(cluster, cpus=1, gpus=0.5):
        with Run(photos, tmp_path / "out", *words) as run:
            assert run.end() == 1
            assert "all GPUs are taken by others (1)" in run.said
        with Run(photos, tmp_path / "out", *words, "run.provider=cpu") as run:
            assert run.end() == 0, run.said
            assert "others have taken 1 CPUs and 1 GPUs" in run.said
            assert "3 actor(s) of 1 thread(s) on 3 CPUs" in run.said
    assert_same(tmp_path / "out", expected)


def test_a_run_waits_for_what_others_hold_where_it_is_told_to(
    nodes: Start, photos: Path, expected: Path, tmp_path: Path
) -> None:
    cluster = nodes(2)
    words = [f"run.address={cluster.address}", "run.min_cpus=2"]
    with somebody_else(cluster, cpus=2, gpus=0) as job, Run(photos, tmp_path / "out", *words) as run:
        run.wait_for(lambda: "waiting for 2 CPUs: 0 CPUs and 0 GPUs are free, 2 CPUs" in run.said)
        job.kill()
        assert run.end() == 0, run.said
    assert_same(tmp_path / "out", expected)


@pytest.mark.parametrize("layout", ["fused", "split"])
def test_only_nodes_with_the_labels_take_part(
    layout: str, nodes: Start, photos: Path, expected: Path, tmp_path: Path
) -> None:
    cluster = nodes(1)
    ours, other = cluster.add(2, labels="team=photos,zone=a"), cluster.add(2, labels="team=other,zone=a")
    words = [f"run.address={cluster.address}", f"run.layout={layout}", "run.calibrate=1"]
    with Run(photos, tmp_path / "out", *words, "run.labels=[team=nobody]") as run:
        assert run.end() == 2
        assert "no node carries the labels team=nobody; there are team=other, team=photos, zone=a" in run.said
    with Run(photos, tmp_path / "out", *words, "run.labels=[team=photos, zone=a]") as run:
        at_work, strangers = set[int](), set[str]()
        while run.process.poll() is None:
            at_work |= pids(ours, "(index)", "(detect)")
            for node in (other, cluster.head):
                found = workers(node.processes(), "Map", "Read", "Write", "measured")
                strangers |= {" ".join(title) for worker in found if (title := command_of(worker))}
            time.sleep(0.05)
        assert run.end() == 0, run.said
    assert at_work
    assert not strangers
    assert_same(tmp_path / "out", expected)


def test_nodes_without_gpus_decode_and_those_with_gpus_infer(
    nodes: Start, photos: Path, expected: Path, tmp_path: Path
) -> None:
    cluster = nodes(0)
    with_gpus, without = cluster.add(2, gpus=2), cluster.add(3)
    words = ["index", "--input", str(photos), "--output", str(tmp_path / "out"), *SMALL]
    words += [f"run.address={cluster.address}", "run.calibrate=0"]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    decoding, inferring = set(), set()
    with (tmp_path / "said").open("w+") as said:
        job = subprocess.Popen(
            [sys.executable, "-c", ON_LOGICAL_GPUS, *words], stdout=said, stderr=subprocess.STDOUT, env=environment
        )
        while job.poll() is None:
            for name, node in (("with", with_gpus), ("without", without)):
                decoding |= {name for _ in workers(node.processes(), "(decode)")}
                inferring |= {name for _ in workers(node.processes(), "(detect)", "(embed)")}
            time.sleep(0.1)
        said.seek(0)
        text = said.read()
    assert job.returncode == 0, text
    assert "1 detector(s) and 1 embedder(s), 1 GPU each; decoding in tasks on all nodes" in text
    assert inferring == {"with"}, "as the plan has it"
    assert "without" in decoding
    assert_same(tmp_path / "out", expected)


def test_a_worker_that_cannot_begin_says_why(nodes: Start, photos: Path, tmp_path: Path) -> None:
    """A GPU for Ray that CUDA cannot use: the most usual mistake in setting up a cluster."""
    cluster = nodes(2)
    cluster.add(2, gpus=1)
    words = [f"run.address={cluster.address}", "run.provider=cuda", "run.layout=fused"]
    with Run(photos, tmp_path / "out", *words) as run:
        assert run.end() == 1
        assert "workers could not begin: FacebatchError: facebatch-detector was to run on cuda" in run.said
        assert "pip install 'facebatch[cuda]'" in run.said


def _raylets(cluster: Nodes) -> int:
    return sum("".join(command_of(process)[:1]).endswith("/raylet") for process in cluster.head.processes())
