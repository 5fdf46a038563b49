"""How far a run was at which time."""

from __future__ import annotations

import itertools

import pytest

from facebatch.timeline import MOST, Timeline


def _counts(images: int) -> dict[str, int]:
    return {"images": images, "faces": 2 * images, "bytes": 1000 * images, "failed": 1}


def test_points_are_as_far_apart_as_was_said_and_tell_what_was_counted() -> None:
    timeline = Timeline(every=2.0)
    for tenth in range(0, 100):
        if timeline.due(now := 50 + tenth / 10):
            timeline.note(now, _counts(tenth))
    assert timeline.since(49.0) == [
        (0.0, 0, 0, 0),
        *((1.0 + 2 * k, 20 * k, 40 * k, 20_000 * k) for k in range(5)),
    ]


def test_what_was_before_the_first_byte_is_left_out() -> None:
    timeline = Timeline()
    for now in (10.0, 20.0, 30.0):
        timeline.note(now, _counts(int(now)))
    assert [point[:2] for point in timeline.since(20.0)] == [(0.0, 0), (10.0, 30)]
    assert timeline.since(99.0) == []
    assert Timeline().since(0.0) == []


@pytest.mark.parametrize("seconds", [300, 5_000, 700_000])
def test_however_long_a_run_lasts_there_are_few_points_evenly_spread_and_the_last_one_is_the_last(seconds: int) -> None:
    """700,000 seconds are eight days."""
    timeline = Timeline(every=2.0)
    for now in range(1, seconds + 1):
        if timeline.due(now):
            timeline.note(now, _counts(now))
    timeline.note(seconds + 1, _counts(seconds + 1))
    points = timeline.since(0.0)
    assert min(seconds / 2, MOST / 2) <= len(points) <= MOST + 1
    assert points[-1] == (seconds + 1, seconds + 1, 2 * seconds + 2, 1000 * (seconds + 1))
    gaps = [later[0] - one[0] for one, later in itertools.pairwise(points[1:-1])]
    assert max(gaps) == min(gaps), "none is thinned more than the others"
    assert all(point[1] == point[0] for point in points), "each still tells its own moment"
