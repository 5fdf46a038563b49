"""The test archive's odd formats, file by file: what becomes of each, and that a face in it is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facebatch import config
from facebatch.networks import Networks
from facebatch.packs import Model
from facebatch.reasons import QualityReason, Reason
from facebatch.stages import DecodeStage, FusedStage, Place
from facebatch.work import Work
from tests.models import bright_squares

CLASSES = ("odd_format", "odd_format_face", "exif_orientation")
Rows = list[dict[str, str]]

NOT_DECODED = {
    "NullPointerException.HeifPictureHandler.processBox.heif": Reason.TRUNCATED,
    "IllegalArgumentException.HeifReader.processBoxes.heif": Reason.CORRUPT,
    "NegativeArraySizeException.HeifReader.processBoxes.heif": Reason.CORRUPT,
    "NegativeArraySizeException.ItemInfoBox.init.heif": Reason.CORRUPT,
    "shortfile.bmp": Reason.TRUNCATED,
    "badheadersize.bmp": Reason.NOT_AN_IMAGE,
    "badbitcount.bmp": Reason.UNSUPPORTED_FORMAT,
    "badpalettesize.bmp": Reason.UNSUPPORTED_FORMAT,
    "rgb16-880.bmp": Reason.UNSUPPORTED_FORMAT,
    "hopper_webp.tif": Reason.UNSUPPORTED_FORMAT,
    "badwidth.bmp": Reason.TOO_MANY_PIXELS,
    "reallybig.bmp": Reason.TOO_MANY_PIXELS,
    "l2rgb_read.bmp": Reason.SIDE_TOO_LONG,
}
"""All but rgb16-880.bmp (8-bit RGB in 16 bits, which Pillow does not know) and hopper_webp.tif (which its libtiff was
built without) are damaged on purpose."""

FRAMES = {
    **{"star.avifs": 5, "dispose_bgnd.gif": 5, "Animation Lossy.webp": 101, "multipage.tiff": 3},
    **{"frozenpond.mpo": 2, "sugarshack.mpo": 2},
}
"""Every other one of these files holds one."""

NO_FACE = {
    "hopper_mask.ico": "a mask of 16 pixels",
    "hopper_mask.png": "a mask of 16 pixels",
    "hopper_rle8_grayscale.bmp": "a ramp of greys, 256x10",
    "hopper_g4.tif": "one bit a pixel, at 128 pixels",
    "hopper_webp.tif": "not decoded",
}

FLAGGED = ("hopper.ico", "hopper_draw.ico", "hopper_unexpected.ico")
"""16 pixels: the detector finds the face, the vector is nobody's, and `quality_reasons` says that it is too small."""

LOSSLESS = {"hopper_lzma.tif": 0.999, "hopper_lzw.tif": 0.999}
"""Copies of hopper.png, pixel by pixel. hopper-XYZ.png and hopper_webp.png are lossless too, but of other pixels."""

SAME_PICTURE = {
    **{"hopper.gif": 0.98, "hopper_zero_comment_subblocks.gif": 0.98, "hopper_rle8.bmp": 0.98},
    **{"hopper_rle8_row_overflow.bmp": 0.98, "hopper_jpg.tif": 0.99, "hopper.jpg": 0.99, "hopper-XYZ.png": 0.96},
    **{"hopper_webp.png": 0.96, "hopper.webp": 0.96, "hopper_8bit.pgm": 0.96, "hopper_16bit.pgm": 0.96},
    **{"hopper_gray.jpg": 0.96, "hopper_45.png": 0.92, "hopper_gray_4bpp.tif": 0.8, "hopper_bw_500.png": 0.8},
    **{"hopper_g4_500.tif": 0.8, "hopper_wal.png": 0.7, "hopper_resized.gif": 0.7, "hopper_16bit_qtables.jpg": 0.6},
    **{f"hopper_orientation_{turn}.{name}": 0.94 for turn in range(2, 9) for name in ("jpg", "webp")},
}
"""Palettes, greys, a turn by 45 degrees, few levels, one bit, half the size, coarse JPEG: the same person at least."""


def _works(archive: Path, rows: Rows) -> list[Work]:
    return [
        Work("shard", i, row["path"], "", int(row["bytes"]), data=(archive / row["path"]).read_bytes())
        for i, row in enumerate(rows)
    ]


def _name(work: Work) -> str:
    return work.uri.split("/")[-1]


def test_every_odd_format_is_decoded_or_has_a_reason_that_a_user_can_act_on(archive: Path, manifest: Rows) -> None:
    rows = [row for row in manifest if row["cls"] in CLASSES]
    works = DecodeStage(config.Config(), bright_squares().pack, Place())(_works(archive, rows))
    for work in works:
        size = f"{work.width}x{work.height}" if work.width else "-"
        outcome = f"{work.reason}: {work.detail}" if work.reason else "decoded"
        print(f"{_name(work):60} {work.format or '-':8} {size:10} {work.frames or '-':4} {outcome}")
    assert {_name(work): work.reason for work in works if work.reason} == NOT_DECODED
    assert {_name(work): work.frames for work in works if not work.reason and work.frames != 1} == FRAMES
    assert all(work.detail for work in works if work.reason)
    assert len(works) == 117


@pytest.mark.needs_models
def test_grace_hopper_is_found_in_every_format(
    archive: Path, manifest: Rows, model: Callable[[str, str], Model]
) -> None:
    rows = [row for row in manifest if row["cls"] == "odd_format_face"]
    stage = FusedStage(
        config.Config(), Networks(model("yunet-n", "detector"), model("edgeface-xs", "embedder")), Place()
    )
    works = {_name(work): work for work in stage(_works(archive, rows))}
    assert len(works) == 44
    faces = {name: len(work.faces) for name, work in works.items()}
    print(faces)
    own = _vector(works["hopper.png"])
    cosines = {name: round(float(own @ _vector(work)), 3) for name, work in works.items() if work.faces}
    print(cosines)
    assert {name for name, count in faces.items() if count == 0} == set(NO_FACE)
    assert {name for name, count in faces.items() if count > 1} == set()
    assert set(cosines) == {*LOSSLESS, *SAME_PICTURE, *FLAGGED, "hopper.png"}
    low = {name: cosines[name] for name, bar in (LOSSLESS | SAME_PICTURE).items() if cosines[name] < bar}
    assert low == {}
    for name in FLAGGED:
        quality = works[name].faces[0].quality
        assert quality is not None
        assert QualityReason.SMALL_BOUNDING_BOX in quality.reasons


def _vector(work: Work) -> np.ndarray:
    vector = work.faces[0].embedding
    assert vector is not None
    return vector
