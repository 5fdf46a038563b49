"""Reading .bin files of pairs that may be anything: truncated, damaged, hostile, or not pairs at all."""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from facebatch.errors import FacebatchError
from facebatch.evaluation.bin_file import read_bin_file
from tests.conftest import SHARED

IMAGES = [b"first \xff", b"second", b"third", b"first \xff"]
SAME = [True, False]


def _ran() -> None:
    raise AssertionError("the pickle did what no file may do")


class _Hostile:
    def __init__(self, call: object, *words: object) -> None:
        self._call, self._words = call, words

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self._call, self._words


@pytest.fixture(scope="module")
def small_lfw() -> bytes:
    file: Path = SHARED / "data" / "eval" / "verification" / "small_lfw.bin"
    if not file.is_file():
        pytest.skip("needs small_lfw.bin, which is not part of the repository")
    return file.read_bytes()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["bytes", "row", "column", "read-only"])
def test_images_as_bytes_and_as_arrays_come_out_as_the_same_bytes(protocol: int, kind: str) -> None:
    images: list[bytes] | list[np.ndarray] = IMAGES
    if kind != "bytes":
        images = [np.frombuffer(image, np.uint8) for image in IMAGES]
        images = images if kind == "read-only" else [image.copy() for image in images]
        images = [image[:, None] for image in images] if kind == "column" else images
    data = pickle.dumps((images, SAME), protocol=protocol)
    assert read_bin_file(data, "a.bin") == (tuple(IMAGES), (True, False))


def test_strings_of_python_2_are_bytes() -> None:
    images = b"".join(b"U" + bytes([len(image)]) + image for image in IMAGES)
    assert read_bin_file(b"\x80\x02](" + images + b"e](\x88\x89e\x86.", "a.bin")[0] == tuple(IMAGES)
    images = b"".join(b"T" + struct.pack("<i", len(image)) + image for image in IMAGES)
    assert read_bin_file(b"\x80\x02](" + images + b"e](K\x01K\x00e\x86.", "a.bin")[1] == (True, False)


def test_arrays_of_python_2_and_old_numpy_are_read() -> None:
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = empty + b"(K\x01K\x03\x85" + dtype + b"\x89U\x03a\xffctb"
    data = b"\x80\x02](" + array * 2 + b"e](\x88e\x86."
    assert pickle.loads(data, encoding="latin-1")[0][1].tolist() == [97, 255, 99]
    assert read_bin_file(data, "a.bin") == ((b"a\xffc", b"a\xffc"), (True,))


def test_a_published_file_gives_the_bytes_that_a_trusting_reader_gets(small_lfw: bytes) -> None:
    images, same = read_bin_file(small_lfw, "small_lfw.bin")
    arrays, answers = pickle.loads(small_lfw)
    assert list(images) == [array.tobytes() for array in arrays]
    assert list(same) == answers == [True] * 10
    assert all(image.startswith(b"\xff\xd8\xff") for image in images)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "call", [_ran, os.system, eval, exec, print, getattr, bytearray, np.load, np.fromfile, np.zeros, np.frombuffer]
)
def test_nothing_that_a_file_says_is_run(call: object, protocol: int, capfd: pytest.CaptureFixture[str]) -> None:
    data = pickle.dumps(([_Hostile(call, "echo it ran"), b"x"], [True]), protocol=protocol)
    with pytest.raises(FacebatchError, match=r"^mine.bin is no \.bin.*it asks for .*, which no \.bin needs$"):
        read_bin_file(data, "mine.bin")
    assert "it ran" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it ends early"),
        (b"\xff\xd8\xff\xe0 a photo", "it does something that no .bin needs"),
        (b"\0" * 100, "it does something that no .bin needs"),
        (pickle.dumps([1, 2, 3]), "it does not hold two lists"),
        (pickle.dumps(("ab", "c")), "it does not hold two lists"),
        (pickle.dumps(({"a": 1}, [])), "it does something that no .bin needs"),
        (pickle.dumps((IMAGES, [True])), "4 images for 1 pairs"),
        (pickle.dumps((IMAGES, [True, "yes"])), "neither the same nor different"),
        (pickle.dumps((IMAGES, [True, 2])), "neither the same nor different"),
        (pickle.dumps(([b"a", 5], [True])), "an image without bytes"),
        (pickle.dumps(([b"a", b""], [True])), "an image without bytes"),
        (pickle.dumps(([b"a", "\u20ac"], [True])), "can't encode"),
        (pickle.dumps(([b"a", np.zeros(4, np.float32)], [True])), "no row or column of unsigned bytes"),
        (pickle.dumps(([b"a", np.zeros((2, 2, 3), np.uint8)], [True])), "no row or column of unsigned bytes"),
        (pickle.dumps(([b"a", np.array(["x"], object)], [True]), 2), "no row or column of unsigned bytes"),
        (b"\x80\x02](cnumpy\nndarray\n}b.", "it does something that no .bin needs"),
        (b"\x80\x02cnumpy\ndtype\nK\x01b.", "it changes what is no array"),
        (b"\x80\x02K\x01)R.", "not callable"),
        (b"cposix\nsystem\n(S'echo it ran'\ntR.", "it asks for posix.system"),
        (b"(S'echo it ran'\nios\nsystem\n.", "it does something that no .bin needs"),
    ],
)
def test_what_is_no_file_of_pairs_is_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(FacebatchError) as error:
        read_bin_file(data, "mine.bin")
    assert words in str(error.value)
    assert str(error.value).startswith("mine.bin is no .bin of pairs")
    assert "\n" not in str(error.value)


_COPIES = (
    b"\x80\x02](c_codecs\nencode\nq\x01X" + struct.pack("<I", 200_000) + b"a" * 200_000 + b"q\x00X\x06\0\0\0latin1\x86R"
    + b"h\x01h\x00X\x06\0\0\0latin1\x86R" * 2_000 + b"e](\x88e\x86."
)  # fmt: skip
"""A string that is to be turned into bytes 2,001 times: 400 MB."""


@pytest.mark.parametrize(
    "data",
    [
        b"r\xff\xff\xff\x7f",  # a memo of two thousand million entries
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 33),  # a bytearray of 8 GiB
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 63),
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40),
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40),
        b"\x80\x02J\xff\xff\xff\x7fq\xff.",
        _COPIES,
    ],
    ids=lambda data: str(data[:12]),
)  # fmt: skip
def test_a_small_file_takes_little_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FacebatchError):
            read_bin_file(data, "mine.bin")
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_the_file_of_many_copies_is_refused_for_its_number_of_images_only() -> None:
    with pytest.raises(FacebatchError, match="2001 images for 1 pairs"):
        read_bin_file(_COPIES, "mine.bin")


def test_one_string_for_many_images_is_turned_into_bytes_once() -> None:
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00"
    data = b"\x80\x02](" + text + b"h\x00" * 1_999 + b"e](" + b"\x88" * 1_000 + b"e\x86."
    images, same = read_bin_file(data, "a.bin")
    assert len(images) == 2 * len(same) == 2_000
    assert len({id(image) for image in images}) == 1


def test_tuples_within_tuples_do_not_take_for_ever() -> None:
    """Hashing or comparing them would take two to the power of their depth."""
    nested = b")q\x00" + b"".join(b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86q" + bytes([k + 1]) for k in range(100))
    for data in (b"\x80\x02](" + nested + b"h\x64e](\x88e\x86.", b"\x80\x02](C\x01aC\x01be](" + nested + b"e\x86."):
        with pytest.raises(FacebatchError):
            read_bin_file(data, "mine.bin")


def test_a_truncated_file_is_refused_wherever_it_ends(small_lfw: bytes) -> None:
    for end in range(0, len(small_lfw) - 1, 97):
        with pytest.raises(FacebatchError, match="small_lfw.bin is no .bin of pairs"):
            read_bin_file(small_lfw[:end], "small_lfw.bin")


def test_flipped_bits_give_pairs_or_one_sentence_and_nothing_else() -> None:
    whole = pickle.dumps(([np.frombuffer(image, np.uint8).copy()[:, None] for image in IMAGES], SAME), protocol=3)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 2):
            damaged[place] ^= 1 << int(random.integers(8))
        try:
            images, same = read_bin_file(bytes(damaged), "mine.bin")
            assert len(images) == 2 * len(same)
            assert all(type(image) is bytes for image in images)
        except FacebatchError:
            refused += 1
    assert 1500 < refused < 3000
