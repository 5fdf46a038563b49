"""Landmarks for boxes: which part of the picture a network sees, and where its points lie in the picture."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from facebatch import config, packs
from facebatch.align import TEMPLATE
from facebatch.decode import decode, probe
from facebatch.detect import Detector, Settings, views
from facebatch.errors import FacebatchError
from facebatch.geometry import Picture, halvings
from facebatch.landmarks import Landmarker, crop, window
from facebatch.packs import Model
from facebatch.session import Session
from tests import models

NETS = ["landmarks-regression-retail-0009", "onet"]
GOLDEN = {
    NETS[0]: [204.916, 99.896, 246.520, 102.059, 224.942, 126.530, 202.731, 138.667, 245.014, 141.095],
    NETS[1]: [203.934, 101.096, 247.274, 103.391, 225.563, 128.258, 202.184, 139.694, 245.735, 142.335],
}
"""Of the astronaut."""
BOX, SQUARE = models.landmarks(), models.landmarks(crop="square")


def _picture(pixels: np.ndarray, scale: int = 1) -> Picture:
    return Picture(halvings(pixels), pixels.shape[1] * scale, pixels.shape[0] * scale, scale)


def test_a_network_sees_the_box_or_the_square_around_it() -> None:
    box = np.array([10, 20, 50, 80], np.float32)
    assert window(BOX.pack, box) == (10, 20, 40, 60)
    assert window(SQUARE.pack, box) == (0, 20, 60, 60)


def test_a_crop_is_its_part_of_the_picture_and_black_outside() -> None:
    pixels = np.zeros((96, 96, 3), np.uint8)
    pixels[:48, :48] = (255, 0, 0)
    pixels[48:, 48:] = (0, 0, 255)
    quarter = crop(_picture(pixels), np.array([0, 0, 48, 48], np.float32), BOX.pack)
    assert quarter.shape == (48, 48, 3)
    assert (quarter == (255, 0, 0)).all()
    beyond = crop(_picture(pixels), np.array([48, 48, 144, 144], np.float32), BOX.pack)
    assert (beyond[:23, :23] == (0, 0, 255)).all()
    assert not beyond[25:, 25:].any()
    scaled = crop(_picture(pixels, scale=4), np.array([0, 0, 192, 192], np.float32), BOX.pack)
    assert np.array_equal(scaled, quarter), "boxes are in full-size pixels, whatever scale was decoded"


def test_points_come_in_pixels_of_the_picture() -> None:
    box = np.array([100, 200, 140, 260], np.float32)
    dark = np.zeros((48, 48, 3), np.uint8)
    (points,) = Landmarker(Session(BOX, "cpu"))([dark], [box])
    assert points.dtype == np.float32
    assert np.allclose(points, TEMPLATE / 112 * [40, 60] + [100, 200], atol=1e-4)
    (points,) = Landmarker(Session(SQUARE, "cpu"))([dark], [box])
    assert np.allclose(points, TEMPLATE / 112 * [60, 60] + [90, 200], atol=1e-4)


def test_each_crop_of_many_gets_its_own_points() -> None:
    """75 crops are three batches; the network moves its points by the brightness."""
    crops = [np.full((48, 48, 3), level, np.uint8) for level in range(0, 225, 3)]
    boxes = [np.array([0, 0, 100, 100], np.float32)] * len(crops)
    found = Landmarker(Session(BOX, "cpu"))(crops, boxes)
    moved = [float((points - TEMPLATE / 112 * 100).mean()) for points in found]
    assert np.allclose(moved, [10 * level / 255 for level in range(0, 225, 3)], atol=1e-3)
    assert Landmarker(Session(BOX, "cpu"))([], []) == []


def test_a_network_of_another_kind_is_refused() -> None:
    with pytest.raises(FacebatchError, match=r"test gives points \(2, 8\) for 2 crops; five points each were expected"):
        Landmarker(Session(models.landmarks(numbers=8), "cpu"))([np.zeros((48, 48, 3), np.uint8)] * 2, [])


@pytest.mark.needs_models
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("turned", [0, 20, -20])
def test_published_networks_find_the_points_that_a_detector_finds(
    model: Callable[[str, str], Model], group: np.ndarray, name: str, turned: int
) -> None:
    """Within a fifteenth of the distance of the eyes on average, a sixth at worst (a face of 40 pixels)."""
    height, width, _ = group.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turned, 1.0)
    pixels = cv2.warpAffine(group, matrix, (width, height))
    picture = _picture(np.asarray(pixels, np.uint8))
    scrfd, net = model("scrfd-2.5g", "detector"), model(name, "landmarks")
    settings = Settings.of(config.Detect(), scrfd.pack)
    (faces,) = Detector(Session(scrfd, "cpu"), settings)([views(picture, settings)], [(width, height)])
    assert len(faces) >= 3
    assert faces.landmarks is not None
    crops = [crop(picture, box, net.pack) for box in faces.boxes]
    found = np.stack(Landmarker(Session(net, "cpu"))(crops, list(faces.boxes)))
    eyes = np.linalg.norm(faces.landmarks[:, 1] - faces.landmarks[:, 0], axis=1)
    errors = np.linalg.norm(faces.landmarks - found, axis=2).mean(axis=1) / eyes
    assert np.median(errors) < 0.07, errors
    assert errors.max() < 0.2, errors


@pytest.mark.needs_models
@pytest.mark.parametrize("name", NETS)
def test_published_networks_are_fed_as_their_authors_do(
    model: Callable[[str, str], Model], astronaut: bytes, name: str
) -> None:
    """Golden points. Red after another colour order, scale, crop or resampling."""
    picture = decode(astronaut, probe(astronaut, config.Decode()), config.Decode())
    net, box = model(name, "landmarks"), np.array([181.340, 53.765, 273.802, 178.082], np.float32)
    (points,) = Landmarker(Session(net, "cpu"))([crop(picture, box, net.pack)], [box])
    assert points.ravel().tolist() == pytest.approx(GOLDEN[name], abs=0.05)


def test_every_landmark_pack_says_what_it_wants_to_see() -> None:
    nets = {name: pack for name, pack in packs.packs().items() if pack.kind == "landmarks"}
    assert {name: pack.crop for name, pack in nets.items()} == dict(zip(NETS, ("box", "square"), strict=True))
    assert all(pack.input.canvases == ((48, 48),) for pack in nets.values())
