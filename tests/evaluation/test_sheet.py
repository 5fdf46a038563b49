"""Contact sheets: the right place at the right size, and reasons where there is none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facebatch.errors import UsageError
from facebatch.evaluation.sheet import SIDE, Tile, contact_sheet, sheet_of_rows

PICTURE = np.full((300, 400, 3), 200, np.uint8)
PICTURE[100:140, 200:240] = (0, 0, 255)
BOX = (200.0, 100.0, 240.0, 140.0)


def _squares(folder: Path, tiles: list[Tile], columns: int = 8) -> list[np.ndarray]:
    """The squares of a sheet, with their captions below."""
    contact_sheet(folder / "sheet.png", tiles, columns)
    pixels = np.asarray(Image.open(folder / "sheet.png"))
    across = min(columns, len(tiles))
    width, height = (pixels.shape[1] - 6) // across, (pixels.shape[0] - 6) // -(-len(tiles) // across)
    corners = [(6 + k // across * height, 6 + k % across * width) for k in range(len(tiles))]
    return [pixels[y : y + height - 6, x : x + width - 6] for y, x in corners]


def _box(square: np.ndarray) -> tuple[int, int, int, int]:
    """Where the rectangle is drawn: first column and row, last column and row."""
    rows, columns = np.nonzero((square[:SIDE] == (255, 32, 96)).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_a_crop_is_the_box_with_surroundings_of_twice_its_size(tmp_path: Path) -> None:
    (square,) = _squares(tmp_path, [Tile(PICTURE, BOX)])
    assert square.shape[1] == SIDE
    assert _box(square) == (40, 40, 119, 119)
    inside = square[45:115, 45:115]
    assert (inside == (0, 0, 255)).all()
    assert (square[:36, :SIDE] == 200).all()
    assert (square[124:SIDE, :] == 200).all()
    crop = square[:SIDE].astype(int)
    assert np.abs(crop - crop[::-1]).max() < 4
    assert np.abs(crop - crop[:, ::-1]).max() < 4


def test_an_oblong_box_is_shown_in_its_shape(tmp_path: Path) -> None:
    (square,) = _squares(tmp_path, [Tile(PICTURE, (200, 100, 220, 140))])
    assert _box(square) == (60, 40, 99, 119)


def test_beyond_the_picture_it_is_black(tmp_path: Path) -> None:
    (square,) = _squares(tmp_path, [Tile(PICTURE, (-20, -20, 20, 20))])
    assert (square[:78, :SIDE][:, :38] == 0).all()
    assert (square[122:SIDE, 122:] == 200).all()


def test_a_file_is_shown_upright_as_its_boxes_are(tmp_path: Path) -> None:
    """A sideways photo with EXIF orientation 6: the box is one of the upright picture."""
    sideways = np.ascontiguousarray(np.rot90(PICTURE))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(sideways).save(tmp_path / "a.png", exif=exif)
    from_file, from_pixels = _squares(tmp_path, [Tile(tmp_path / "a.png", BOX), Tile(PICTURE, BOX)])
    assert (from_file == from_pixels).all()
    (text,) = _squares(tmp_path, [Tile(str(tmp_path / "a.png"), BOX)])
    assert (text == from_pixels).all()


def test_a_large_photo_is_cropped_in_the_pixels_of_its_full_size(tmp_path: Path) -> None:
    large = np.repeat(np.repeat(PICTURE, 10, axis=0), 10, axis=1)
    Image.fromarray(large).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    (square,) = _squares(tmp_path, [Tile(tmp_path / "a.jpg", (2000, 1000, 2400, 1400))])
    assert _box(square) == (40, 40, 119, 119)
    assert np.abs(square[45:115, 45:115].astype(int) - (0, 0, 255)).max() < 16
    assert np.abs(square[:36, :SIDE].astype(int) - 200).max() < 16


def test_tiles_stand_in_columns_in_their_order(tmp_path: Path) -> None:
    colours = [(10 * k, 0, 0) for k in range(5)]
    tiles = [Tile(np.full((90, 90, 3), colour, np.uint8), (30, 30, 60, 60)) for colour in colours]
    assert [tuple(square[20, 20].tolist()) for square in _squares(tmp_path, tiles, 2)] == colours
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width < 3 * SIDE
        assert 3 * SIDE < sheet.height < 4 * SIDE


def test_a_caption_stands_below_and_a_long_one_ends_in_two_lines(tmp_path: Path) -> None:
    tiles = [Tile(PICTURE, BOX, words) for words in ("", "0.93", "a long caption " * 50, "one\ntwo")]
    empty, short, long, two = (square[SIDE:] for square in _squares(tmp_path, tiles))
    assert (empty == 255).all()
    assert (short[:13] < 128).any()
    assert (short[15:] == 255).all()
    assert (long[:13] < 128).any()
    assert (long[15:] < 128).any()
    assert (two[15:] < 128).any()
    assert (np.asarray(Image.open(tmp_path / "sheet.png"))[-6:] == 255).all()


def test_a_tile_that_cannot_be_read_shows_the_reason_and_the_others_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facebatch.evaluation import sheet

    said: list[str] = []
    reason = sheet._reason

    def keep(words: str) -> Image.Image:
        said.append(words)
        return reason(words)

    monkeypatch.setattr(sheet, "_reason", keep)
    (tmp_path / "text.jpg").write_text("a text")
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "JPEG")
    (tmp_path / "short.jpg").write_bytes(file.getvalue()[:400])
    bad = [
        Tile(tmp_path / "absent.jpg", BOX),
        Tile(tmp_path / "text.jpg", BOX),
        Tile(tmp_path / "short.jpg", BOX),
        Tile("nul\0.jpg", BOX),
        Tile(PICTURE[..., 0], BOX),
        Tile(PICTURE.astype(np.float32), BOX),
        Tile(PICTURE[:0], BOX),
        Tile(PICTURE, (5, 5, 5, 9)),
        Tile(PICTURE, (5, 5, float("nan"), 9)),
    ]
    squares = _squares(tmp_path, [*bad, Tile(PICTURE, BOX)])
    words = ("No such file", "NOT_AN_IMAGE: ", "TRUNCATED: ", "null byte", "is no RGB", "float32 of", "is no RGB")
    assert len(said) == len(bad)
    for sentence, expected in zip(said, (*words, "a box without area", "a box without area"), strict=True):
        assert expected in sentence
    for square in squares[:-1]:
        assert (square[SIDE - 4] == 232).all()
        assert (square[:40] < 128).any()
    assert _box(squares[-1]) == (40, 40, 119, 119)


def test_a_sheet_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 tiles in 8 columns: expected at least one of each"):
        contact_sheet(tmp_path / "a.png", [])
    with pytest.raises(UsageError, match="1 tiles in 0 columns"):
        contact_sheet(tmp_path / "a.png", [Tile(PICTURE, BOX)], 0)
    with pytest.raises(UsageError, match="a.png cannot be written: No such file"):
        contact_sheet(tmp_path / "absent" / "a.png", [Tile(PICTURE, BOX)])


def test_rows_may_differ_in_length(tmp_path: Path) -> None:
    tile = Tile(PICTURE, BOX)
    sheet_of_rows(tmp_path / "a.png", [[tile], [tile, tile, tile]])
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    height, width = (pixels.shape[0] - 6) // 2, (pixels.shape[1] - 6) // 3
    assert width == SIDE + 6
    first, second = pixels[6 : 6 + SIDE], pixels[6 + height : 6 + height + SIDE]
    assert (first[:, 6 + width :] == 255).all()
    assert [_box(second[:, 6 + k * width :][:, :SIDE]) for k in range(3)] == [(40, 40, 119, 119)] * 3
    with pytest.raises(UsageError, match="of 0 rows without tiles: expected at least one tile"):
        sheet_of_rows(tmp_path / "a.png", [])
    with pytest.raises(UsageError, match="of 1 rows without tiles"):
        sheet_of_rows(tmp_path / "a.png", [[]])


def test_without_a_box_the_whole_picture_is_shown(tmp_path: Path) -> None:
    (square,) = _squares(tmp_path, [Tile(PICTURE, None)])
    assert not (square[:SIDE] == (255, 32, 96)).all(axis=2).any(), "nothing is drawn into it"
    assert (square[:18] == 0).all(), "400x300 fits across, and is black above and below"
    assert (square[22:138, 1:79] == 200).all()
    assert (square[62:74, 82:94] == (0, 0, 255)).all()


def test_a_file_may_be_given_by_its_bytes(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "PNG")
    from_bytes, from_pixels = _squares(tmp_path, [Tile(file.getvalue(), BOX), Tile(PICTURE, BOX)])
    assert (from_bytes == from_pixels).all()
