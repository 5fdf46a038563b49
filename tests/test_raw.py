"""Cameras' raw files: told from TIFFs, shown by their preview, upright, with what is known of the shot."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import struct

import numpy as np
import pytest
from PIL import Image

from facebatch.config import Decode
from facebatch.decode import Header, decode, decoded_pixels, probe
from facebatch.formats import sniff
from facebatch.geometry import Picture, upright
from facebatch.reasons import Reason, Undecodable
from tests.conftest import encode
from tests.containers import dng

LIMITS = Decode()
SHOT = dt.datetime(2020, 1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def photo(astronaut: bytes) -> np.ndarray:
    """800 wide, 600 high, with no symmetry."""
    return np.asarray(Image.open(io.BytesIO(astronaut)).convert("RGB").resize((800, 600)))


def _opened(data: bytes) -> tuple[Header, Picture]:
    header = probe(data, LIMITS)
    return header, decode(data, header, LIMITS)


def _error(data: bytes) -> Undecodable:
    with pytest.raises(Undecodable) as error:
        _opened(data)
    return error.value


def _exif(tags: dict[int, object]) -> Image.Exif:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    return exif


@pytest.mark.parametrize(("orientation", "turn"), [(1, 1), (3, 3), (6, 6), (8, 8)])
def test_the_picture_is_the_preview_turned_as_the_container_says(
    photo: np.ndarray, orientation: int, turn: int
) -> None:
    jpeg = encode(photo, "JPEG", quality=95)
    header, picture = _opened(dng(jpeg, (800, 600), orientation))
    expected = upright(np.asarray(Image.open(io.BytesIO(jpeg))), turn)
    assert np.array_equal(picture.levels[0], expected)
    assert (header.width, header.height) == (picture.width, picture.height) == expected.shape[1::-1]
    assert (header.format, header.frames, header.exif.orientation) == ("RAW", 1, turn)
    assert (header.exif.camera, header.exif.captured_at) == ("Handmade Camera 1", SHOT)


def test_what_the_preview_itself_says_comes_first(photo: np.ndarray) -> None:
    exif = _exif({0x0112: 3, 0x0110: "Own", 0x0132: "2001:01:01 00:00:00"})
    jpeg = encode(photo, "JPEG", exif=exif)
    header, picture = _opened(dng(jpeg, (800, 600), orientation=6))
    assert (header.exif.orientation, header.exif.camera) == (3, "Own")
    assert header.exif.captured_at == dt.datetime(2001, 1, 1)
    assert np.array_equal(picture.levels[0], upright(np.asarray(Image.open(io.BytesIO(jpeg))), 3))


def test_what_the_preview_does_not_say_the_container_does(photo: np.ndarray) -> None:
    header, _ = _opened(dng(encode(photo, "JPEG", exif=_exif({0x0110: "Own"})), (800, 600), orientation=6))
    assert (header.exif.orientation, header.exif.camera, header.exif.captured_at) == (6, "Own", SHOT)


def test_a_preview_without_compression_is_read_too(photo: np.ndarray) -> None:
    header, picture = _opened(dng(photo.tobytes(), (800, 600), orientation=8, bitmap=True))
    assert np.array_equal(picture.levels[0], upright(photo, 8))
    assert (header.width, header.height) == (600, 800)


def test_a_large_preview_is_decoded_at_scale_like_any_jpeg() -> None:
    data = dng(encode(np.zeros((2400, 3200, 3), np.uint8), "JPEG"), (3200, 2400))
    _, picture = _opened(data)
    assert (picture.scale, picture.width, picture.levels[0].shape) == (2, 3200, (1200, 1600, 3))
    assert decoded_pixels(data, LIMITS) == 1600 * 1200


def test_limits_hold_for_the_preview(photo: np.ndarray) -> None:
    data = dng(encode(photo, "JPEG"), (800, 600))
    with pytest.raises(Undecodable) as error:
        probe(data, Decode(max_pixels=800 * 600 - 1))
    assert error.value.reason is Reason.TOO_MANY_PIXELS


def test_a_thumbnail_is_not_a_picture(photo: np.ndarray) -> None:
    small = np.asarray(Image.fromarray(photo).resize((639, 400)))
    error = _error(dng(encode(small, "JPEG"), (639, 400)))
    assert error.reason is Reason.THUMBNAIL_ONLY
    assert "639x400" in error.detail
    assert "640" in error.detail
    large = np.asarray(Image.fromarray(photo).resize((400, 640)))
    assert _opened(dng(encode(large, "JPEG"), (400, 640)))[0].height == 640


def test_without_a_preview_the_user_is_told_what_to_do(photo: np.ndarray) -> None:
    error = _error(dng(None))
    assert error.reason is Reason.UNSUPPORTED_FORMAT
    assert "no preview" in error.detail
    assert "develop it" in error.detail
    unknown = _error(dng(encode(photo, "JPEG"), (800, 600), version=False))
    assert unknown.reason is Reason.UNSUPPORTED_FORMAT
    assert "convert it to DNG" in unknown.detail


def test_a_damaged_file_has_a_reason(photo: np.ndarray) -> None:
    data = dng(encode(photo, "JPEG"), (800, 600))
    for cut in range(0, len(data), len(data) // 40):
        assert _error(data[:cut]).detail
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for at in random.integers(0, 700, 6):
            damaged[at] = random.integers(0, 256)
        with contextlib.suppress(Undecodable):  # anything else fails the test
            _opened(bytes(damaged))


@pytest.mark.parametrize("bitmap", [False, True])
def test_what_lay_in_memory_does_not_complete_a_preview(bitmap: bool, photo: np.ndarray) -> None:
    data = dng(photo.tobytes() if bitmap else encode(photo, "JPEG"), (800, 600), bitmap=bitmap)
    random = np.random.default_rng(0)
    for cut in random.integers(len(data) // 8, len(data) - 1, 200):
        remains = [bytearray(data[: random.integers(1, len(data))]) for _ in range(5)]  # of other reads, then freed
        del remains
        assert _error(data[:cut]).detail


def _tiff(tags: dict[int, int], order: str = "<") -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    rows = b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in sorted(tags.items()))
    return head + struct.pack(order + "IH", 8, len(tags)) + rows + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("tags", "format"),
    [
        ({254: 0, 256: 10, 259: 1, 262: 2}, "TIFF"),
        ({254: 0, 50706: 1}, "RAW"),
        ({254: 1, 330: 100}, "RAW"),
        ({254: 0, 330: 100}, "TIFF"),
        ({254: 1}, "TIFF"),
        ({259: 34713}, "RAW"),
        ({259: 65535}, "RAW"),
        ({259: 7, 262: 32803}, "RAW"),
        ({262: 34892}, "RAW"),
    ],
    ids=["plain", "DNG", "NEF, ARW", "pyramid", "page", "NEF", "PEF", "mosaic", "linear"],
)
def test_raw_files_in_the_clothes_of_a_tiff_are_told_by_their_first_directory(
    tags: dict[int, int], format: str, order: str
) -> None:
    assert sniff(_tiff(tags, order)) == format


def test_real_tiffs_stay_tiffs(photo: np.ndarray) -> None:
    for options in ({}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"exif": _exif({0x010F: "Canon"})}):
        assert sniff(encode(photo, "TIFF", **options)) == "TIFF"
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "TIFF", big_tiff=True)
    assert sniff(file.getvalue()) == "TIFF"


def test_a_directory_that_is_cut_off_is_no_reason_to_fail_here() -> None:
    whole = _tiff({254: 0, 256: 10, 259: 1, 50706: 1})
    for cut in range(4, len(whole)):
        assert sniff(whole[:cut]) in ("TIFF", "RAW")
    assert sniff(b"II*\0\xff\xff\xff\xff") == "TIFF"
