"""Memory: pixels and blocks are counted in bytes, so that what is large is held alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import encode, rgb
from tests.e2e.conftest import command, table

CEILING = 4 << 30
"""What the README states for two cores. All processes together, Ray and its object store included."""


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory, group: np.ndarray, hopper: bytes) -> Path:
    """Twenty pictures of a hundred megapixels in four forms, and one with three hundred faces."""
    folder = tmp_path_factory.mktemp("heavy")
    large = Image.fromarray(group).resize((13_312, 7_800), Image.Resampling.NEAREST)
    assert large.width * large.height > 100e6
    forms = {
        "jpg": encode(np.asarray(large), "JPEG", quality=90),
        "png": encode(np.asarray(large), "PNG", compress_level=1),
        "tif": encode(np.asarray(large), "TIFF", compression="tiff_lzw"),
    }
    transparent = io.BytesIO()
    large.convert("RGBA").save(transparent, "PNG", compress_level=1)
    forms["rgba.png"] = transparent.getvalue()
    for i in range(5):
        for form, data in forms.items():
            (folder / f"{i}.{form}").write_bytes(data)
    face = Image.fromarray(rgb(hopper)).crop((130, 60, 400, 400)).resize((100, 126))
    crowd = Image.new("RGB", (20 * 105, 15 * 130), (90, 110, 130))
    for i in range(300):
        crowd.paste(face, (i % 20 * 105, i // 20 * 130))
    crowd.save(folder / "crowd.jpg", quality=92)
    return folder


@pytest.mark.parametrize("layout", ["fused", "split"])
def test_twenty_pictures_of_a_hundred_megapixels_and_three_hundred_faces(
    heavy: Path, tmp_path: Path, layout: str
) -> None:
    output = tmp_path / "out"
    done = command("index", "--input", str(heavy), "--output", str(output), f"run.layout={layout}")
    assert done.returncode == 0, done.stderr
    faces = {Path(row["uri"]).name: row["n_faces"] for row in table(output, "images").to_pylist()}
    assert len(faces) == 21
    assert faces.pop("crowd.jpg") >= 295
    assert set(faces.values()) == {4}, "and the same faces in each form"
    record = json.loads((output / "_facebatch" / "runs" / "00001.json").read_text())
    assert 500e6 < record["peak_bytes"] < CEILING
