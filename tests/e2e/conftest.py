"""Whole jobs: one Ray for all tests that run in this process, and the command line for those that need their own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from rich.console import Console

from facebatch import config
from facebatch.pipeline.cluster import connected
from facebatch.pipeline.index import index
from facebatch.summary import Summary
from tests.s3 import S3_CREDENTIALS

PUBLISHED = ("detect.pack=yunet-n", "embed.pack=edgeface-xs")
"""For what hangs on which faces are found: its weights do not change with ours."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def a_ray() -> Iterator[None]:
    """One Ray for the session. Its workers get the environment that is set now, credentials included."""
    os.environ.update(S3_CREDENTIALS)
    with connected(None):
        assert ray.is_initialized()
        yield


@dataclass(frozen=True)
class Run:
    """A finished run: what it said and where it wrote."""

    summary: Summary
    remarks: str
    output: Path

    def images(self) -> list[dict[str, Any]]:
        return list(table(self.output, "images").sort_by("image_id").to_pylist())

    def faces(self) -> pa.Table:
        return table(self.output, "faces").sort_by("face_id")


def run(inputs: Sequence[Path | str], output: Path, *words: str) -> Run:
    """Index in this process, on the session's Ray."""
    said = io.StringIO()
    settings = config.load(None, words, inputs=tuple(map(str, inputs)), output=str(output))
    return Run(index(settings, Console(file=said, width=200)), said.getvalue(), output)


def table(output: Path | str, name: str) -> pa.Table:
    """All rows of one of the two tables, by a plain glob."""
    return pa.concat_tables([pq.ParquetFile(file).read() for file in sorted(Path(output, name).glob("*.parquet"))])


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "facebatch", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=600,
        check=False,
    )


def assert_same_faces(
    one: pa.Table, other: pa.Table, key: Sequence[str], box: float = 0.01, vector: float = 1e-5
) -> None:
    """The same faces under the same keys: boxes within `box` pixels, vectors within `vector`."""
    order = [(name, "ascending") for name in (*key, "face_index")]
    one, other = one.sort_by(order), other.sort_by(order)
    for name in (*key, "face_index", "alignment", "quality_reasons"):
        assert one[name].to_pylist() == other[name].to_pylist(), name
    for name in ("x_min", "y_min", "x_max", "y_max"):
        assert np.abs(one[name].to_numpy() - other[name].to_numpy()).max(initial=0) <= box, name
    assert np.abs(vectors(one) - vectors(other)).max(initial=0) <= vector


def vectors(faces: pa.Table) -> np.ndarray:
    """n x 512."""
    return np.asarray(faces["embedding"].combine_chunks().flatten().to_numpy()).reshape(-1, 512)
