"""The table of a run on paper."""

from __future__ import annotations

import pytest

from facebatch import config
from facebatch.costs import Measured
from facebatch.outlook import amount, hours, rows
from facebatch.scale import NEGLECTED, Fleet, estimate, fitted
from facebatch.summary import Row
from tests.test_scale import COSTS, MILLION

MEASURED = Measured(MILLION.grown(20), COSTS, "a run of long ago", busy=0.95, left_out=0.8)


def _rows(fleet: Fleet, speedup: float | None = None, measured: Measured = MEASURED) -> dict[str, Row]:
    costs = fitted(measured.costs, fleet, speedup)
    found = estimate(MILLION, fleet, costs, config.Config())
    return {row[0].strip(): row for row in rows(MILLION, fleet, measured, speedup, found)}


def test_it_says_how_long_what_holds_it_back_and_what_it_rests_on() -> None:
    table = _rows(Fleet(nodes=2, cores=5, bandwidth=25e6))
    assert table["images"][1:] == ("1,000,000", "300.0 kB and 0.50 faces each")
    assert table["fleet"][1:] == ("2", "node(s) of 5 cores, each reads 25.0 MB/s")
    assert table["costs"][2] == "a run of long ago"
    assert table["time"][1:] == ("1.7 h", "with all of it busy all the time; longest: reading")
    assert table["cores"][1:] == ("1.0 h", "detect 56 %, decode 25 %, embed 14 %, read 3 %, chip 3 %")
    assert table["reading"][1:] == ("1.7 h", "300.0 GB at 50.0 MB/s")
    assert table["core-hours"][1] == "10"
    assert table["records"][1] == "489"
    assert table["neglected"][2] == NEGLECTED
    assert not {"assumed", "GPUs", "GPU-hours", "price", ""} & set(table)


def test_what_is_not_known_is_said() -> None:
    table = _rows(Fleet(nodes=2, cores=5))
    assert table["reading"][1:] == ("?", "not in the time: say --bandwidth, the bytes a second that a node reads")
    assert table["planning"][1] == "?"
    assert "0.8 s for 20 images are mostly start" in table["planning"][2]


def test_planning_that_was_measured_has_its_own_row() -> None:
    measured = Measured(MILLION, COSTS.__class__(COSTS.image, COSTS.face, COSTS.sizes, False, 1e-4), "", 1.0, None)
    table = _rows(Fleet(nodes=2, cores=5), measured=measured)
    assert table["planning"][1:] == ("1:40", "100.0 microseconds an image, by the driver alone, before all else")


def test_the_speed_of_a_gpu_is_an_assumption() -> None:
    """11,000 seconds of cores and 2,500 of GPUs: 4.4 cores keep up with one, and another feeds it."""
    table = _rows(Fleet(nodes=2, cores=5, gpus=2, gpu_hour=3), speedup=10)
    assert table["assumed"][1] == "10 x"
    assert "not measured" in table["assumed"][2]
    assert table["GPUs"][1:] == ("20:50", "detect 80 %, embed 20 %; 5.4 cores for each keep up with it")
    assert table["cores"][2].endswith("of 10 cores 2 feed the GPUs")
    assert table["price"][1:] == ("2.29", "of the whole fleet for that time; an hour costs 3 a GPU")
    assert "wait for each other" in _rows(Fleet(nodes=1, cores=9, gpus=1), speedup=10)["time"][2]


def test_a_run_whose_workers_idled_is_a_poor_measure() -> None:
    table = _rows(Fleet(), measured=Measured(MILLION, COSTS, "", busy=0.39, left_out=0.8))
    assert table[""][2].startswith("its workers were at work for 39 % of the time")


@pytest.mark.parametrize(
    ("bytes", "words"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e18, "3,000.0 PB")]
)
def test_amounts(bytes: float, words: str) -> None:
    assert amount(bytes) == words


def test_times() -> None:
    assert (hours(90), hours(3600), hours(3.6e6)) == ("1:30", "1.0 h", "1,000.0 h")
