"""Face chips to learn from: aligned ones that are listed, and those cut out of photographs; and their random views."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as settings

from facebatch.align import CHIP, TEMPLATE
from facebatch.errors import UsageError
from facebatch.geometry import Pixels, similarity
from facebatch.training.photos import Photo

TSV = "faces.tsv"
_ROOM = 160
"""Side in pixels of what is kept around a face, so that its views can be turned, shifted and enlarged."""


@dataclass(frozen=True, slots=True)
class Face:
    """pixels: 160 x 160 x 3 RGB, the aligned chip in its middle 112; person: '' where nobody has said who it is."""

    pixels: Pixels
    person: str


@settings(frozen=True, config=ConfigDict(extra="forbid"))
class Looks:
    """How views differ from the face. Shares are probabilities, the rest the widest changes."""

    turn: float = 8.0
    """Degrees."""
    scale: float = 0.08
    stretch: float = 0.12
    """Wider or narrower, by its logarithm."""
    shift: float = 4.0
    """Pixels of the chip."""
    bent: float = 2.5
    """Pixels by which parts of the face are moved apart: other features, and so another person."""
    mixed: float = 0.7
    """Two faces laid over each other, or the upper part of one above the lower part of another: people whom nobody has
    met, endlessly many, and the teacher's word on them is as good."""
    grey: float = 0.15
    blurred: float = 0.25
    covered: float = 0.15


def listed(folder: Path) -> list[Face]:
    """The aligned 112x112 chips that the folder's `faces.tsv` names (columns file and, where it is known,
    identity), with their outermost pixels repeated around them. Raises UsageError."""
    try:
        with open(folder / TSV, encoding="utf-8", newline="") as stream:
            table = csv.DictReader(stream, delimiter="\t")
            names, rows = table.fieldnames or (), list(table)
    except OSError as error:
        raise UsageError(f"{folder / TSV} cannot be read: {error.strerror}. It lists aligned faces") from None
    if "file" not in names:
        raise UsageError(f"{folder / TSV} has no column file. It lists aligned faces")
    border = (_ROOM - CHIP) // 2
    found = []
    for number, row in enumerate(rows, 2):
        chip = cv2.imread(str(folder / row["file"]), cv2.IMREAD_COLOR)
        if chip is None or chip.shape[:2] != (CHIP, CHIP):
            raise UsageError(f"{folder / TSV}, line {number}: {row['file']} is no picture of {CHIP}x{CHIP} pixels")
        edges = ((border, border), (border, border), (0, 0))
        found.append(Face(np.pad(chip[:, :, ::-1], edges, mode="edge"), row.get("identity") or ""))
    return found


def cut(photos: Iterable[Photo], smallest: float) -> list[Face]:
    """The faces of photographs whose points are known and whose shorter box side is at least `smallest` pixels."""
    found = []
    border = (_ROOM - CHIP) / 2
    for photo in photos:
        sides = (photo.boxes[:, 2:] - photo.boxes[:, :2]).min(axis=1, initial=np.inf)
        good = np.flatnonzero(np.isfinite(photo.points).all(axis=(1, 2)) & ~photo.ignored & (sides >= smallest))
        pixels = photo.read() if len(good) else None
        for face in good:
            matrix = similarity(photo.points[face], TEMPLATE + border)
            found.append(Face(_warped(cast(Pixels, pixels), matrix, _ROOM), ""))
    return found


def split(faces: Sequence[Face], share: float) -> tuple[list[Face], list[Face]]:
    """Those to learn from and those to judge by, as the pixels say; people with names whole, as their names say, at
    least two of them where there are enough: how well known people are told apart says nothing of others. Raises
    UsageError."""
    people = sorted({face.person for face in faces if face.person}, key=lambda name: _drawn(name.encode()))
    unseen = set(people[: max(2, round(share * len(people)))] if len(people) > 3 else [])
    learn: list[Face] = []
    judge: list[Face] = []
    for face in faces:
        held = face.person in unseen if face.person else _drawn(face.pixels.tobytes()) < share
        (judge if held else learn).append(face)
    if not learn or not judge:
        raise UsageError(f"{len(faces)} faces are too few to judge by a share of {share} of them")
    return learn, judge


def shares(faces: Sequence[Face], most: int) -> NDArray[np.float64]:
    """How often each face is drawn, as running sums up to 1: one as another, but all of a person with a name no
    more often than `most` without. People of whom there are hundreds of faces are learned by heart."""
    counts = Counter(face.person for face in faces)
    weights = np.array([min(1.0, most / counts[face.person]) if face.person else 1.0 for face in faces])
    return cast(NDArray[np.float64], np.cumsum(weights) / weights.sum())


def chip(face: Face) -> Pixels:
    """The aligned face as the job would cut it, 112 x 112 x 3."""
    edge = (_ROOM - CHIP) // 2
    return np.ascontiguousarray(face.pixels[edge : edge + CHIP, edge : edge + CHIP])


def view(faces: Sequence[Face], drawn: NDArray[np.float64], random: Generator, how: Looks) -> Pixels:
    """A random look at a face that is drawn by `shares`, 112 x 112 x 3: turned, bent, lit and blurred otherwise, maybe
    mixed with another."""
    seen = _posed(_face(faces, drawn, random), random, how)
    if random.random() < how.mixed:
        seen = _mixed(seen, _posed(_face(faces, drawn, random), random, how), random)
    return np.ascontiguousarray(_covered(_weathered(_bent(seen, random, how), random, how), random, how), np.uint8)


def _face(faces: Sequence[Face], drawn: NDArray[np.float64], random: Generator) -> Face:
    return faces[min(int(np.searchsorted(drawn, random.random(), side="right")), len(faces) - 1)]


def _mixed(one: Pixels, other: Pixels, random: Generator) -> Pixels:
    """Laid over each other, or one above the other with a seam that is not seen."""
    if random.random() < 0.5:
        share: Any = random.uniform(0.25, 0.75)
    else:
        seam, width = random.uniform(0.3, 0.75) * CHIP, random.uniform(2, 12)
        share = (1 / (1 + np.exp((np.arange(CHIP) - seam) / width)))[:, None, None]
    return cast(Pixels, np.round(one * share + other * (1 - share)).astype(np.uint8))


def _bent(seen: Pixels, random: Generator, how: Looks) -> Pixels:
    """Each pixel moved by a field that is smooth over a quarter of the face."""
    if not how.bent:
        return seen
    field = random.normal(0, how.bent, (5, 5, 2)).astype(np.float32)
    places = np.stack(np.meshgrid(np.arange(CHIP), np.arange(CHIP)), axis=-1).astype(np.float32)
    places += cv2.resize(field, (CHIP, CHIP), interpolation=cv2.INTER_CUBIC)
    return cast(Pixels, cv2.remap(seen, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))  # type: ignore[call-overload]


def _posed(face: Face, random: Generator, how: Looks) -> Pixels:
    middle = (_ROOM - 1) / 2
    turn, scale = np.deg2rad(random.normal(0, how.turn / 2)), np.exp(random.normal(0, how.scale / 2))
    shift = random.normal(0, how.shift / 2, 2)
    along, across = scale * np.cos(turn), scale * np.sin(turn)
    wide = np.exp(random.normal(0, how.stretch / 2))
    pixels = face.pixels[:, ::-1] if random.random() < 0.5 else face.pixels
    goal = (CHIP - 1) / 2 + shift
    matrix = np.array([[along * wide, -across, 0], [across * wide, along, 0.0]])
    matrix[:, 2] = goal - matrix[:, :2] @ [middle, middle]
    return cast(Pixels, cv2.warpAffine(np.ascontiguousarray(pixels), matrix, (CHIP, CHIP), flags=cv2.INTER_LINEAR))


def _weathered(seen: Pixels, random: Generator, how: Looks) -> Pixels:
    light = seen.astype(np.float32) * random.uniform(0.6, 1.4)
    light = (light - light.mean()) * random.uniform(0.6, 1.4) + light.mean()
    luma = (light @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    light = luma + (light - luma) * (0.0 if random.random() < how.grey else random.uniform(0.6, 1.4))
    seen = np.clip(light, 0, 255).astype(np.uint8)
    if random.random() < how.blurred:  # as a small face is, enlarged
        side = int(random.integers(20, 80))
        small = cv2.resize(seen, (side, side), interpolation=cv2.INTER_AREA)
        seen = cast(Pixels, cv2.resize(small, (CHIP, CHIP), interpolation=cv2.INTER_LINEAR))
    if random.random() < how.blurred:
        options = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(20, 90))]
        seen = cast(Pixels, cv2.imdecode(cv2.imencode(".jpg", seen, options)[1], cv2.IMREAD_COLOR))
    return seen


def _covered(seen: Pixels, random: Generator, how: Looks) -> Pixels:
    if random.random() < how.covered:
        width, height = random.integers(15, 50, 2)
        x, y = random.integers(0, CHIP - width), random.integers(0, CHIP - height)
        seen = seen.copy()
        seen[y : y + height, x : x + width] = random.integers(0, 256, 3)
    return seen


def _drawn(data: bytes) -> float:
    """A number from 0 to 1 that hangs on nothing but the bytes."""
    return int.from_bytes(hashlib.sha256(data).digest()[:4]) / 2**32


def _warped(pixels: Pixels, matrix: np.ndarray, side: int) -> Pixels:
    """Halved first until less than a factor of two is left to shrink, as everywhere."""
    while np.hypot(*matrix[:, 0]) <= 0.5 and min(pixels.shape[:2]) >= 2:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = cast(
            Pixels, cv2.resize(pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        )
        matrix = matrix @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1.0]])
    flags = cv2.INTER_LINEAR
    return cast(Pixels, cv2.warpAffine(pixels, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE))
