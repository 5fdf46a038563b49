"""What landmarks are worth, for detectors with and without their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facebatch import config, packs
from facebatch.evaluation.alignment import landmark_table
from facebatch.packs import Model
from tests import models
from tests.conftest import SHARED, encode

LANDMARKS = ["landmarks-regression-retail-0009", "onet"]


def test_each_detector_is_judged_on_the_pairs_that_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Model] = {
        "detector": models.bright_squares(),
        "embedder": models.embedder(),
        "landmarks": models.landmarks(),
    }
    monkeypatch.setattr(packs, "load", lambda name, kind, weights=None: made[kind])
    for name, brightness in (("ann/0", 255), ("ann/1", 0), ("bob/0", 240), ("bob/1", 230)):
        pixels = np.zeros((240, 320, 3), np.uint8)
        pixels[80:160, 80:160] = brightness
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(encode(pixels))
    rows = landmark_table(tmp_path, config.load(None, ["detect.score=0.6"]), ["squares"], "test", pad=0)
    assert [(row.detector, row.alignment) for row in rows] == [("squares", way) for way in ("box", *LANDMARKS)]
    assert all((row.found, row.images, row.same, row.different) == (3, 4, 1, 2) for row in rows)
    assert all(np.isnan(row.tar) for row in rows), "two different pairs cannot show a FAR of 1e-3"


@pytest.mark.needs_models
def test_landmarks_tell_hard_faces_apart_where_boxes_do_not(tmp_path: Path) -> None:
    celebrities = SHARED / "data/eval/verification/celeb_glint24/datasets/celebrity_images"
    if not celebrities.is_dir():
        pytest.skip("needs the verification sets, which are not part of the repository")
    for name in ("Barack Obama", "Kate Winslet", "Tina Fey"):
        (tmp_path / name).mkdir()
        for file in (celebrities / name).iterdir():
            (tmp_path / name / file.name).symlink_to(file)
    rows = landmark_table(tmp_path, config.load(), ["yunet-n"], "edgeface-xs")
    tars = {row.alignment: row.tar for row in rows}
    assert list(tars) == ["box", *LANDMARKS, "own"]
    assert all((row.found, row.same, row.different) == (60, 570, 1200) for row in rows)
    assert min(tars[way] for way in (*LANDMARKS, "own")) > tars["box"] + 0.1
