"""What the tests of faults share: an archive, the tables that an uninterrupted run makes of it, a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import encode
from tests.e2e.conftest import command
from tests.faults.nodes import Nodes
from tests.faults.runs import SMALL
from tests.faults.world import World, a_world


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, group: np.ndarray, astronaut: bytes, hopper: bytes) -> Path:
    """60 files: the two photographs, and pictures of both, moved about."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    (folder / "astronaut.png").write_bytes(astronaut)
    (folder / "hopper.jpg").write_bytes(hopper)
    for i in range(58):
        moved = np.roll(group, random.integers(0, 600, 2), axis=(0, 1))
        (folder / f"{i:03d}.jpg").write_bytes(encode(moved, "JPEG", quality=92))
    return folder


@pytest.fixture
def archive(photos: Path, tmp_path: Path) -> Path:
    """The photographs, and files that are none."""
    folder = tmp_path / "archive"
    shutil.copytree(photos, folder)
    (folder / "cut.jpg").write_bytes((photos / "hopper.jpg").read_bytes()[:3000])
    (folder / "corrupt.jpg").write_bytes((photos / "hopper.jpg").read_bytes()[:3] + bytes(5000))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.jpg").write_text("these are words")
    return folder


@pytest.fixture(scope="session")
def expected(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    done = command("index", "--input", str(photos), "--output", str(output), *SMALL)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture
def nodes() -> Iterator[Callable[..., Nodes]]:
    """Starts a cluster with so many CPUs on its head, and an object store of so many bytes."""
    started: list[Nodes] = []

    def start(cpus: int, store: int = 100 << 20, jobs: bool = False, scales: int = 0, metrics: int = 0) -> Nodes:
        started.append(Nodes(cpus, store, jobs, scales, metrics))
        return started[-1]

    yield start
    for cluster in started:
        cluster.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A dataset and the world around it, without Ray and models."""
    with a_world(tmp_path) as made:
        yield made
