"""Metrics for Prometheus: what the desk counts, by Ray's own exporter.

Ray 2.60 (measured): a process hands its values to the agent of its node every `metrics_report_interval_ms` (10 s), and
once more when it ends, also when its driver was killed. The agent shows counters for as long as the node lives, and
gauges for two intervals. So a run need not stay until somebody has fetched its last values. Names get `ray_` in front
and counters `_total` behind. A value costs the desk 2.4 microseconds, a batch ten of them; on a Ray of our own, which
exports nothing (`facebatch.pipeline.cluster`), too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from logging import WARNING
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from facebatch import logs

_ALL = ("run", "JobId")
"""Labels of every series: the number of the run in its dataset, and the job as Ray's dashboard calls it. Names of
datasets are none: they would be a series each, and may be nobody's business."""
PLANNED = "facebatch_images_planned"
IMAGES, SECONDS, RETRIES = "facebatch_images", "facebatch_part_seconds", "facebatch_retries"
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    IMAGES: ("Images committed, by status and reason; the reason is empty where there is none", ("status", "reason")),
    "facebatch_faces": ("Faces committed", ()),
    "facebatch_image_bytes": ("Bytes of the images committed, as in size_bytes", ()),
    "facebatch_commits": ("Commits", ()),
    SECONDS: ("Seconds that all workers together spent in a part of the work", ("part",)),
    "facebatch_moved_bytes": ("Bytes that went through Ray's object store", ()),
    RETRIES: (
        "Actors started again (worker), images tried apart after a death (suspect), requests to storage that facebatch "
        "sent again (request)",
        ("kind",),
    ),
    "facebatch_embed_filled": ("Chips that the embedder was given", ()),
    "facebatch_embed_slots": ("Chips that it could have been given in as many calls", ()),
}
"""What each counter says, and its labels."""
_PLAIN = {
    "committed_faces": "facebatch_faces",
    "committed_bytes": "facebatch_image_bytes",
    "commits": "facebatch_commits",
    "moved": "facebatch_moved_bytes",
    "embed_filled": "facebatch_embed_filled",
    "embed_slots": "facebatch_embed_slots",
}
Point = tuple[str, float, dict[str, str]]
"""A counter, what is added to it, and its labels."""


def points(counts: Mapping[str, int]) -> Iterator[Point]:
    """What counts of a batch add to which counters. Other counts, and what is nothing, are passed over."""
    for key, n in counts.items():
        if n <= 0:  # counters refuse what would not count up
            continue
        if key.startswith("committed/"):
            _, status, reason = key.split("/")
            yield IMAGES, n, {"status": status, "reason": reason}
        elif key.startswith("retries/"):
            yield RETRIES, n, {"kind": key.removeprefix("retries/")}
        elif key.endswith("_us"):
            yield SECONDS, n / 1e6, {"part": key.removesuffix("_us")}
        elif key in _PLAIN:
            yield _PLAIN[key], n, {}


class Metrics:
    """The counters of a run, in the process that holds them. Whatever becomes of them, the run goes on: the first error
    is logged, and they are left as they are.

    planned: images that the run is to commit, as far as that is known.
    """

    def __init__(self, run: int, planned: int) -> None:
        self._counters: dict[str, Any] = {}
        try:
            labels = {"run": str(run), "JobId": ray.get_runtime_context().get_job_id()}
            for name, (says, keys) in COUNTERS.items():
                self._counters[name] = Counter(name, says, (*_ALL, *keys)).set_default_tags(labels)
            self._planned = Gauge(PLANNED, "Images that the run is to commit", _ALL).set_default_tags(labels)
            self._planned.set(planned)
        except Exception as error:  # noqa: BLE001 - a library beside the run, whose errors are of any kind
            self._give_up(error)

    def add(self, counts: Mapping[str, int]) -> None:
        if not self._counters:
            return
        try:
            for name, value, labels in points(counts):
                self._counters[name].inc(value, labels)
        except Exception as error:  # noqa: BLE001 - as above
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._counters = {}
        logs.event("no_metrics", "this run has no more metrics", WARNING, error=f"{type(error).__name__}: {error}")
