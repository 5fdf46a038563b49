"""Metrics as Prometheus scrapes them from a cluster's nodes, held against the tables."""

from __future__ import annotations

import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

from facebatch.failpoints import VARIABLE
from tests.e2e.conftest import table
from tests.faults.nodes import Nodes
from tests.faults.runs import Run, images, logged
from tests.ports import free_port

pytest.importorskip("aiohttp", reason="needs the extra `cluster`: the agents of Ray's nodes export metrics")
parser = pytest.importorskip("prometheus_client.parser", reason="needs the extra `cluster`")
pytestmark = pytest.mark.faults

PARTS = {"read", "decode", "detect", "chip", "embed", "pack", "write"}
Scraped = dict[str, Counter[tuple[str, ...]]]
"""For each metric its values by those labels that are asked for."""


def scraped(port: int, run: str) -> Scraped:
    """All metrics of ours for one run, summed over workers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: Scraped = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            name, labels = sample.name.removeprefix("ray_facebatch_"), sample.labels
            if name != sample.name and labels["run"] == run:
                key = tuple(labels[label] for label in ("status", "reason", "part", "kind") if label in labels)
                found.setdefault(name, Counter())[key] += sample.value
    return found


@pytest.mark.parametrize("layout", ["fused", "split"])
def test_what_is_scraped_adds_up_to_the_tables(
    nodes: Callable[..., Nodes], archive: Path, tmp_path: Path, layout: str
) -> None:
    port = free_port()
    cluster = nodes(4, metrics=port)
    output, seen = tmp_path / "out", list[Scraped]()
    with Run(archive, output, f"run.address={cluster.address}", f"run.layout={layout}") as run:
        while run.process.poll() is None:
            seen.append(scraped(port, "1"))
            time.sleep(0.5)
        assert run.end() == 0, run.said

    def whole() -> bool:
        seen.append(scraped(port, "1"))
        return sum(seen[-1].get("images_total", Counter()).values()) == len(rows)

    rows = images(output)
    until = time.monotonic() + 30
    while not whole():
        assert time.monotonic() < until, seen[-1]
        time.sleep(0.2)
    last = seen[-1]
    assert last["images_total"] == Counter((str(row["status"]), str(row["reason"] or "")) for row in rows)
    bad = {reason for _, reason in last["images_total"] if reason}
    assert bad == {"TRUNCATED", "CORRUPT", "EMPTY", "NOT_AN_IMAGE"}
    assert last["faces_total"][()] == table(output, "faces").num_rows
    assert last["image_bytes_total"][()] == pc.sum(table(output, "images")["size_bytes"]).as_py()
    assert last["image_bytes_total"][()] == sum(file.stat().st_size for file in archive.iterdir())
    assert last["commits_total"][()] == len(list(output.glob("_facebatch/records/*.json")))
    assert {part for (part,) in last["part_seconds_total"]} == PARTS
    assert all(seconds > 0 for seconds in last["part_seconds_total"].values())
    assert last["embed_filled_total"][()] == table(output, "faces").num_rows
    assert 0 < last["embed_filled_total"][()] <= last["embed_slots_total"][()]
    assert last["moved_bytes_total"][()] > 0
    assert "retries_total" not in last
    planned = {scrape["images_planned"][()] for scrape in seen if "images_planned" in scrape}
    assert planned == {64}


def test_workers_that_are_lost_are_counted_and_rows_that_come_twice_are_not(
    nodes: Callable[..., Nodes], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failpoints = tmp_path / "failpoints"
    failpoints.mkdir()
    (failpoints / "embed").write_text("kill")
    monkeypatch.setenv(VARIABLE, str(failpoints))
    port = free_port()
    cluster = nodes(4, metrics=port)
    with Run(archive, tmp_path / "out", f"run.address={cluster.address}", "run.layout=fused") as run:
        assert run.end() == 0, run.said
    rows = images(tmp_path / "out")
    until = time.monotonic() + 30
    while sum((last := scraped(port, "1")).get("images_total", Counter()).values()) < len(rows):
        assert time.monotonic() < until, last
        time.sleep(0.2)
    assert last["images_total"] == Counter((str(row["status"]), str(row["reason"] or "")) for row in rows)
    assert last["faces_total"][()] == table(tmp_path / "out", "faces").num_rows
    assert last["retries_total"]["worker",] == 1
    assert last["retries_total"]["suspect",] > 0
    events = logged(cluster.logs)
    assert [event["level"] for event in events if event["event"] == "worker_restarted"] == ["warning"]
    tried = sum(event["images"] for event in events if event["event"] == "tried_apart")
    assert tried == last["retries_total"]["suspect",]
