"""The task of a face detector: photographs with boxes and points, matched with the priors of a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facebatch.detect import Faces
from facebatch.detectors.priors import priors
from facebatch.errors import UsageError
from facebatch.evaluation.landmarks import compare, finder
from facebatch.evaluation.precision import Found, curve
from facebatch.evaluation.truth import Truth
from facebatch.importers import extd, slim
from facebatch.importers.checkpoint import Checkpoint, Source
from facebatch.packs import Anchors, Input, Licence, Model, Pack, Weights
from facebatch.training import crops
from facebatch.training.loader import Sample
from facebatch.training.losses import POINTS, losses
from facebatch.training.matching import targets
from facebatch.training.networks import Extd, Slim
from facebatch.training.photos import Photo

_JUDGED = 0.02
"""The score from which on candidates count in a judgement."""
_NMS = 0.45
CANDIDATES = 750
"""Of a photograph, the best, that count in a judgement, and where a teacher looks: both from low scores on."""


@dataclass(frozen=True)
class Kind:
    """A network that can be trained: as a module, as an ONNX graph, and what it is fed and its priors."""

    module: Callable[[], nn.Module]
    graph: Callable[[Source], bytes]
    input: Input
    anchors: Anchors
    landmarks: bool


def kind(name: str) -> Kind:
    """`slim`, or `extd-CHANNELS-HEAD-ACTIVATION` as in extd-32-fpn-prelu. Raises UsageError."""
    if name == "slim":
        variant = slim.Variant("slim", landmarks=True)
        fed = Input("RGB", (127, 127, 127), 1 / 128)
        sizes = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
        return Kind(Slim, lambda s: slim.build(s, variant), fed, Anchors((8, 16, 32, 64), sizes), True)
    family, *parts = name.split("-")
    if family == "extd" and len(parts) == 3 and parts[0] in ("32", "48", "64"):
        channels, head, activation = int(parts[0]), parts[1], parts[2]
        if head in ("fpn", "ssd") and activation in ("prelu", "leaky", "relu"):
            made: Any = extd.Variant(channels, head, activation)  # type: ignore[arg-type]
            steps = (4, 8, 16, 32, 64, 128)
            anchors = Anchors(steps, tuple((4.0 * step,) for step in steps))
            fed = Input("RGB", (123, 117, 104), 1)
            return Kind(partial(Extd, channels, head, activation), lambda s: extd.build(s, made), fed, anchors, False)
    raise UsageError(
        f"there is no network {name!r} to train; there are slim and extd-32-fpn-prelu (32, 48 or 64, fpn or "
        "ssd, prelu, leaky or relu)"
    )


class Detection:
    """A detector's task (`facebatch.training.loop.Task`). size: side of the training canvas; canvas: of judgements;
    points: the weight of the landmarks. Raises UsageError where no photograph to judge by shows a face."""

    def __init__(
        self,
        network: Kind,
        learn: Sequence[Photo],
        judge: Sequence[Photo],
        size: int = 320,
        canvas: int = 640,
        drawing: crops.Drawing | None = None,
        points: float = POINTS,
    ) -> None:
        if not any((~photo.ignored).any() for photo in judge):
            raise UsageError(f"none of the {len(judge)} photographs to judge by shows a face: hold back more of them")
        self.count = len(learn)
        self._kind, self._learn, self._held, self._size, self._canvas = network, learn, judge, size, canvas
        self._drawing, self._points = drawing or crops.Drawing(), points
        self._priors = priors(network.anchors, size, size)

    def sample(self, index: int, random: np.random.Generator) -> Sample:
        crop = crops.draw(self._learn, index, self._size, random, self._drawing)
        aims = targets(self._priors, crop.boxes, crop.points, crop.ignored)
        return {
            "pixels": crop.pixels,
            "labels": aims.labels,
            "loc": aims.loc,
            "landms": aims.landms,
            "marked": aims.marked,
        }

    def losses(self, net: nn.Module, batch: Sample) -> Mapping[str, Tensor]:
        outputs = net(feed(batch["pixels"], self._kind.input))
        found = losses(outputs, batch["labels"], batch["loc"], batch["landms"], batch["marked"])
        points = {"points": found.points} if self._kind.landmarks else {}
        return {"total": found.total(self._points), "scores": found.scores, "boxes": found.boxes} | points

    def judge(self, net: nn.Module) -> Mapping[str, float]:
        """AP at IoU 0.5 on the photographs held back, through the job's own detector; with landmarks their mean
        distance from what the teacher saw, in eye distances."""
        graph = self.export(net)
        pack = self._pack()
        model = Model(pack, pack.name, hashlib.sha256(graph).hexdigest(), graph)
        find = finder(model, threads=torch.get_num_threads(), most=CANDIDATES)
        truths, found, away = [], [], []
        for photo in self._held:
            faces = find(photo.read())
            truths.append(Truth(str(photo.file), photo.boxes, photo.ignored, photo.file.stem))
            found.append(Found(faces.boxes, faces.scores))
            away += distances(photo, faces)
        ap = curve(truths, found).ap
        return {"score": ap} | (
            {"away": float(np.mean(away)) if away else float("nan")} if self._kind.landmarks else {}
        )

    def export(self, net: nn.Module) -> bytes:
        """The network as an ONNX graph over any height and width, with a dynamic batch axis."""
        arrays = {name: array.detach().cpu().numpy() for name, array in net.state_dict().items()}
        source = Checkpoint(arrays, "the network in training")
        graph = self._kind.graph(source)
        source.finish()
        return graph

    def _pack(self) -> Pack:
        canvases = ((self._canvas, self._canvas),)
        fed = Input(self._kind.input.colour, self._kind.input.mean, self._kind.input.scale, "letterbox", canvases)
        return Pack(
            "training", "detector", "in training", Weights(()), Licence("none", ""), fed,
            decoder="priors", anchors=self._kind.anchors, landmarks=self._kind.landmarks, score=_JUDGED, nms=_NMS,
        )  # fmt: skip


def feed(pixels: Tensor, how: Input) -> Tensor:
    """n x height x width x 3 uint8 RGB as the network wants them."""
    x = pixels.permute(0, 3, 1, 2).float()
    if how.colour == "BGR":
        x = x.flip(1)
    return (x - x.new_tensor(how.mean)[:, None, None]) * how.scale


def distances(photo: Photo, faces: Faces) -> list[float]:
    """How far the points of each face that is found are from the photograph's, on average, in eye distances."""
    if faces.landmarks is None:
        return []
    known = np.flatnonzero(np.isfinite(photo.points).all(axis=(1, 2)) & ~photo.ignored)
    reference = Faces(photo.boxes[known], np.ones(len(known), np.float32), photo.points[known])
    return [apart.share for apart in compare(faces, reference)]
