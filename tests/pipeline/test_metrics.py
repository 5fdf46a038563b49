"""What the desk's counts become for Prometheus. That they arrive there is shown on a cluster (tests/faults)."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from facebatch.pipeline import metrics
from facebatch.pipeline.metrics import COUNTERS, Metrics, points

COUNTS = {
    "committed/ok/": 3,
    "committed/failed/CORRUPT": 2,
    "committed_faces": 7,
    "committed_bytes": 900,
    "commits": 2,
    "decode_us": 1_500_000,
    "moved": 80,
    "retries/request": 4,
    "embed_filled": 7,
    "embed_slots": 32,
    "images": 5,
    "ok": 3,
    "gate_micros": 9,
    "write_us": 0,
}


def test_counts_become_values_of_counters_with_labels() -> None:
    assert list(points(COUNTS)) == [
        ("facebatch_images", 3, {"status": "ok", "reason": ""}),
        ("facebatch_images", 2, {"status": "failed", "reason": "CORRUPT"}),
        ("facebatch_faces", 7, {}),
        ("facebatch_image_bytes", 900, {}),
        ("facebatch_commits", 2, {}),
        ("facebatch_part_seconds", 1.5, {"part": "decode"}),
        ("facebatch_moved_bytes", 80, {}),
        ("facebatch_retries", 4, {"kind": "request"}),
        ("facebatch_embed_filled", 7, {}),
        ("facebatch_embed_slots", 32, {}),
    ]


def test_the_readme_has_them_all_and_no_others() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| `ray_facebatch_...`")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
    exported = {f"{name}_total" for name in COUNTERS} | {metrics.PLANNED}
    assert {f"facebatch_{name}" for name in named} == exported
    for name in re.findall(r"ray_(facebatch_\w+)", readme.partition("A Ray that facebatch starts for itself\n")[2]):
        assert name in exported


class Recorded:
    """A counter or gauge that keeps what it is given."""

    made: dict[str, Recorded]
    broken = False

    def __init__(self, name: str, says: str, keys: tuple[str, ...]) -> None:
        self.keys, self.given = keys, [("", 0.0)][:0]
        self.made[name] = self

    def set_default_tags(self, tags: dict[str, str]) -> Recorded:
        self.tags = tags
        return self

    def inc(self, value: float, tags: dict[str, str]) -> None:
        if self.broken:
            raise RuntimeError("out of order")
        assert {*self.tags, *tags} == set(self.keys)
        self.given.append((",".join(tags.values()), value))

    def set(self, value: float) -> None:
        self.given.append(("", value))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorded]:
    found: dict[str, Recorded] = {}
    monkeypatch.setattr(Recorded, "made", found, raising=False)
    monkeypatch.setattr(metrics, "Counter", Recorded)
    monkeypatch.setattr(metrics, "Gauge", Recorded)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_job_id=lambda: "0a000000"))
    return found


def test_each_series_tells_its_run_and_job(made: dict[str, Recorded]) -> None:
    Metrics(3, 60).add(COUNTS)
    assert set(made) == {*COUNTERS, "facebatch_images_planned"}
    assert all(each.tags == {"run": "3", "JobId": "0a000000"} for each in made.values())
    assert made["facebatch_images"].given == [("ok,", 3), ("failed,CORRUPT", 2)]
    assert made["facebatch_images_planned"].given == [("", 60)]


def test_metrics_that_fail_are_told_of_once_and_cost_nothing_else(
    made: dict[str, Recorded], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = Metrics(3, 60)
    monkeypatch.setattr(Recorded, "broken", True)
    with caplog.at_level(logging.WARNING, "facebatch"):
        told.add(COUNTS)
        told.add(COUNTS)
    assert [record.fields for record in caplog.records] == [{"error": "RuntimeError: out of order"}]  # type: ignore[attr-defined]
    assert all(each.given == [] for name, each in made.items() if name != "facebatch_images_planned")


def test_nor_do_those_that_cannot_be_made(
    made: dict[str, Recorded], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(metrics, "Gauge")
    with caplog.at_level(logging.WARNING, "facebatch"):
        Metrics(3, 60).add(COUNTS)
    assert len(caplog.records) == 1
