"""Fingerprints of bytes and of pictures."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from facebatch.fingerprint import content_sha256, phash
from facebatch.geometry import Picture, halvings


def _hash(image: Image.Image) -> int:
    return phash(Picture(halvings(np.asarray(image.convert("RGB"))), *image.size))


def _distance(a: int, b: int) -> int:
    return ((a ^ b) & (2**64 - 1)).bit_count()


def test_sha256_is_that_of_the_bytes() -> None:
    assert content_sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_same_picture_in_another_size_and_quality_is_near(astronaut: bytes, hopper: bytes) -> None:
    photo, other = Image.open(io.BytesIO(astronaut)).convert("RGB"), Image.open(io.BytesIO(hopper))
    file = io.BytesIO()
    photo.resize((300, 300)).save(file, "JPEG", quality=50)
    assert _distance(_hash(photo), _hash(Image.open(file))) <= 4
    assert _distance(_hash(photo), _hash(photo.resize((1700, 1700)))) <= 4
    assert _distance(_hash(photo), _hash(other)) > 16


def test_it_fits_a_signed_column_and_any_size_has_one() -> None:
    for size in ((1, 1), (3, 1000), (2000, 2)):
        assert -(2**63) <= _hash(Image.new("RGB", size, "red")) < 2**63
