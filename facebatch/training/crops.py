"""Training pictures: windows of photographs in random scale, place, mirror image and colour.

Everything is drawn from a generator that is given, so that sample k of a run is the same whoever makes it and whenever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as settings

from facebatch.geometry import Floats, Pixels
from facebatch.training.photos import Photo

MIRRORED = (1, 0, 2, 4, 3)
"""The five points of a mirror image: its left eye was the right one."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A square of RGB pixels and its faces, as in `Photo`, in its own pixels."""

    pixels: Pixels
    boxes: Floats
    points: Floats
    ignored: NDArray[np.bool_]


@settings(frozen=True, config=ConfigDict(extra="forbid"))
class Drawing:
    """What windows are drawn. Shares are probabilities; sides are in pixels of the canvas, of a box's longer side."""

    mosaics: tuple[float, ...] = (0.3, 0.12)
    """Four photographs on one canvas, two by two, and nine: more faces, smaller ones, more ground."""
    whole: float = 0.2
    """The whole photograph, as in use."""
    smallest: float = 8.0
    """Smaller faces are ignored."""
    largest: float = 280.0
    """Larger ones, too."""
    grey: float = 0.1
    blurred: float = 0.1


def draw(photos: Sequence[Photo], index: int, size: int, random: Generator, how: Drawing) -> Crop:
    """A training picture of `size` x `size` around photograph `index`, among others where it is a mosaic."""
    across = 1 + int(random.choice(1 + len(how.mosaics), p=[1 - sum(how.mosaics), *how.mosaics]))
    others = random.integers(0, len(photos), across**2 - 1)
    side = size // across
    parts = [_window(photos[i], side, random, how) for i in (index, *others)]
    pixels = np.zeros((size, size, 3), np.uint8)
    shifts = [np.array([k % across, k // across], np.float32) * side for k in range(across**2)]
    for part, (x, y) in zip(parts, np.array(shifts, np.int64), strict=True):
        pixels[y : y + side, x : x + side] = part.pixels
    crop = Crop(
        pixels,
        np.concatenate([p.boxes + np.tile(s, 2) for p, s in zip(parts, shifts, strict=True)]),
        np.concatenate([p.points + s for p, s in zip(parts, shifts, strict=True)]),
        np.concatenate([p.ignored for p in parts]),
    )
    if random.random() < 0.5:
        crop = mirrored(crop)
    return Crop(coloured(crop.pixels, random, how), crop.boxes, crop.points, crop.ignored)


def mirrored(crop: Crop) -> Crop:
    """The mirror image, whose left is the right."""
    width = crop.pixels.shape[1]
    boxes, points = crop.boxes.copy(), crop.points[:, MIRRORED].copy()
    boxes[:, [0, 2]] = width - crop.boxes[:, [2, 0]]
    points[:, :, 0] = width - points[:, :, 0]
    return Crop(np.ascontiguousarray(crop.pixels[:, ::-1]), boxes, points, crop.ignored)


def cut(photo: Photo, pixels: Pixels, window: tuple[float, float, float], size: int, how: Drawing) -> Crop:
    """A square window (x, y, side; edge coordinates, may reach beyond the photograph, where it is black), as a canvas.

    Faces whose centre is outside are left out, and ignored where they reach in; those that are too small or too large
    on the canvas are ignored.
    """
    x, y, side = window
    factor = size / side
    matrix = np.array([[factor, 0, (0.5 - x) * factor - 0.5], [0, factor, (0.5 - y) * factor - 0.5]])
    canvas = cast(Pixels, cv2.warpAffine(*_shrunk(pixels, matrix), (size, size), flags=cv2.INTER_LINEAR))
    corner = np.array([x, y], np.float32)
    boxes = ((photo.boxes - np.tile(corner, 2)) * factor).astype(np.float32)
    points = ((photo.points - corner) * factor).astype(np.float32)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centres > 0) & (centres < size)).all(axis=1)
    reaching = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < size).all(axis=1)
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    unsure = photo.ignored | ~inside | (longer < how.smallest) | (longer > how.largest)
    boxes[:, 2:] = np.minimum(boxes[:, 2:], size)
    boxes[:, :2] = np.maximum(boxes[:, :2], 0)
    return Crop(canvas, boxes[reaching], points[reaching], unsure[reaching])


def coloured(pixels: Pixels, random: Generator, how: Drawing) -> Pixels:
    """Other light, contrast, saturation and hue; now and then grey, blurred or full of JPEG's blocks."""
    found = pixels.astype(np.float32)
    if random.random() < 0.5:
        found *= random.uniform(0.6, 1.4)
    if random.random() < 0.5:
        found = (found - found.mean()) * random.uniform(0.6, 1.4) + found.mean()
    luma = found @ np.array([0.299, 0.587, 0.114], np.float32)
    if random.random() < how.grey:
        found = np.repeat(luma[..., None], 3, axis=2)
    elif random.random() < 0.5:
        found = luma[..., None] + (found - luma[..., None]) * random.uniform(0.5, 1.5)
        found *= random.uniform(0.9, 1.1, 3).astype(np.float32)
    seen = cast(Pixels, np.clip(found, 0, 255).astype(np.uint8))
    if random.random() < how.blurred:
        seen = cast(Pixels, cv2.GaussianBlur(seen, (0, 0), random.uniform(0.4, 1.5)))
    if random.random() < how.blurred:
        options = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(20, 80))]
        seen = cast(Pixels, cv2.imdecode(cv2.imencode(".jpg", seen, options)[1], cv2.IMREAD_COLOR))
    return np.ascontiguousarray(seen)


def _window(photo: Photo, size: int, random: Generator, how: Drawing) -> Crop:
    pixels = photo.read()
    return cut(photo, pixels, _place(photo, pixels.shape[1], pixels.shape[0], size, random, how), size, how)


def _place(
    photo: Photo, width: int, height: int, size: int, random: Generator, how: Drawing
) -> tuple[float, float, float]:
    """A window in which a face that was drawn has a size that was drawn, evenly in logarithms: PyramidBox's
    data-anchor sampling. Photographs without faces are enlarged at random."""
    faces = np.flatnonzero(~photo.ignored)
    longest = float(max(width, height))
    if random.random() < how.whole:
        return 0.0, 0.0, longest
    if not len(faces):
        side = longest * np.exp(random.uniform(np.log(0.3), np.log(1.2)))
        return _between(random, 0, width - side), _between(random, 0, height - side), side
    box = photo.boxes[random.choice(faces)]
    face = float((box[2:] - box[:2]).max())
    # At most three times enlarged, what is more is blur; and a window little larger than the photograph.
    # Neither too small nor too large to be learned, also where rounding says so.
    largest = how.largest / 1.02
    low = min(max(how.smallest * 1.2, face * size / (longest * 1.3)), largest)
    high = max(low, min(0.85 * size, face * 3, largest))
    target = np.exp(random.uniform(np.log(low), np.log(high)))
    side = size * face / target
    middle = (box[:2] + box[2:]) / 2
    # The face's centre is anywhere in the window, but not nearer to the edge than half of its size.
    margin = min(0.5, 0.5 * target / size)
    x, y = middle - side * random.uniform(margin, 1 - margin, 2)
    # Rather the photograph than what is black beside it.
    room = np.array([width, height]) - side
    x, y = np.clip([x, y], np.minimum(0, room), np.maximum(0, room))
    return float(x), float(y), float(side)


def _between(random: Generator, one: float, other: float) -> float:
    return float(random.uniform(min(one, other), max(one, other)))


def _shrunk(pixels: Pixels, matrix: NDArray[np.float64]) -> tuple[Pixels, NDArray[np.float64]]:
    """Pixels halved until the matrix shrinks them by less than two, and the matrix for those: no aliasing."""
    while matrix[0, 0] <= 0.5 and min(pixels.shape[:2]) >= 2:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = cast(
            Pixels, cv2.resize(pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        )
        matrix = matrix @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1.0]])
    return pixels, matrix
