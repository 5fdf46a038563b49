"""More blocks than the object store holds: Ray moves them to disk, and from there they go with the run."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facebatch.dataset import Dataset
from facebatch.storage import Storage
from facebatch.verify import verify
from tests.conftest import encode
from tests.faults.nodes import Nodes
from tests.faults.runs import Run, images

pytestmark = pytest.mark.faults

SCANS = 16
STORE = 80 << 20


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, group: np.ndarray) -> Path:
    """Sixteen bitmaps of 22 MB: four of them fill the store, and each stage would have some at hand."""
    folder = tmp_path_factory.mktemp("scans")
    for i in range(SCANS):
        (folder / f"{i:02d}.bmp").write_bytes(encode(np.tile(np.roll(group, 13 * i, (0, 1)), (4, 3, 1)), "BMP"))
    return folder


def test_blocks_that_do_not_fit_are_spilled_and_gone_at_the_end_also_of_a_driver_that_was_killed(
    nodes: Callable[..., Nodes], scans: Path, tmp_path: Path
) -> None:
    cluster = nodes(4, STORE)
    words = [f"run.address={cluster.address}", "run.layout=split", "run.commit_images=1"]
    with Run(scans, tmp_path / "out", *words) as run:
        run.wait_for(lambda: run.commits() and cluster.spilled())
        run.process.send_signal(signal.SIGKILL)
        run.end()
    most = 0
    with Run(scans, tmp_path / "out", *words) as run:
        while run.process.poll() is None:
            most = max(most, cluster.head.memory())
            time.sleep(0.5)
        assert run.end() == 0, run.said
    assert 500 << 20 < most < 4 << 30
    assert [row["status"] for row in images(tmp_path / "out")] == ["ok"] * SCANS
    assert verify(Dataset.at(Storage(), str(tmp_path / "out"))).problems == []
    until = time.monotonic() + 60
    while cluster.spilled():
        assert time.monotonic() < until, f"these stay: {cluster.spilled()}"
        time.sleep(0.2)
