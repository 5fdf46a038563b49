"""What an evaluation of detectors leaves: the table, the figures, the plots, and the sheets to look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facebatch import config, packs
from facebatch.detect import Settings
from facebatch.errors import FacebatchError
from facebatch.evaluation.detecting import OURS, PUBLISHED, Data, Entry, Measured, Result
from facebatch.evaluation.precision import Found, Rule, by_size, curve
from facebatch.evaluation.showing import table, write
from facebatch.evaluation.truth import Truth


@pytest.fixture
def data(tmp_path: Path, astronaut: bytes) -> Data:
    file = tmp_path / "a.png"
    file.write_bytes(astronaut)
    boxes = np.array([[177, 56, 275, 178], [300, 300, 310, 310]], np.float32)
    return Data("made up", [Truth(str(file), boxes, np.zeros(2, np.bool_), "a")])


def _result(data: Data, setting: str, milliseconds: float) -> Result:
    """One face found, one missed, one false alarm."""
    pack = packs.pack("slim-320")
    found = [Found(np.array([[178, 57, 274, 177], [20, 20, 60, 60]], np.float32), np.array([0.9, 0.8], np.float32))]
    measured = Measured(Entry(pack), setting, Settings.of(config.Detect(), pack), found, milliseconds, [])
    judged = curve(data.truths, found)
    return Result(measured, judged, by_size(data.truths, found), {"easy": judged})


@pytest.fixture
def results(data: Data) -> list[dict[str, Result]]:
    return [{PUBLISHED: _result(data, PUBLISHED, 4.4), OURS: _result(data, OURS, 14.6)}]


def test_the_table_has_both_settings_and_ours_in_detail(results: list[dict[str, Result]]) -> None:
    titles, rows = table(results, ["easy"])
    (row,) = rows
    cells = dict(zip(titles, row, strict=True))
    assert cells["AP published"] == cells["AP ours"] == cells["recall"] == cells["easy ours"] == "0.500"
    assert (cells["small"], cells["medium"], cells["large"]) == ("0.000", "-", "1.000")
    assert (cells["best F1"], cells["at score"]) == ("0.667", "0.90")
    assert (cells["ms published"], cells["ms ours"]) == ("4", "15")
    assert table(results)[0][-1] == "ms ours"
    assert "easy ours" not in table(results)[0]


def test_all_files_are_written_and_can_be_read(data: Data, results: list[dict[str, Result]], tmp_path: Path) -> None:
    files = write(tmp_path / "new" / "folder", data, results, "plain", Rule(), ["eval", "detection"])
    name = "ultra-lightweight-face-detection-slim-320"
    assert [file.name for file in files] == [
        "detection.json",
        "detection-precision-recall.png",
        "detection-plane.png",
        f"misses-{name}.png",
        f"alarms-{name}.png",
    ]
    for file in files[1:]:
        with Image.open(file) as image:
            assert min(image.size) > 100
    record = json.loads(files[0].read_text())
    ours = record["detectors"][name]["ours"]
    assert (ours["ap"], ours["recall"], ours["truths"], ours["milliseconds"]) == (0.5, 0.5, 2, 14.6)
    assert ours["sizes"]["medium"]["ap"] is None, "no number in JSON stands for none"
    assert record["command"] == ["eval", "detection"]
    assert record["images"] == 1
    assert record["rule"]["max_height"] is None
    assert "numpy" in record["versions"]


def test_a_folder_that_cannot_be_written_to_is_named(
    data: Data, results: list[dict[str, Result]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FacebatchError, match="the evaluation cannot be written to .*file"):
        write(tmp_path / "file", data, results, "plain", Rule(), [])
