"""EXIF: what the index keeps of it, and that damage to it never costs the picture."""

from __future__ import annotations

import datetime as dt
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from facebatch.exif import Exif, read_exif
from tests.conftest import encode


def _image(tags: dict[int, Any], details: dict[int, Any] | None = None) -> Image.Image:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    if details:
        exif.get_ifd(0x8769).update(details)
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "JPEG", exif=exif)
    return Image.open(io.BytesIO(file.getvalue()))


def test_camera_time_and_orientation_are_read() -> None:
    image = _image({0x0112: 6, 0x010F: "Canon", 0x0110: "Canon EOS 5D"}, {0x9003: "2019:07:20 20:17:40"})
    assert read_exif(image) == Exif(6, dt.datetime(2019, 7, 20, 20, 17, 40), "Canon EOS 5D")


def test_a_maker_that_the_model_does_not_name_stands_before_it() -> None:
    assert read_exif(_image({0x010F: "NASA", 0x0110: "Hasselblad 500EL"})).camera == "NASA Hasselblad 500EL"


def test_the_time_of_the_last_change_stands_in_for_the_time_of_the_shot() -> None:
    assert read_exif(_image({0x0132: "2001:02:03 04:05:06"})).captured_at == dt.datetime(2001, 2, 3, 4, 5, 6)


def test_a_clock_may_leave_out_noughts_and_say_more_behind_the_seconds() -> None:
    assert read_exif(_image({0x0132: "2001:2:3 4:05:06"})).captured_at == dt.datetime(2001, 2, 3, 4, 5, 6)
    assert read_exif(_image({0x0132: "2001:02:03 04:05:06.75"})).captured_at == dt.datetime(2001, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    "value", ["2001:02:30 04:05:06", "0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""]
)
def test_a_clock_that_was_never_set_gives_no_time(value: str) -> None:
    assert read_exif(_image({0x0132: value})).captured_at is None


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_that_there_is_not_means_upright(value: int) -> None:
    assert read_exif(_image({0x0112: value})).orientation == 1


def test_no_exif_is_no_trouble() -> None:
    assert read_exif(Image.new("RGB", (4, 4))) == Exif()


def test_control_characters_do_not_reach_the_table() -> None:
    assert read_exif(_image({0x0110: "X\x07\n\x1b[31m100\0junk"})).camera == "X[31m100"


def test_damaged_exif_is_noted_and_costs_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Image.Image) -> None:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", broken)
    found = read_exif(Image.new("RGB", (4, 4)))
    assert (found.orientation, found.trouble) == (1, "EXIF ignored: SyntaxError: not a TIFF file")


def test_exif_behind_the_pixels_of_a_png_is_read_without_decoding_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = encode(np.zeros((8, 8, 3), np.uint8))
    tags = Image.Exif()
    tags[0x0112] = 6
    block = tags.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I4s", len(block), b"eXIf") + block
    end = plain.index(b"IEND") - 4
    late = plain[:end] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + plain[end:]
    assert Image.open(io.BytesIO(late)).getexif()[0x0112] == 6
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    assert read_exif(Image.open(io.BytesIO(late))).orientation == 6
    assert read_exif(Image.open(io.BytesIO(plain))).orientation == 1
    assert read_exif(Image.open(io.BytesIO(late[: end + 10]))).orientation == 1
