"""A sample of the faces of a dataset, read again from their sources and cut out as the embedder has seen them.

Each face has the same chance. Sources that are gone, replaced or out of reach are counted and named, and are no error:
archives live on.
"""

from __future__ import annotations

import io
import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from facebatch import config, plan
from facebatch.align import chip_by_box, chip_by_landmarks
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.fingerprint import content_sha256
from facebatch.geometry import Picture
from facebatch.ledger import Record, State, merged
from facebatch.reader import Reader
from facebatch.reasons import Reason
from facebatch.reporting.tally import read_columns
from facebatch.sources.base import Base
from facebatch.stages import alone, open_picture
from facebatch.verify import few
from facebatch.work import Work

_BOX = ("x_min", "y_min", "x_max", "y_max")
_FACE = ("image_id", "uri", "member", *_BOX, "landmarks", "score", "quality", "quality_reasons")
_PLACE = ("image_id", "shard_id", "index", "content_sha256")
_JPEG = 85
"""Quality of what is shown: some 4 kB for a face."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A face. jpeg: the file of its 112x112 chip; reasons: what speaks against it."""

    name: str
    score: float
    quality: float
    reasons: tuple[str, ...]
    jpeg: bytes


@dataclass(slots=True)
class Sheet:
    """Faces in the order of the tables. `unread`: those that could not be shown, by reason; `named`: some of them."""

    faces: int
    drawn: int
    seed: int
    tiles: list[Tile] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """number: of the face among all; row: of `faces`; sha256: of the image as it was indexed."""

    number: int
    row: dict[str, Any]
    sha256: str | None


def sample(dataset: Dataset, state: State, settings: config.Config, faces: int, seed: int) -> Sheet:
    """So many faces of the dataset, or all where there are fewer. The same ones for the same seed, as long as nothing
    is committed. settings: those of the dataset (`facebatch.audit.configuration`). One picture is in memory at a time.

    Raises FacebatchError where a table cannot be read.
    """
    total = sum(record.faces.rows for record in state.records)
    numbers = sorted(random.Random(seed).sample(range(total), min(faces, total)))
    sheet = Sheet(total, len(numbers), seed)
    wanted: dict[str, dict[int, list[_Drawn]]] = defaultdict(lambda: defaultdict(list))
    for name, index, one in _drawn(dataset, state.records, numbers):
        wanted[name][index].append(one)
    reader = Reader(dataset, Base.at(settings.base_uri), settings.decode.max_bytes)
    tiles: dict[int, Tile] = {}
    unread: list[str] = []
    for shard in [shard for shard in plan.shards(dataset) if shard.shard_id in wanted]:
        left = wanted.pop(shard.shard_id)
        for work in reader.chosen(shard, merged((index, index + 1) for index in left)):
            drawn = left.pop(work.index)
            tiles |= _shown(work, drawn, settings.decode)
            if work.reason:
                sheet.unread[work.reason] += len(drawn)
                unread += [f"{_name(one.row)}: {work.detail or work.reason}" for one in drawn]
        for lost in left.values():
            sheet.unread["not in their container any more"] += len(lost)
            unread += [_name(one.row) for one in lost]
    for lost in (drawn for left in wanted.values() for drawn in left.values()):
        sheet.unread["of a shard that no plan names"] += len(lost)
        unread += [_name(one.row) for one in lost]
    sheet.tiles = [tiles[number] for number in sorted(tiles)]
    sheet.named = few(unread, "faces")
    return sheet


def _drawn(dataset: Dataset, records: list[Record], numbers: list[int]) -> Iterator[tuple[str, int, _Drawn]]:
    """The rows of faces by their number among all, with the place of their image. numbers: rising."""
    ends = list(accumulate(record.faces.rows for record in records))
    for which in sorted({bisect_right(ends, number) for number in numbers}):
        record = records[which]
        first = ends[which] - record.faces.rows
        mine = [number for number in numbers if first <= number < ends[which]]
        rows = read_columns(dataset, record.faces, _FACE).take(pa.array([number - first for number in mine]))
        images = read_columns(dataset, record.images, _PLACE)
        owners = images.filter(pc.is_in(images["image_id"], rows["image_id"].combine_chunks())).to_pylist()
        places = {owner["image_id"]: owner for owner in owners}
        for number, row in zip(mine, rows.to_pylist(), strict=True):
            place = places.get(row["image_id"])
            if place is None:
                raise FacebatchError(
                    f"{record.faces.path} has a face of image {row['image_id']}, which is not in {record.images.path}: "
                    f"run `facebatch verify {dataset.root}`"
                )
            yield place["shard_id"], place["index"], _Drawn(number, row, place["content_sha256"])


def _shown(work: Work, drawn: list[_Drawn], limits: config.Decode) -> dict[int, Tile]:
    """The faces of an image, which ends with a reason where there is nothing to be seen of them."""
    tiles: dict[int, Tile] = {}

    def cut(work: Work) -> None:
        if work.data and drawn[0].sha256 not in (None, content_sha256(work.data)):
            work.end(Reason.SOURCE_CHANGED, "it has other bytes than when it was indexed")
        elif picture := open_picture(work, limits):
            tiles.update((one.number, _tile(picture, one.row)) for one in drawn)

    if work.reason is None:
        alone("show", cut, work)
    return {} if work.reason else tiles


def _tile(picture: Picture, row: dict[str, Any]) -> Tile:
    points = row["landmarks"]
    if points is None:
        chip = chip_by_box(picture, np.array([row[side] for side in _BOX], np.float32))
    else:
        chip = chip_by_landmarks(picture, np.array(points, np.float32).reshape(5, 2))
    file = io.BytesIO()
    Image.fromarray(chip).save(file, "JPEG", quality=_JPEG)
    return Tile(_name(row), row["score"], row["quality"], tuple(row["quality_reasons"]), file.getvalue())


def _name(row: dict[str, Any]) -> str:
    """Of the image, as a person finds it."""
    return f"{row['uri']} {row['member']}".strip()
