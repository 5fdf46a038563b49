"""From images to vectors, through the job's own stages, in this process and on its CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from facebatch.align import CHIP
from facebatch.config import BATCH, Config, Decode
from facebatch.decode import decode, probe
from facebatch.errors import UsageError
from facebatch.geometry import Floats, Pixels, resize
from facebatch.networks import Networks
from facebatch.packs import Model
from facebatch.quality import assess
from facebatch.reasons import Status, Undecodable
from facebatch.stages import ChipStage, DecodeStage, DetectStage, EmbedStage, Place, groups, open_picture
from facebatch.watchdog import Asleep
from facebatch.work import Face, Work

How = Literal["photos", "aligned"]
Align = Literal["landmarks", "box"]
Tell = Callable[[str], None]

ALIGNED_SIDE = 128
"""Pixels of the longer side up to which an image is taken for a chip: they are 112 x 112, 112 x 96 or 128 x 128."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Embedded:
    """The face of an image. `face`: as the job makes it, with the vector that `embed.flip` asks for, in pixels of the
    upright picture (with its border, where there is one). `plain`, `flipped`: unit vectors, float32, 512, of the chip
    alone and of the chip and its mirror image."""

    face: Face
    plain: Floats
    flipped: Floats


def how_shown(image: str | bytes, limits: Decode) -> How:
    """Whether an image is a chip that was aligned before (up to 128 pixels on its longer side) or a photo.

    Raises UsageError for one that cannot be read.
    """
    try:
        header = probe(_read(image), limits)
    except Undecodable as error:
        raise UsageError(f"{_name(image, 0)} is no image that can be read: {error.detail} ({error.reason})") from None
    return "aligned" if max(header.width, header.height) <= ALIGNED_SIDE else "photos"


def embed(
    images: Sequence[str | bytes],
    config: Config,
    networks: Networks | Model,
    how: How,
    pad: float = 0.0,
    tell: Tell = lambda _: None,
    align: Align = "landmarks",
) -> list[Embedded | None]:
    """The vector of each image, a path or encoded bytes; None where no face was found or the file cannot be decoded,
    which is told.

    networks: those of the job; for aligned images the embedder alone is enough.
    how: "photos" go through all stages; of several faces the one is taken whose area times score is largest, as a photo
    of a list of pairs shows one person. "aligned" images are chips already: they are stretched to 112 x 112 and
    embedded. Their quality is that of the chip, with the image's shorter side as the size of the face and the score 1.
    pad: black border on each side of a photo, as a share of its longer side, for crops in which the face fills the
    frame. Of no meaning for aligned images.
    align: "box" cuts chips out by boxes, whatever landmarks a detector gives.

    In memory are 32 (`run.batch`) encoded images and 64 (`run.megapixels`) decoded megapixels at a time.

    Stretching is what most tools do, so that figures can be compared. On the 400 + 400 pairs of AT&T faces (92 x 112)
    it gives an AUC of 0.9960 for edgeface-xs, 0.9762 for edgeface-xxs and 0.9987 for w600k-mbf; black at the sides
    gives 0.9969, 0.9817 and 0.9997, and the central square alone 0.9962, 0.9709 and 0.9988.

    Raises UsageError for a file that cannot be opened.
    """
    if not 0 <= pad < float("inf"):
        raise UsageError(f"a border of {pad} of the longer side: expected 0 or more")
    place = Place(threads=config.run.threads or os.cpu_count() or 1)
    embedder = networks if isinstance(networks, Model) else networks.embedder
    if how == "aligned":
        prepare = _chips(config)
    elif isinstance(networks, Model):
        raise UsageError(f"photos need a detector, and there is only {embedder.pack.name}")
    else:
        prepare = _photos(config, networks, place, pad, align)
    vectors = EmbedStage(replace(config, embed=replace(config.embed, flip=False)), embedder, place)
    found: list[Embedded | None] = []
    lost = list[Work]()
    size = config.run.batch or BATCH
    for start in range(0, len(images), size):
        part = images[start : start + size]
        works = [_work(image, start + k) for k, image in enumerate(part)]
        prepare(works)
        found += _embedded(works, vectors, config.embed.flip)
        lost += [work for work in works if not work.faces]
    _report(lost, len(images), tell)
    return found


def _photos(config: Config, networks: Networks, place: Place, pad: float, align: Align) -> Callable[[list[Work]], None]:
    """Works to their one chip each."""
    gate = networks.gate
    look = DecodeStage(config, networks.detector.pack, place, keep=True, gate=gate.pack if gate else None)
    detect = DetectStage(config, networks.detector, place, gate)
    cut = ChipStage(config, place, networks.landmarks if align == "landmarks" else None)

    def prepare(works: list[Work]) -> None:
        for work in works if pad else ():
            work.data = _with_border(work.data or b"", pad, config.decode)
        for group in groups(works, config.decode, config.run.megapixels * 1_000_000, Asleep()):
            for work in detect(look(group)):
                work.faces = sorted(work.faces, key=_prominence)[-1:]
                for face in work.faces if align == "box" else ():
                    face.landmarks = None
            cut(group)

    return prepare


def _chips(config: Config) -> Callable[[list[Work]], None]:
    """Works whose images are chips to these chips."""

    def prepare(works: list[Work]) -> None:
        for work in works:
            picture = open_picture(work, config.decode)
            work.data = None
            if picture:
                chip = picture.shown(resize(picture.levels, CHIP, CHIP)[0])
                face = Face(np.array([0, 0, picture.width, picture.height], np.float32), 1.0, None, chip)
                side = float(min(picture.width, picture.height))
                face.quality = assess(chip, side, face.score, None, config.quality)
                work.status, work.faces = Status.OK, [face]

    return prepare


def _embedded(works: list[Work], vectors: EmbedStage, flip: bool) -> Iterator[Embedded | None]:
    """One for each work. The mirror images go through the stage too, and are added up as `facebatch.embed` does."""
    faces = [face for work in works for face in work.faces]
    chips = [face.chip for face in faces]
    vectors(works)
    raw = [_raw(face) for face in faces]
    for face, chip in zip(faces, chips, strict=True):
        face.chip = None if chip is None else chip[:, ::-1]
    vectors(works)
    both = {id(f): (one, np.float32(0.5) * (one + _raw(f))) for f, one in zip(faces, raw, strict=True)}
    for work in works:
        if not work.faces:
            yield None
            continue
        (face,) = work.faces
        wanted = both[id(face)][flip]
        face.embedding, face.embedding_norm = _unit(wanted), float(np.linalg.norm(wanted))
        yield Embedded(face, *map(_unit, both[id(face)]))


def _raw(face: Face) -> Floats:
    """The vector before it was made a unit."""
    assert face.embedding is not None
    return face.embedding * np.float32(face.embedding_norm)


def _unit(vector: Floats) -> Floats:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


def _prominence(face: Face) -> float:
    width, height = face.box[2:] - face.box[:2]
    return float(width * height) * face.score


def _with_border(data: bytes, pad: float, limits: Decode) -> bytes:
    """The image as PNG with a black border; a file that cannot be decoded as it is, for the stages to say why."""
    try:
        picture = decode(data, probe(data, limits), limits)
    except Undecodable:
        return data
    pixels: Pixels = picture.shown(picture.levels[0])
    width = round(pad * max(pixels.shape[:2]))
    file = BytesIO()
    Image.fromarray(np.pad(pixels, ((width, width), (width, width), (0, 0)))).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _work(image: str | bytes, index: int) -> Work:
    data = _read(image)
    return Work("", index, _name(image, index), "", len(data), data=data)


def _read(image: str | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise UsageError(f"{image} cannot be read: {error.strerror}") from None


def _name(image: str | bytes, index: int) -> str:
    return image if isinstance(image, str) else f"image {index + 1}"


def _report(lost: list[Work], images: int, tell: Tell) -> None:
    """What became of the images without a vector, each reason with the first that have it."""
    reasons: dict[str, list[str]] = {}
    for work in lost:
        reasons.setdefault(work.reason or "no face was found", []).append(work.uri)
    for reason, names in reasons.items():
        more = "" if len(names) <= _NAMED else ", ..."
        tell(f"{len(names)} of {images} images have no vector ({reason}): {', '.join(names[:_NAMED])}{more}")
