"""Measurements from end to end, on few images: that they are made, and of equal work. Not how fast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import command


def test_floor_facebatch_and_a_rival_are_measured_side_by_side(tmp_path: Path) -> None:
    words = ("--images", "6", "--rounds", "1", "--rival", "ray-data", "--output", str(tmp_path / "bench"))
    done = command("bench", *words)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "bench" / "bench.json").read_text())
    laps = {name: lap["told"] for name, (lap,) in facts["contestants"].items()}
    assert {name: told["images"] for name, told in laps.items()} == {"floor": 6, "facebatch": 6, "ray-data": 6}
    assert laps["floor"]["faces"] == laps["facebatch"]["faces"] > 0
    assert {"read", "decode", "detect", "chip", "embed", "pack", "write"} <= set(laps["facebatch"]["spent"])
    assert (tmp_path / "bench" / "bench.png").stat().st_size > 1000
    assert [line.split()[0] for line in done.stdout.splitlines()[1:4]] == ["floor", "facebatch", "ray-data"]


def test_growing_archives_are_indexed_and_then_found_done(tmp_path: Path) -> None:
    """Also with settings that name an archive and a dataset of the user's, which stay as they are."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"inputs: [{tmp_path}]\noutput: {tmp_path / 'dataset'}\n")
    words = ("--growth", "4", "--growth", "7", "--config", str(mine), "--output", str(tmp_path / "bench"))
    done = command("bench", *words)
    assert done.returncode == 0, done.stderr
    sizes = json.loads((tmp_path / "bench" / "growth.json").read_text())["sizes"]
    assert [size["images"] for size in sizes] == [4, 7]
    assert [size["first"]["told"]["images"] for size in sizes] == [4, 7]
    assert all(size["first"]["own_bytes"] > 50e6 for size in sizes)
    assert not (tmp_path / "dataset").exists()


@pytest.mark.needs_models
def test_a_detector_without_landmarks_and_the_obvious_script_do_not_go_together(tmp_path: Path) -> None:
    done = command("bench", "--images", "6", "--rival", "ray-data", "detect.pack=slim-320", "embed.pack=edgeface-xs")
    assert done.returncode == 2
    assert "the obvious script has no landmark network: add landmarks=none" in done.stderr
