"""What a measurement says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from facebatch.bench import report
from facebatch.bench.archive import Archive, Photo
from facebatch.bench.contest import Lap, Standing, Told
from facebatch.bench.growth import Size
from facebatch.errors import UsageError

ARCHIVE = Archive(Path("a"), 10, (Photo(Path("b"), 500, 2_000_000),))


def _lap(seconds: float, faces: int = 3, **spent: float) -> Lap:
    return Lap(Told(10, faces, seconds, spent, 5_000_000), 2 * seconds, 3 * seconds, 3 << 30, 200 << 20)


NOT_TOLD = Standing("rival", (replace(_lap(2.0), told=Told(10, 3, 2.0)),))
FLOOR = Standing("floor", (_lap(1.0, decode=0.5, detect=0.3), _lap(1.2, decode=0.6), _lap(0.8)))
OURS = Standing("facebatch", (_lap(1.25, decode=0.6, write=0.01),) * 3)


def test_a_row_for_each_contestant_with_its_share_of_the_floor() -> None:
    assert list(report.rows([FLOOR, OURS, NOT_TOLD])) == [
        ["floor", "10.0", "100 %", "5.0", "3.0", "1.50", "3.00", "5"],
        ["facebatch", "8.0", "80 %", "4.0", "2.4", "1.50", "3.00", "5"],
        ["rival", "5.0", "50 %", "2.5", "1.5", "1.50", "3.00", ""],
    ]


def test_on_gpus_it_tells_how_busy_they_were() -> None:
    busy = Standing("facebatch", tuple(replace(OURS.laps[0], gpu_busy=share) for share in (0.7, 0.9, 0.8)))
    assert report.titles([FLOOR, OURS])[-1] == "moved MB"
    assert report.titles([FLOOR, busy])[-2:] == ["moved MB", "GPU busy"]
    assert [row[-1] for row in report.rows([FLOOR, busy])] == ["", "80 %"]


def test_parts_are_milliseconds_of_an_image_in_the_order_in_which_it_meets_them() -> None:
    assert report.part_titles([FLOOR, OURS]) == ["ms of a core", "decode", "detect", "write"]
    assert list(report.part_rows([FLOOR, OURS])) == [
        ["floor", "50.00", "30.00", "0.00"],
        ["facebatch", "60.00", "0.00", "1.00"],
    ]


def test_a_comparison_of_unequal_work_is_none() -> None:
    assert report.check([FLOOR, OURS, Standing("rival", (_lap(1, faces=99),))]) is None
    wrong = replace(OURS, laps=(_lap(1.0, faces=4), _lap(1.0)))
    assert report.check([FLOOR, wrong]) == "the work was not equal, faces: floor 3, facebatch 3 or 4"
    fewer = Standing("facebatch", (replace(_lap(1.0), told=Told(9, 3, 1.0)),))
    assert report.check([FLOOR, fewer]) == "the work was not equal, images: floor 10, facebatch 9"


def test_figures_come_with_hardware_command_and_date(tmp_path: Path) -> None:
    files = report.write(tmp_path / "out", ["facebatch", "bench"], ["detect.pack=x"], ARCHIVE, [FLOOR, OURS], ["A100"])
    assert [file.name for file in files] == ["bench.json", "bench.png"]
    facts = json.loads(files[0].read_text())
    assert (facts["command"], facts["settings"]) == ("facebatch bench", ["detect.pack=x"])
    assert facts["of_floor"] == {"floor": 1, "facebatch": 0.8}
    assert facts["hardware"]["cores"] >= 1
    assert facts["hardware"]["processor"]
    assert facts["hardware"]["gpus"] == ["A100"]
    assert facts["date"][:2] == "20"
    assert facts["archive"] == {"images": 10, "photos": 1, "megabytes": 0.0, "megapixels_an_image": 2.0}
    assert len(facts["contestants"]["facebatch"]) == 3
    assert files[1].read_bytes()[:4] == b"\x89PNG"


def test_growth_is_a_row_for_each_size(tmp_path: Path) -> None:
    again = Lap(Told(0, 3, 0.0), 4.0, 3.0, 1 << 30, 100 << 20)
    sizes = [Size(10, _lap(1.0), 0.5, again), Size(1000, replace(_lap(110.0)), 1.5, again)]
    assert list(report.grown_rows(sizes)) == [
        ["10", "100.00", "0.5", "4.0", "200", "3.00"],
        ["1,000", "110.00", "1.5", "4.0", "200", "3.00"],
    ]
    files = report.write_growth(tmp_path, ["facebatch"], [], sizes)
    assert [file.name for file in files] == ["growth.json", "growth.png"]
    assert json.loads(files[0].read_text())["sizes"][1]["milliseconds_an_image"] == 110


def test_a_place_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        report.write(tmp_path / "file", [], [], ARCHIVE, [FLOOR, OURS])
