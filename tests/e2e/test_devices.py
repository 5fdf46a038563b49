"""Which GPUs a worker sees: logical ones of Ray, the models themselves run on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import io, json, sys
from dataclasses import replace
import ray
from rich.console import Console
from facebatch import config
from facebatch.pipeline import index as run
from facebatch.pipeline.pools import lay_out

def on_logical_gpus(machine, settings, work, available, sample):
    layout = lay_out(machine, settings, work, ["cpu", "cuda"], sample)
    pools = tuple(replace(pool, place=replace(pool.place, provider="cpu")) for pool in layout.pools)
    return replace(layout, pools=pools)

run.lay_out = on_logical_gpus
photos, output, cpus, gpus, *words = sys.argv[1:]
ray.init(address="local", num_cpus=int(cpus), num_gpus=int(gpus), include_dashboard=False, log_to_driver=False)
settings = config.load(None, words, inputs=(photos,), output=output)
said = io.StringIO()
summary = run.index(settings, Console(file=said, width=200))
print(json.dumps([summary.seats, summary.totals]))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, astronaut: bytes, hopper: bytes) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(6):
        (folder / f"{i}.jpg").write_bytes(hopper + bytes(i))
        (folder / f"{i}.png").write_bytes(astronaut + bytes(i))
    return folder


def seats(photos: Path, output: Path, cpus: int, gpus: int, *words: str) -> dict[str, list[str]]:
    """What the workers of each stage saw."""
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(photos), str(output), str(cpus), str(gpus), *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found, totals = json.loads(done.stdout.splitlines()[-1])
    assert totals["ok"] == 12
    record = json.loads(next((output / "_facebatch" / "runs").iterdir()).read_text())
    assert record["seats"] == found, "and the run's record tells it later"
    return dict(found)


def test_each_actor_sees_the_gpu_that_was_planned_for_it_and_cpu_stages_none(photos: Path, tmp_path: Path) -> None:
    found = seats(photos, tmp_path / "out", 8, 4)
    assert set(found) == {"decode", "detect", "chip", "embed"}
    assert (found["decode"], found["chip"]) == ([""], [""])
    assert (len(found["detect"]), len(found["embed"])) == (3, 1)
    assert sorted(found["detect"] + found["embed"]) == ["0", "1", "2", "3"], "a whole one each"


def test_parts_of_a_gpu_are_parts_of_the_same(photos: Path, tmp_path: Path) -> None:
    found = seats(photos, tmp_path / "out", 8, 1, "run.layout=split")
    assert found == {"chip": [""], "decode": [""], "detect": ["0"], "embed": ["0"]}


def test_a_fused_actor_on_the_cpu_sees_no_gpu(photos: Path, tmp_path: Path) -> None:
    assert seats(photos, tmp_path / "out", 4, 2, "run.provider=cpu") == {"index": [""]}
