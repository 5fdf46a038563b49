"""From bytes to upright RGB, or to the reason why not."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from facebatch.config import Decode
from facebatch.decode import decode, decoded_pixels, probe
from facebatch.geometry import Picture
from facebatch.reasons import Reason, Undecodable
from tests.conftest import encode

LIMITS = Decode()


def opened(data: bytes, limits: Decode = LIMITS) -> Picture:
    return decode(data, probe(data, limits), limits)


def pixels(data: bytes, limits: Decode = LIMITS) -> np.ndarray:
    return opened(data, limits).levels[0]


def reason(data: bytes, limits: Decode = LIMITS) -> Reason:
    with pytest.raises(Undecodable) as error:
        opened(data, limits)
    assert error.value.detail
    return error.value.reason


@pytest.fixture(scope="module")
def photo(astronaut: bytes) -> np.ndarray:
    """A crop with no symmetry: 200 wide, 120 high."""
    return np.asarray(Image.open(io.BytesIO(astronaut)).convert("RGB"))[40:160, 130:330]


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {}),
        ("PPM", {}),
        ("SGI", {}),
        ("PCX", {}),
        ("ICO", {"sizes": [(200, 120)]}),
    ],
)
def test_lossless_formats_come_out_exactly(photo: np.ndarray, format: str, options: dict[str, object]) -> None:
    assert np.array_equal(pixels(encode(photo, format, **options)), photo)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"optimize": True}, {"quality": 100}]
)
def test_jpegs_come_out_as_pillow_decodes_them(photo: np.ndarray, options: dict[str, object]) -> None:
    data = encode(photo, "JPEG", **options)
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_grey_jpegs_become_rgb(photo: np.ndarray) -> None:
    data = encode(photo[:, :, 0], "JPEG")
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_the_first_frame_of_an_animation_is_the_picture(photo: np.ndarray) -> None:
    for format in ("GIF", "WEBP", "TIFF"):
        file = io.BytesIO()
        other = Image.fromarray(255 - photo)
        Image.fromarray(photo).save(file, format, save_all=True, append_images=[other])
        assert np.abs(pixels(file.getvalue()).astype(int) - photo).mean() < 12, format


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG", "MPO", "AVIF"])
def test_frames_are_counted(photo: np.ndarray, format: str) -> None:
    file = io.BytesIO()
    others = [Image.fromarray(255 - photo), Image.fromarray(photo[::-1])]
    Image.fromarray(photo).save(file, format, save_all=True, append_images=others)
    assert probe(file.getvalue(), LIMITS).frames == 3
    if format != "MPO":
        assert probe(encode(photo, format), LIMITS).frames == 1


def test_a_damaged_later_page_does_not_stop_the_first(photo: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "TIFF", save_all=True, append_images=[Image.fromarray(photo)])
    data = bytearray(file.getvalue())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    (second,) = struct.unpack_from("<I", data, at + 2 + 12 * count)
    (entries,) = struct.unpack_from("<H", data, second)
    for entry in range(second + 2, second + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, entry)[0] == 262:
            struct.pack_into("<H", data, entry + 8, 999)  # a photometric interpretation that there is not
    header = probe(bytes(data), LIMITS)
    assert header.frames is None
    assert np.array_equal(decode(bytes(data), header, LIMITS).levels[0], photo)


def test_a_number_of_frames_that_cannot_be_is_not_believed(photo: np.ndarray) -> None:
    body = struct.pack(">II", 1 << 31, 0)
    chunk = struct.pack(">I", 8) + b"acTL" + body + struct.pack(">I", zlib.crc32(b"acTL" + body))
    png = encode(photo)
    data = png[:33] + chunk + png[33:]
    assert probe(data, LIMITS).frames is None
    assert np.array_equal(pixels(data), photo)


def test_cmyk_becomes_rgb(photo: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(photo).convert("CMYK").save(file, "JPEG", quality=95)
    assert np.abs(pixels(file.getvalue()).astype(int) - photo).mean() < 3


def test_palettes_become_rgb(photo: np.ndarray) -> None:
    image = Image.fromarray(photo).quantize(256)
    file = io.BytesIO()
    image.save(file, "PNG")
    assert np.array_equal(pixels(file.getvalue()), np.asarray(image.convert("RGB")))


def test_transparency_is_laid_on_white() -> None:
    clear = np.zeros((10, 10, 4), np.uint8)
    clear[:, :5] = (200, 100, 50, 255)
    clear[:, 5:8, 3] = 0
    clear[:, 8:] = (0, 0, 0, 128)
    seen = pixels(encode(clear))
    assert seen[0, 0].tolist() == [200, 100, 50]
    assert seen[0, 6].tolist() == [255, 255, 255]
    assert seen[0, 9].tolist() == [127, 127, 127]


def test_a_transparent_palette_entry_is_laid_on_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    seen = pixels(file.getvalue())
    assert (seen[0, 0].tolist(), seen[1, 1].tolist()) == ([255, 255, 255], [10, 20, 30])


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for format in ("PNG", "TIFF"):
        seen = pixels(encode(ramp, format))
        assert np.abs(seen[:, :, 0].ravel().astype(int) - np.arange(256)).max() <= 1, format
        assert (seen[:, :, 0] == seen[:, :, 2]).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 1, 256), np.arange(256)),
        (np.linspace(0, 255, 256), np.arange(256)),
        (np.linspace(-5, 1000, 256), np.arange(256)),
        (np.array([np.nan] + [0.5] * 255), np.array([0] + [128] * 255)),
    ],
)
def test_floats_are_scaled_by_their_range(values: np.ndarray, expected: np.ndarray) -> None:
    seen = pixels(encode(values.astype(np.float32).reshape(16, 16), "TIFF"))
    assert np.abs(seen[:, :, 1].ravel().astype(int) - expected).max() <= 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_all_eight_orientations_are_undone(photo: np.ndarray, format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo, format, exif=exif, **({"quality": 95} if format == "JPEG" else {}))
    header = probe(data, LIMITS)
    picture = decode(data, header, LIMITS)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.array_equal(picture.levels[0], expected)
    assert (header.width, header.height) == (picture.width, picture.height) == expected.shape[1::-1]
    assert header.exif.orientation == orientation


def test_an_invalid_orientation_means_upright(photo: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    assert np.array_equal(pixels(encode(photo, "PNG", exif=exif)), photo)


@pytest.mark.parametrize(
    ("size", "scale"), [((1600, 900), 1), ((3199, 2000), 1), ((3200, 100), 2), ((6399, 4000), 2), ((8000, 6000), 4)]
)
def test_the_scale_is_a_function_of_the_header(size: tuple[int, int], scale: int) -> None:
    data = encode(np.zeros((size[1], size[0], 3), np.uint8), "JPEG")
    picture = opened(data)
    assert picture.scale == scale
    assert (picture.width, picture.height) == size
    assert picture.levels[0].shape[:2] == (-(-size[1] // scale), -(-size[0] // scale))
    assert decoded_pixels(data, LIMITS) == size[0] * size[1] // scale**2


def test_the_scale_is_the_same_for_a_picture_that_lies_on_its_side() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = opened(encode(np.zeros((1000, 4001, 3), np.uint8), "JPEG", exif=exif))
    assert (picture.scale, picture.width, picture.height) == (2, 1000, 4001)
    assert picture.levels[0].shape == (2001, 500, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000"])
def test_every_format_has_the_same_scale_and_it_can_be_switched_off(format: str) -> None:
    data = encode(np.zeros((101, 4001, 3), np.uint8), format)
    picture = opened(data)
    assert (picture.scale, picture.width, picture.height) == (2, 4001, 101)
    assert picture.levels[0].shape == (51, 2001, 3)
    assert opened(data, Decode(scale_above=0)).scale == 1


def test_what_is_not_scaled_while_it_is_decoded_counts_in_full() -> None:
    wide = np.zeros((100, 4000, 3), np.uint8)
    assert decoded_pixels(encode(wide, "PNG"), LIMITS) == 400_000
    assert decoded_pixels(encode(wide, "JPEG"), LIMITS) == 100_000


def test_a_reduced_picture_is_the_mean_of_its_pixels_in_every_mode(hopper: bytes) -> None:
    """Strips and their seams do not show."""
    photo = Image.open(io.BytesIO(hopper)).resize((3301, 2003))
    whole = np.asarray(photo.reduce(2)).astype(int)
    for mode, away in (("RGB", 0), ("RGBA", 1), ("CMYK", 1)):
        file = io.BytesIO()
        photo.convert(mode).save(file, "TIFF")
        assert np.abs(pixels(file.getvalue()) - whole).max() <= away, mode
    deep = np.asarray(photo.convert("L")).astype(np.uint16) << 8
    grey = np.asarray(photo.convert("L").reduce(2)).astype(int)
    for format, samples in (("PNG", deep), ("TIFF", deep), ("TIFF", deep.astype(np.float32))):
        assert np.abs(pixels(encode(samples, format))[:, :, 0] - grey).max() <= 1, format


def test_dark_sixteen_bits_are_dark_in_either_byte_order() -> None:
    dark = np.full((16, 16), 200, np.uint16)
    little, big = io.BytesIO(), io.BytesIO()
    Image.fromarray(dark).save(little, "TIFF")
    Image.frombytes("I;16B", (16, 16), dark.astype(">u2").tobytes()).save(big, "TIFF")
    assert (pixels(little.getvalue()) == 0).all()
    assert (pixels(big.getvalue()) == 0).all()


@pytest.mark.parametrize("samples", [np.uint8, np.uint16, np.float32])
def test_nothing_of_full_size_is_made_beside_pillows_own_picture(samples: type[np.generic]) -> None:
    side = 6400
    data = encode(np.zeros((side, side), samples), "TIFF", compression="tiff_adobe_deflate")
    header = probe(data, LIMITS)
    tracemalloc.start()  # sees numpy's memory, not Pillow's
    picture = decode(data, header, LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picture.levels[0].shape == (1600, 1600, 3)
    assert peak < side * side, "less than one byte for each pixel of the file"


def test_both_jpeg_decoders_give_the_same_pixels_at_every_scale(hopper: bytes) -> None:
    photo = np.asarray(Image.open(io.BytesIO(hopper)).resize((1201, 801)))
    data = encode(photo, "JPEG", quality=90)
    for scale in (2, 4, 8):
        fast = simplejpeg.decode_jpeg(data, "RGB", min_width=-(-1201 // scale), min_height=-(-801 // scale))
        slow = Image.open(io.BytesIO(data))
        slow.draft(None, (1201 // scale, 801 // scale))
        assert np.array_equal(fast, np.asarray(slow)), scale


@pytest.mark.parametrize("size", [(4801, 3201), (4000, 1), (3, 9001)])
def test_what_only_pillow_decodes_has_the_scale_that_it_says(size: tuple[int, int]) -> None:
    data = encode(np.full((size[1], size[0], 3), 99, np.uint8), "JPEG")
    middle = data.index(b"\xff\xdb")
    picture = opened(data[:middle] + b"\0\0\0" + data[middle:])
    assert picture.levels[0].shape[:2] == (-(-size[1] // picture.scale), -(-size[0] // picture.scale))


def test_junk_inside_a_jpeg_is_tolerated_as_by_other_viewers(photo: np.ndarray) -> None:
    data = encode(photo, "JPEG")
    middle = data.index(b"\xff\xdb")
    odd = data[:middle] + b"\0\0\0" + data[middle:]
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(odd)
    assert np.array_equal(pixels(odd), pixels(data))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_truncated_file_fails_unless_it_is_accepted(photo: np.ndarray, format: str) -> None:
    data = encode(photo, format)
    cut = data[: len(data) * 2 // 3]
    assert reason(cut) in (Reason.TRUNCATED, Reason.CORRUPT)
    if format == "JPEG":
        assert reason(cut) is Reason.TRUNCATED
        seen = pixels(cut, Decode(truncated="accept"))
        assert np.abs(seen[:40].astype(int) - pixels(data)[:40]).max() == 0
        assert reason(cut) is Reason.TRUNCATED, "accepting once must not last"


def test_each_limit_has_its_own_reason(photo: np.ndarray) -> None:
    data = encode(photo)
    assert reason(data, Decode(max_pixels=200 * 120 - 1)) is Reason.TOO_MANY_PIXELS
    assert reason(data, Decode(max_side=199)) is Reason.SIDE_TOO_LONG
    assert pixels(data, Decode(max_pixels=200 * 120, max_side=200)).shape == (120, 200, 3)


def test_a_bomb_is_refused_before_anything_is_allocated() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10_000_000))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    tracemalloc.start()
    assert reason(bomb) is Reason.TOO_MANY_PIXELS
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Reason.EMPTY),
        (b"hello", Reason.NOT_AN_IMAGE),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"x" * 100, Reason.CORRUPT),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + b"x" * 100, Reason.CORRUPT),
        (b"\xff\x0a\x01", Reason.TRUNCATED),
        (b"II*\0\x10\0\0\0CR\x02\0" + b"x" * 100, Reason.UNSUPPORTED_FORMAT),
        (b"v/1\x01" + b"x" * 100, Reason.UNSUPPORTED_FORMAT),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, Reason.TRUNCATED),
        (b"\xff\xd8\xff\xe0" + b"x" * 100, Reason.TRUNCATED),
        (b"GIF89a", Reason.CORRUPT),
    ],
)
def test_what_is_no_picture_says_why(data: bytes, expected: Reason) -> None:
    assert reason(data) is expected


def test_memory_that_runs_out_is_not_the_files_fault(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(simplejpeg, "decode_jpeg", out_of_memory)
    with pytest.raises(MemoryError):
        opened(encode(photo, "JPEG"))


def test_every_file_of_the_archive_is_decoded_or_has_a_reason(archive: Path, manifest: list[dict[str, str]]) -> None:
    """Our status agrees with that of Pillow 13, but for the one file that a package beside it decodes."""
    disagree = []
    judged = [row for row in manifest if row["pillow13"]]
    for row in judged:
        try:
            opened((archive / row["path"]).read_bytes())
            ours = None
        except Undecodable as error:
            ours = error.reason
        if (ours is None) != (row["pillow13"] == "ok"):
            disagree.append((row["path"], row["pillow13"], ours))
    assert disagree == [("metadata_extractor/heic/cheers_1440x960.heic", "UnidentifiedImageError", None)]
    assert len(judged) == 831
