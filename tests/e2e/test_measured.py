"""A run that looks before it leaps, and stops where going on makes no sense."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from facebatch import budget, config
from facebatch.budget import Spent
from facebatch.pipeline import nodes, watch
from tests.conftest import encode
from tests.e2e.conftest import command, run, table
from tests.faults import archives
from tests.storage.conftest import server as server
from tests.storage.server import Handler, Server, status

pytestmark = pytest.mark.usefixtures("a_ray")


@pytest.mark.parametrize("words", [[], ["run.layout=split"]])
def test_a_run_is_laid_out_by_a_sample_of_its_images(tmp_path: Path, words: list[str]) -> None:
    archives.photos(tmp_path / "photos", 70)
    done = run([tmp_path / "photos"], tmp_path / "out", "run.calibrate=2", *words)
    assert "calibrated on 2 images: " in done.remarks
    record = json.loads((tmp_path / "out" / "_facebatch" / "runs" / "00001.json").read_text())
    sample = record["calibration"]
    assert (sample["images"], sample["faces"]) == (2, 2)
    assert 0 < sample["spent"]["detect"] < sample["seconds"] < 60
    assert sample["network_bytes"] > 1e6
    assert [line for line in record["layout"] if line.startswith("calibrated on 2 images")]
    assert len(record["layout"]) == 6, "and the planner's five decisions, each with its reason"
    assert done.summary.totals["ok"] == 70


def test_a_sample_that_cannot_be_read_stops_no_run(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for k in range(64):
        (tmp_path / "photos" / f"{k}.jpg").write_bytes(b"")
    done = run([tmp_path / "photos"], tmp_path / "out", "run.calibrate=2")
    assert "not calibrated: no image of the sample can be read" in done.remarks
    assert done.summary.totals["failed"] == 64


TWICE = """
from ray.data import DataContext
from facebatch.config import Run
from facebatch.pipeline import job
from facebatch.pipeline.cluster import connected
from facebatch.pipeline.desk import Desk
from facebatch.pipeline.watch import forget, tell

with connected(None):
    tell(DataContext.get_current(), Desk(0, 0).handle, 0.5, 0)
forget(DataContext.get_current())
with connected(None):
    job.rehearse(Run(), 60)
print("rehearsed")
"""


def test_the_sample_of_a_run_on_another_ray_knows_nothing_of_the_last_one() -> None:
    """As when nodes were lost and the run is laid out anew: a handle of a Ray that is gone ends the process."""
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.endswith("rehearsed\n"), done.stderr


def test_what_was_erased_no_later_run_brings_back(tmp_path: Path) -> None:
    archives.photos(tmp_path / "photos", 6)
    first = run([tmp_path / "photos"], tmp_path / "out")
    name = first.images()[0]["uri"]
    done = command("erase", str(tmp_path / "out"), "--image", name)
    assert (done.returncode, done.stdout) == (0, "1 images and their 1 faces are erased\n"), done.stderr
    archives.photos(tmp_path / "photos", 8)
    again = run([tmp_path / "photos"], tmp_path / "out")
    assert (again.summary.totals["ok"], again.summary.totals["skipped/ERASED"]) == (7, 1)
    assert name not in again.faces()["uri"].to_pylist()
    assert command("verify", str(tmp_path / "out")).returncode == 0


def test_a_storage_that_fails_for_all_images_stops_the_run_and_the_next_one_goes_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_EVERY", 0.1)
    monkeypatch.setattr(watch, "_BUDGET_EVERY", 0.2)
    monkeypatch.setattr(budget, "SECONDS", 0.5)

    def slowly_denied(handler: Handler, data: bytes) -> None:
        time.sleep(0.05)
        status(403)(handler, data)

    grey = encode(np.full((64, 64, 3), 99, np.uint8))
    names = [f"{server.url}/{k}.jpg" for k in range(1500)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    server.always = slowly_denied
    with pytest.raises(Spent, match=r"of the last \d+ images could not be read \(ACCESS_DENIED \d+\)") as kept:
        run([tmp_path / "list.txt"], tmp_path / "out", "storage.retries=0", "run.calibrate=0")
    assert len(server.log) < 1500, "it did not ask for all of them"
    assert kept.value.__traceback__ is not None
    assert nodes.machine(config.Run()).taken_cpus == 0, "who keeps the error, as a notebook does, keeps no actors"
    (tmp_path / "list.txt").write_text("\n".join(names[:1]))
    server.always, server.files = None, {f"/{k}.jpg": grey for k in range(1500)}
    run([tmp_path / "list.txt"], tmp_path / "out")
    images = table(tmp_path / "out", "images")
    assert set(images["status"].to_pylist()) == {"no_face"}
    assert len(set(images["uri"].to_pylist())) == images.num_rows == 1500
