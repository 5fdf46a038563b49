"""AVIF, HEIF and JPEG XL say in the container which side is up: pictures are turned by it, and exactly once."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facebatch.config import Decode
from facebatch.decode import Header, decode, probe
from facebatch.geometry import Picture, upright
from facebatch.jxl import read_codestream
from facebatch.plugins import plugin
from facebatch.reasons import Reason, Undecodable

LIMITS = Decode()
TURNED = (5, 6, 7, 8)


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> None:
    plugin("HEIF")
    plugin("JXL")


@pytest.fixture(scope="module")
def photo(astronaut: bytes) -> np.ndarray:
    """A crop with no symmetry: 192 wide, 128 high."""
    return np.asarray(Image.open(io.BytesIO(astronaut)).convert("RGB"))[40:168, 130:322]


def _opened(data: bytes) -> tuple[Header, Picture]:
    header = probe(data, LIMITS)
    return header, decode(data, header, LIMITS)


def _exif(orientation: int, camera: str = "Canon") -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = orientation, camera
    return exif


def _same(seen: np.ndarray, expected: np.ndarray) -> bool:
    return seen.shape == expected.shape and np.abs(seen.astype(int) - expected).mean() < 4


def _saved(photo: np.ndarray, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, format, quality=95, **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_by_its_irot_and_imir(photo: np.ndarray, orientation: int) -> None:
    data = _saved(photo, "AVIF", exif=_exif(orientation))
    header, picture = _opened(data)
    assert (b"irot" in data) == (orientation in (3, 5, 6, 7, 8))
    assert _same(picture.levels[0], upright(photo, orientation))
    assert (header.width, header.height) == (picture.width, picture.height) == picture.levels[0].shape[1::-1]
    assert (header.exif.orientation, header.exif.camera) == (orientation, "Canon")


def test_what_xmp_remembers_does_not_turn_an_avif(archive: Path) -> None:
    """Roses that stand upright as they are stored, and whose XMP says 3."""
    data = (archive / "bad_pillow/Tests/images/avif/xmp_tags_orientation.avif").read_bytes()
    header, picture = _opened(data)
    stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 3
    assert header.exif.orientation == 1
    assert np.corrcoef(picture.levels[0].ravel(), stored.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heif_comes_turned_by_its_irot_and_imir(photo: np.ndarray, orientation: int) -> None:
    data = _saved(photo, "HEIF", exif=_exif(orientation).tobytes())
    assert (b"irot" in data or b"imir" in data) == (orientation != 1)
    header, picture = _opened(data)
    assert _same(picture.levels[0], upright(photo, orientation))
    assert (header.width, header.height) == (picture.width, picture.height) == picture.levels[0].shape[1::-1]
    assert (header.exif.orientation, header.exif.camera, header.format) == (1, "Canon", "HEIF")


def test_exif_alone_does_not_turn_a_heif(photo: np.ndarray) -> None:
    data = _saved(photo, "HEIF", exif=_exif(6))
    assert b"irot" not in data
    assert _same(_opened(data)[1].levels[0], photo)


def _packed(photo: np.ndarray, orientation: int, folder: Path) -> tuple[bytes, np.ndarray]:
    """A JPEG packed as JPEG XL, and its pixels as they lie."""
    jpeg = folder / "photo.jpg"
    jpeg.write_bytes(_saved(photo, "JPEG", exif=_exif(orientation)))
    file = io.BytesIO()
    Image.open(jpeg).save(file, "JXL", lossless_jpeg=True)
    assert b"jbrd" in file.getvalue()
    return file.getvalue(), np.asarray(Image.open(jpeg))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_xl_made_of_a_jpeg_by_its_codestream(photo: np.ndarray, orientation: int, tmp_path: Path) -> None:
    data, pixels = _packed(photo, orientation, tmp_path)
    header, picture = _opened(data)
    assert np.array_equal(picture.levels[0], upright(pixels, orientation))
    assert (header.width, header.height) == (picture.width, picture.height) == picture.levels[0].shape[1::-1]
    assert header.exif.orientation == orientation
    assert header.exif.trouble == "EXIF ignored: it is compressed by Brotli"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_xl_that_libjxl_turns_is_not_turned_again(photo: np.ndarray, orientation: int, tmp_path: Path) -> None:
    """Without the box that makes it a JPEG again, the same codestream is decoded by libjxl."""
    data, pixels = _packed(photo, orientation, tmp_path)
    header, picture = _opened(data.replace(b"jbrd", b"free"))
    assert _same(picture.levels[0], upright(pixels, orientation))
    assert (header.width, header.height) == (picture.width, picture.height) == picture.levels[0].shape[1::-1]
    assert header.exif.orientation == orientation


def test_exif_alone_does_not_turn_a_jpeg_xl(photo: np.ndarray) -> None:
    data = _saved(photo, "JXL", exif=_exif(6).tobytes())
    header, picture = _opened(data)
    assert (header.exif.orientation, header.exif.camera) == (1, "Canon")
    assert _same(picture.levels[0], photo)


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (257, 300), (640, 480), (1920, 1080), (3, 5000), (40, 20)])
def test_the_size_of_a_jpeg_xl_is_read_without_decoding_it(size: tuple[int, int]) -> None:
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    for options in ({}, {"use_container": True}, {"exif": _exif(1).tobytes()}):
        stream = read_codestream(_saved(picture, "JXL", **options))
        assert (stream.width, stream.height, stream.frames) == (*size, 1)


def test_a_jpeg_xl_that_announces_too_much_is_refused_before_it_is_decoded() -> None:
    bomb = b"\xff\x0a" + struct.pack("<Q", 0 | 3 << 1 | 59_999 << 3 | 1 << 33 | 1 << 36) + bytes(20)
    with pytest.raises(Undecodable) as error:
        probe(bomb, LIMITS)
    assert (error.value.reason, error.value.detail.split(",")[0]) == (Reason.TOO_MANY_PIXELS, "60000x60000")


@pytest.mark.parametrize("format", ["AVIF", "HEIF", "JXL"])
def test_a_damaged_file_has_a_reason(photo: np.ndarray, format: str) -> None:
    data = _saved(photo, format)
    for cut in range(0, len(data) - 1, len(data) // 30):
        with pytest.raises(Undecodable) as error:
            _opened(data[:cut])
        assert error.value.detail
