"""Embedding: unit vectors, the same whatever is embedded beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from facebatch import config, tally
from facebatch.align import chip_by_landmarks
from facebatch.decode import decode, probe
from facebatch.detect import Detector, Settings, views
from facebatch.embed import Embedder
from facebatch.errors import FacebatchError
from facebatch.packs import Model
from facebatch.session import Session
from tests import models


@pytest.fixture(scope="module")
def chips() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (75, 112, 112, 3), np.uint8))


def test_vectors_have_length_one_and_their_length_before_is_kept(chips: list[np.ndarray]) -> None:
    session = Session(models.embedder(), "cpu")
    result = Embedder(session)(chips)
    raw = session.run(chips)["vector"]
    assert result.vectors.dtype == result.norms.dtype == np.float32
    assert np.allclose(np.linalg.norm(result.vectors, axis=1), 1, atol=1e-6)
    assert np.allclose(result.vectors * result.norms[:, None], raw, atol=1e-4)


def test_flipped_a_vector_is_that_of_the_face_and_its_mirror_image(chips: list[np.ndarray]) -> None:
    session = Session(models.embedder(), "cpu")
    mirrored = [chip[:, ::-1] for chip in chips]
    plain, other, both = (
        Embedder(session)(chips),
        Embedder(session)(mirrored),
        Embedder(session, flip=True)(chips),
    )
    mean = (plain.vectors * plain.norms[:, None] + other.vectors * other.norms[:, None]) / 2
    assert np.allclose(both.norms, np.linalg.norm(mean, axis=1), rtol=1e-4)
    assert np.allclose(both.vectors, mean / both.norms[:, None], atol=1e-5)
    assert np.allclose(both.vectors, Embedder(session, flip=True)(mirrored).vectors, atol=1e-6)
    assert not np.allclose(both.vectors, plain.vectors, atol=1e-2)
    assert Embedder(session, flip=True)([]).vectors.shape == (0, 512)


def test_no_faces_give_no_vectors() -> None:
    result = Embedder(Session(models.embedder(), "cpu"))([])
    assert result.vectors.shape == (0, 512)
    assert result.norms.shape == (0,)


def test_another_dimension_is_refused(chips: list[np.ndarray]) -> None:
    with pytest.raises(FacebatchError, match="test gives 128 numbers for a face, the index holds 512"):
        Embedder(Session(models.embedder(128), "cpu"))(chips[:1])


@pytest.mark.needs_models
@pytest.mark.parametrize("name", ["edgeface-xs", "w600k-mbf"])
def test_batches_of_one_seven_and_thirty_two_agree(
    model: Callable[[str, str], Model], chips: list[np.ndarray], name: str
) -> None:
    session = Session(model(name, "embedder"), "cpu", threads=2)
    alone = Embedder(session, 1)(chips[:40]).vectors
    for batch in (7, 32):
        assert np.abs(Embedder(session, batch)(chips[:40]).vectors - alone).max() < 1e-5


@pytest.mark.needs_models
@pytest.mark.parametrize("name", ["edgeface-xs", "w600k-mbf"])
def test_golden_vectors(model: Callable[[str, str], Model], astronaut: bytes, hopper: bytes, name: str) -> None:
    """What a published dataset contains. Red after a change of colour order, template, warp, mean or weights."""
    detector = model("yunet-n", "detector")
    settings = Settings.of(config.Detect(), detector.pack)
    found = []
    for data in (astronaut, hopper):
        picture = decode(data, probe(data, config.Decode()), config.Decode())
        (faces,) = Detector(Session(detector, "cpu"), settings)(
            [views(picture, settings)], [(picture.width, picture.height)]
        )
        assert faces.landmarks is not None
        found.append(chip_by_landmarks(picture, faces.landmarks[0]))
    vectors = Embedder(Session(model(name, "embedder"), "cpu"))(found).vectors
    golden = {
        "edgeface-xs": [0.07645, 0.01139, 0.06314, -0.06819, 0.06109, 0.03944],
        "w600k-mbf": [0.04695, -0.02382, -0.04124, -0.00964, -0.01934, -0.03695],
    }
    assert vectors[0, :6].tolist() == pytest.approx(golden[name], abs=2e-4)
    assert vectors[0] @ vectors[1] < 0.3, "two persons"


def test_calls_count_how_full_they_were(chips: list[np.ndarray]) -> None:
    tally.taken()
    Embedder(Session(models.embedder(), "cpu"), batch=32)(chips)  # in 32 + 32 + 8 + 2 + 1
    assert tally.taken() == {"embed_filled": 75, "embed_slots": 5 * 32}
