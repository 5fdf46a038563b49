"""Contact sheets: crops around boxes, side by side, to look at misses and false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facebatch.config import Decode
from facebatch.decode import decode, probe
from facebatch.errors import UsageError
from facebatch.geometry import Picture, Pixels, halvings, warp
from facebatch.reasons import Undecodable

SIDE = 160
_LINES, _LINE, _SPACE = 2, 13, 6
_BOX = (255, 32, 96)


@dataclass(frozen=True, slots=True)
class Tile:
    """What a tile shows. `image`: a path, the bytes of a file, or upright RGB pixels (uint8, height x width x 3).
    `box`: x_min, y_min, x_max, y_max in pixels of the upright full-size picture, edge coordinates; None: all of it, as
    large as fits. `caption`: of one or two short lines."""

    image: str | Path | bytes | Pixels
    box: tuple[float, float, float, float] | None
    caption: str = ""


def contact_sheet(file: str | Path, tiles: Sequence[Tile], columns: int = 8) -> None:
    """Write a PNG of squares of 160 pixels, each the box with surroundings of twice its longer side, black beyond the
    picture, the caption below. What cannot be read, and a box without area, shows the reason instead.

    Files are decoded as for detection, one at a time: beside the sheet (100 KB a tile) one picture is in memory.
    Raises UsageError for no tiles or columns, and where the file cannot be written.
    """
    if not tiles or columns < 1:
        raise UsageError(f"a contact sheet of {len(tiles)} tiles in {columns} columns: expected at least one of each")
    sheet_of_rows(file, [tiles[k : k + columns] for k in range(0, len(tiles), columns)])


def sheet_of_rows(file: str | Path, rows: Sequence[Sequence[Tile]]) -> None:
    """Write the same PNG with these tiles in each row, which may differ in length. Raises UsageError likewise."""
    columns = max(map(len, rows), default=0)
    if not columns:
        raise UsageError(f"a contact sheet of {len(rows)} rows without tiles: expected at least one tile")
    width, height = SIDE + _SPACE, SIDE + _LINES * _LINE + _SPACE
    sheet = Image.new("RGB", (columns * width + _SPACE, len(rows) * height + _SPACE), "white")
    pen = ImageDraw.Draw(sheet)
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            x, y = _SPACE + column * width, _SPACE + row * height
            sheet.paste(_square(tile), (x, y))
            _write(pen, tile.caption, (x, y + SIDE), _LINES)
    try:
        sheet.save(file, "PNG")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from None


def _square(tile: Tile) -> Image.Image:
    try:
        if tile.box and not (np.isfinite(tile.box).all() and tile.box[2] > tile.box[0] and tile.box[3] > tile.box[1]):
            raise ValueError(f"a box without area: {', '.join(f'{side:g}' for side in tile.box)}")
        picture = _picture(tile.image)
    except OSError as error:
        return _reason(error.strerror or str(error))
    except (ValueError, Undecodable) as error:
        return _reason(str(error))
    low, high = np.array(tile.box or (0, 0, picture.width, picture.height), np.float64).reshape(2, 2)
    factor = SIDE / ((2 if tile.box else 1) * float((high - low).max()))
    corner = (low + high) / 2 - SIDE / factor / 2
    offset = factor * (0.5 - corner) - 0.5  # the warp maps pixel centres, and c is c + 0.5 on the edge
    pixels = warp(picture, np.array([[factor, 0, offset[0]], [0, factor, offset[1]]]), SIDE, SIDE)
    square = Image.fromarray(pixels)
    if tile.box:
        corners = np.rint((np.stack([low, high]) - corner) * factor - [[0], [1]])
        ImageDraw.Draw(square).rectangle([*corners[0], *np.maximum(corners[0], corners[1])], outline=_BOX)
    return square


def _picture(image: str | Path | bytes | Pixels) -> Picture:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"{image.dtype} of shape {image.shape} is no RGB picture")
        return Picture(halvings(np.ascontiguousarray(image)), image.shape[1], image.shape[0])
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    return decode(data, probe(data, Decode()), Decode())


def _reason(words: str) -> Image.Image:
    square = Image.new("RGB", (SIDE, SIDE), (232, 232, 232))
    _write(ImageDraw.Draw(square), words, (4, 4), SIDE // _LINE - 1)
    return square


def _write(pen: ImageDraw.ImageDraw, text: str, at: tuple[int, int], lines: int) -> None:
    """Text broken to the width of a tile, at any letter: paths have no spaces. What does not fit ends with dots."""
    font = ImageFont.load_default(11)
    width = SIDE - 8
    broken = [""]
    for letter in text:
        if letter == "\n":
            broken.append("")
        elif font.getlength(broken[-1] + letter) <= width:
            broken[-1] += letter
        else:
            broken.append(letter)
    if len(broken) > lines:
        broken = [*broken[: lines - 1], broken[lines - 1][:-2] + "..."]
    for k, line in enumerate(broken):
        pen.text((at[0], at[1] + k * _LINE), line, fill="black", font=font)
