"""From images to vectors: what the job would give, for one face an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facebatch import config
from facebatch.embed import Embedder
from facebatch.errors import UsageError
from facebatch.evaluation.embedding import Embedded, embed, how_shown
from facebatch.geometry import resize
from facebatch.networks import Networks
from facebatch.packs import CloseUp, Model
from facebatch.session import Session
from facebatch.stages import FusedStage, Place
from facebatch.work import Work
from tests import models
from tests.conftest import encode, rgb

CONFIG = config.load(None, ["detect.score=0.6"])
EMBEDDER = models.embedder()
NETWORKS = Networks(models.bright_squares(), EMBEDDER)
CHIP = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)


def _square(brightness: int = 255) -> bytes:
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[80:160, 80:160] = np.arange(80)[:, None] // 4 + brightness - 20
    return encode(pixels)


def _there(found: list[Embedded | None]) -> list[Embedded]:
    assert all(found)
    return [one for one in found if one]


def test_an_aligned_image_is_the_chip() -> None:
    (one,) = _there(embed([encode(CHIP)], CONFIG, EMBEDDER, "aligned"))
    expected = Embedder(Session(EMBEDDER, "cpu"))([CHIP])
    assert np.abs(one.plain - expected.vectors[0]).max() < 1e-6
    assert one.face.embedding_norm == pytest.approx(float(expected.norms[0]))
    assert one.face.box.tolist() == [0, 0, 112, 112]


def test_an_aligned_image_of_another_shape_is_stretched() -> None:
    narrow = CHIP[:, :92]
    (one,) = _there(embed([encode(narrow)], CONFIG, EMBEDDER, "aligned"))
    chip, _, _ = resize([np.ascontiguousarray(narrow)], 112, 112)
    assert np.abs(one.plain - Embedder(Session(EMBEDDER, "cpu"))([chip]).vectors[0]).max() < 1e-6


def test_the_quality_of_an_aligned_image_is_that_of_its_pixels_and_its_shorter_side() -> None:
    small = np.ascontiguousarray(CHIP[:40, :28])
    large, tiny = _there(embed([encode(CHIP), encode(small)], CONFIG, EMBEDDER, "aligned"))
    assert large.face.quality is not None
    assert tiny.face.quality is not None
    assert large.face.quality.reasons == ()
    assert tiny.face.quality.reasons == ("SMALL_BOUNDING_BOX",)
    assert tiny.face.quality.quality < large.face.quality.quality == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_both_vectors_come_at_once_and_are_those_of_the_job(flip: bool) -> None:
    settings = replace(CONFIG, embed=replace(CONFIG.embed, flip=flip))
    (one,) = _there(embed([_square()], settings, NETWORKS, "photos"))
    data = _square()
    (work,) = FusedStage(settings, NETWORKS, Place())([Work("shard", 0, "a.png", "", len(data), data=data)])
    expected = work.faces[0]
    assert expected.embedding is not None
    assert one.face.embedding is not None
    assert np.abs((one.flipped if flip else one.plain) - expected.embedding).max() < 1e-6
    assert np.abs(one.face.embedding - expected.embedding).max() < 1e-6
    assert one.face.embedding_norm == pytest.approx(expected.embedding_norm, rel=1e-5)
    assert np.abs(one.plain - one.flipped).max() > 1e-3
    assert one.face.quality == expected.quality
    assert one.face.box.tolist() == expected.box.tolist() == [80, 80, 160, 160]


@pytest.mark.parametrize(("brightness", "box"), [(200, [0, 0, 160, 160]), (50, [240, 160, 320, 240])])
def test_of_several_faces_the_one_largest_in_area_times_score_is_taken(brightness: int, box: list[int]) -> None:
    detector = models.bright_squares(close_up=CloseUp(((64, 48),), 0.5, 0.4))
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[:160, :160] = brightness
    pixels[160:, 240:] = 255
    settings = config.load(None, ["detect.score=0.15"])
    (one,) = _there(embed([encode(pixels)], settings, Networks(detector, EMBEDDER), "photos"))
    assert one.face.box.tolist() == box


def test_images_without_a_vector_leave_a_gap_and_are_told_by_reason(tmp_path: Path) -> None:
    (tmp_path / "black.png").write_bytes(_square(20))
    told: list[str] = []
    images: list[str | bytes] = [_square(), str(tmp_path / "black.png"), b"no image", _square(230)]
    found = embed(images, CONFIG, NETWORKS, "photos", tell=told.append)
    assert [one is not None for one in found] == [True, False, False, True]
    assert told == [
        f"1 of 4 images have no vector (no face was found): {tmp_path / 'black.png'}",
        "1 of 4 images have no vector (NOT_AN_IMAGE): image 3",
    ]
    assert embed([b"no image"], CONFIG, EMBEDDER, "aligned") == [None]


def test_batches_do_not_change_vectors() -> None:
    images = [_square(brightness) for brightness in (255, 20, 250, 240, 230)]
    alone = config.load(None, ["detect.score=0.6", "run.batch=2"])
    for a, b in zip(embed(images, CONFIG, NETWORKS, "photos"), embed(images, alone, NETWORKS, "photos"), strict=True):
        assert (a is None) == (b is None)
        if a and b:
            assert np.abs(a.flipped - b.flipped).max() < 1e-6


def test_a_border_surrounds_a_photo_by_a_share_of_its_longer_side() -> None:
    white = encode(np.full((80, 160, 3), 255, np.uint8))
    (one,) = _there(embed([white], CONFIG, NETWORKS, "photos", pad=0.5))
    # 320 x 240 then, white from (80, 80) to (240, 160): of the cells of 80 x 80 two are white, the first is taken
    assert one.face.box.tolist() in ([80, 80, 160, 160], [160, 80, 240, 160])
    assert one.face.score == pytest.approx(1)


def test_a_file_that_cannot_be_decoded_has_no_border_but_its_reason() -> None:
    told: list[str] = []
    assert embed([_square()[:200]], CONFIG, NETWORKS, "photos", pad=0.5, tell=told.append) == [None]
    assert "TRUNCATED" in told[0]


@pytest.mark.parametrize(("shape", "how"), [((128, 112), "aligned"), ((112, 92), "aligned"), ((60, 129), "photos")])
def test_an_image_of_at_most_128_pixels_is_taken_for_a_chip(shape: tuple[int, int], how: str) -> None:
    assert how_shown(encode(np.zeros((*shape, 3), np.uint8)), CONFIG.decode) == how


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone.png cannot be read: No such file"):
        embed([str(tmp_path / "gone.png")], CONFIG, EMBEDDER, "aligned")
    with pytest.raises(UsageError, match="photos need a detector, and there is only test"):
        embed([], CONFIG, EMBEDDER, "photos")
    with pytest.raises(UsageError, match="a border of -1 .*expected 0 or more"):
        embed([], CONFIG, NETWORKS, "photos", pad=-1)
    with pytest.raises(UsageError, match="image 1 is no image that can be read"):
        how_shown(b"text", CONFIG.decode)


@pytest.mark.needs_models
def test_two_photographs_of_one_woman_are_alike_and_of_two_are_not(
    astronaut: bytes, hopper: bytes, model: Callable[[str, str], Model]
) -> None:
    networks = Networks(model("yunet-n", "detector"), model("edgeface-xs", "embedder"))
    smaller = encode(rgb(astronaut)[::2, ::2])
    first, second, other = _there(embed([astronaut, smaller, hopper], config.load(), networks, "photos"))
    assert first.plain @ second.plain > 0.8
    assert abs(first.plain @ other.plain) < 0.3


@pytest.mark.needs_models
def test_chips_by_the_box_ignore_the_landmarks_of_a_detector(
    astronaut: bytes, model: Callable[[str, str], Model]
) -> None:
    networks = Networks(model("yunet-n", "detector"), model("edgeface-xs", "embedder"))
    (by_points,) = _there(embed([astronaut], config.load(), networks, "photos"))
    (by_box,) = _there(embed([astronaut], config.load(), networks, "photos", align="box"))
    assert by_points.face.landmarks is not None
    assert by_box.face.landmarks is None
    assert by_box.face.quality is not None
    assert by_box.face.quality.pose is None
    assert 0.2 < by_points.plain @ by_box.plain < 0.98
