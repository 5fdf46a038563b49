"""How fast a network learns."""

from __future__ import annotations

import pytest

from facebatch.training.schedule import Schedule

pytestmark = pytest.mark.reference

HUNDRED = Schedule(steps=100, peak=2.0, rise=10, fall=0.25)


def test_the_rate_rises_to_the_peak_stays_and_falls() -> None:
    assert [HUNDRED.rate(k) for k in (0, 4, 9)] == pytest.approx([0.2, 1.0, 2.0])
    assert {HUNDRED.rate(k) for k in range(10, 75)} == {2.0}
    falling = [HUNDRED.rate(k) for k in range(75, 101)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == 2.0
    assert falling[-1] == 0.0


def test_it_falls_as_one_less_the_root() -> None:
    """A quarter of the way down half of it is gone."""
    long = Schedule(steps=400, peak=2.0, rise=10, fall=0.25)
    assert long.rate(325) == pytest.approx(1.0)


def test_more_steps_change_nothing_of_the_rates_until_the_fall() -> None:
    longer = Schedule(steps=200, peak=2.0, rise=10, fall=0.25)
    assert [longer.rate(k) for k in range(75)] == [HUNDRED.rate(k) for k in range(75)]
    assert (HUNDRED.steady_until, longer.steady_until) == (75, 150)


def test_without_a_fall_it_stays() -> None:
    level = Schedule(steps=50, peak=2.0, rise=0, fall=0.0)
    assert {level.rate(k) for k in range(50)} == {2.0}
