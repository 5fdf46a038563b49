"""Detection: from upright pictures to faces in full-size pixels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facebatch import config
from facebatch.detectors import Candidates, Decoder, priors, rpn, scrfd, ssdlite, ultraface, yunet
from facebatch.errors import UsageError
from facebatch.geometry import Floats, Picture, View, clip, iou, letterbox, stretch, tiles
from facebatch.nms import nms
from facebatch.packs import Pack, Size, Tiles
from facebatch.session import CPU, Session, buckets

_DECODERS: dict[str, Decoder] = {
    "priors": priors.decode,
    "rpn": rpn.decode,
    "scrfd": scrfd.decode,
    "ssdlite": ssdlite.decode,
    "ultraface": ultraface.decode,
    "yunet": yunet.decode,
}


_FIRST = ("canvases", "fill", "min_face")
_TILES = Tiles(across=2, overlap=0.1, max_face=0.1)
"""Of packs that have none of their own, where the user asks for parts. YuNet-n gains 0.047 of AP on 282 photos."""
_SAME = 0.4
"""IoU from which on boxes of two looks show the same face."""
_EDGE = 3
"""Pixels of a view: a box that comes so near to its edge may be a part of a face."""


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces of one image, best first. boxes: n x 4 and landmarks: n x 5 x 2 in pixels of the upright full-size
    picture, edge coordinates; scores: n. float32. `landmarks` is None for a detector that gives boxes only."""

    boxes: Floats
    scores: Floats
    landmarks: Floats | None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class Pass:
    """One look at a picture: on which canvases, how much of them it fills, and how large a box has to be and may be, in
    shares of the picture's longer side. With `across` above 1 it is looked at in so many parts each way, which share
    `overlap` of its width and height."""

    canvases: tuple[Size, ...]
    fill: float = 1.0
    min_face: float = 0.0
    max_face: float = 1.0
    across: int = 1
    overlap: float = 0.0
    yields_to: float = 0.0
    """Where the first look has a face of this score or more, this one has none, unless the first saw the picture
    enlarged; 0: it keeps what it has."""

    @property
    def views(self) -> int:
        """How many views of a picture it makes."""
        return self.across**2


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the configuration and the pack decides which boxes come out."""

    resize: str
    passes: tuple[Pass, ...]
    score: float
    nms: float

    @classmethod
    def of(cls, chosen: config.Detect, pack: Pack) -> Settings:
        passes = [Pass(pack.input.canvases)]
        if chosen.close_up and pack.close_up:
            sure = pack.score if pack.close_up.yields else 0.0
            passes.append(Pass(pack.close_up.canvases, pack.close_up.fill, pack.close_up.min_face, yields_to=sure))
        if chosen.tiles or (chosen.tiles is None and pack.tiles):
            parts = pack.tiles or _TILES
            passes.append(
                Pass(pack.input.canvases, max_face=parts.max_face, across=parts.across, overlap=parts.overlap)
            )
        score = pack.score if chosen.score is None else chosen.score
        return cls(pack.input.resize, tuple(passes), score, pack.nms if chosen.nms is None else chosen.nms)

    @classmethod
    def of_gate(cls, chosen: config.Gate, pack: Pack) -> Settings:
        """A gate takes one look."""
        return cls(pack.input.resize, (Pass(pack.input.canvases),), chosen.score, pack.nms)

    @property
    def view_bytes(self) -> int:
        """Of all that is shown of one picture, at most."""
        return sum(3 * look.views * max(width * height for width, height in look.canvases) for look in self.passes)

    def terms(self) -> dict[str, Any]:
        """What the contract says of them. What was added later is said where it is used."""
        plain = asdict(Pass(()))
        passes = [
            {key: value for key, value in asdict(look).items() if key in _FIRST or value != plain[key]}
            for look in self.passes
        ]
        return asdict(self) | {"passes": passes}


def views(picture: Picture, settings: Settings) -> list[View]:
    """What the detector is shown of a picture, pass by pass."""
    shown: list[View] = []
    for look in settings.passes:
        if look.across > 1:
            shown += tiles(picture, look.canvases, look.across, look.overlap)
        elif settings.resize == "letterbox":
            shown.append(letterbox(picture, look.canvases, look.fill))
        else:
            shown.append(stretch(picture, look.canvases[0], look.fill))
    return shown


class Detector:
    """A detector network and its settings.

    most: so many candidates of an image, the best, are compared with each other; 0: all. For thresholds below those
    that detectors are used with, where some give thousands of boxes that hardly overlap (slim-320 at 0.1: 0.9 s).
    """

    def __init__(self, session: Session, settings: Settings, batch: int = 0, most: int = 0) -> None:
        self._session, self._settings, self._most = session, settings, most
        name = session.model.pack.decoder
        if name not in _DECODERS:
            raise UsageError(f"pack {session.model.pack.name}: there is no decoder {name!r}")
        self._decode, self._anchors = _DECODERS[name], session.model.pack.anchors
        # On a CPU a batch of one is fastest: larger activations leave the cache (YuNet, one core: 8 ms an image alone,
        # 21 ms in a batch of 16).
        self.batch = batch or (1 if session.provider == CPU else 32)

    def __call__(self, seen: Sequence[Sequence[View]], sizes: Sequence[Size]) -> list[Faces]:
        """The faces of each image, from its views (pass by pass) and its upright full size (width, height)."""
        looks = [look for look in self._settings.passes for _ in range(look.views)]
        candidates: list[list[Candidates]] = [[] for _ in seen]
        for number, look in enumerate(looks):
            shapes = sorted({image[number].pixels.shape for image in seen})
            for shape in shapes:
                alike = [i for i, image in enumerate(seen) if image[number].pixels.shape == shape]
                for i, found in zip(alike, self._run([seen[i][number] for i in alike]), strict=True):
                    found = _full_size(found, seen[i][number], look, sizes[i])
                    if look.yields_to and seen[i][0].fx >= 1:  # enlarged, the first look was blurred
                        found = _beside(candidates[i][0], found, look.yields_to)
                    candidates[i].append(found)
        return [self._select(found, size) for found, size in zip(candidates, sizes, strict=True)]

    def _run(self, alike: list[View]) -> list[Candidates]:
        found: list[Candidates] = []
        for size in buckets(len(alike), self.batch):
            batch, alike = alike[:size], alike[size:]
            height, width, _ = batch[0].pixels.shape
            outputs = self._session.run([view.pixels for view in batch])
            found += self._decode(outputs, width, height, self._settings.score, self._anchors)
        return found

    def _select(self, found: list[Candidates], size: Size) -> Faces:
        boxes = clip(np.concatenate([c.boxes for c in found]), *size)
        scores = np.concatenate([c.scores for c in found])
        points = [c.landmarks for c in found if c.landmarks is not None]
        landmarks = np.concatenate(points) if points else None
        real = np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if landmarks is not None:
            real &= np.isfinite(landmarks).all(axis=(1, 2))
        candidates = np.flatnonzero(real)
        if self._most:
            candidates = candidates[np.argsort(-scores[candidates], kind="stable")[: self._most]]
        kept = candidates[nms(boxes[candidates], scores[candidates], self._settings.nms)]
        # Saturated detectors tie, and ties must not hang on the last bit: score to four digits, then y, then x.
        kept = kept[np.lexsort((boxes[kept, 0], boxes[kept, 1], -np.round(scores[kept], 4)))]
        return Faces(boxes[kept], scores[kept], None if landmarks is None else landmarks[kept])


def timed(detector: Detector, seen: Sequence[Sequence[View]], sizes: Sequence[Size]) -> tuple[list[Faces], float]:
    """What a detector finds, and the seconds that it took for each image."""
    if not seen:
        return [], 0.0
    started = time.perf_counter()
    found = detector(seen, sizes)
    return found, (time.perf_counter() - started) / len(seen)


def _full_size(found: Candidates, view: View, look: Pass, size: Size) -> Candidates:
    """Candidates of a view as those of the picture, without the ones that other views know better."""
    factors, corner = np.array([view.fx, view.fy], np.float32), np.array([view.x, view.y], np.float32)
    boxes = found.boxes * np.tile(factors, 2) + np.tile(corner, 2)
    side = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    ours = side >= look.min_face * max(size)
    if look.across > 1:
        ours &= (side <= look.max_face * max(size)) & ~_cut(boxes, view, size)
    landmarks = None if found.landmarks is None else (found.landmarks * factors + corner)[ours]
    return Candidates(boxes[ours], found.scores[ours], landmarks)


def _beside(first: Candidates, found: Candidates, sure: float) -> Candidates:
    """Those candidates that show no face which the first look is sure of."""
    known = first.boxes[first.scores >= sure]
    new = np.array([iou(box, known).max(initial=0) < _SAME for box in found.boxes], np.bool_)
    return Candidates(found.boxes[new], found.scores[new], None if found.landmarks is None else found.landmarks[new])


def _cut(boxes: Floats, view: View, size: Size) -> NDArray[np.bool_]:
    """Whether boxes reach an edge of their view behind which the picture goes on: a neighbour sees the whole face."""
    height, width, _ = view.pixels.shape
    x, y, right, bottom = view.x, view.y, view.x + width * view.fx, view.y + height * view.fy
    inner = np.array([x > 0.5, y > 0.5, right < size[0] - 0.5, bottom < size[1] - 0.5])
    margin = _EDGE * np.array([view.fx, view.fy, view.fx, view.fy])
    beyond = np.array([x, y, -right, -bottom]) + margin >= boxes * [1, 1, -1, -1]
    reached: NDArray[np.bool_] = (beyond & inner).any(axis=1)
    return reached
