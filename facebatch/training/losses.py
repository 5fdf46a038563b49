"""What a detector is punished for: SSD's loss with hard negatives, and distances of points where they are known.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", 2016, 2.2; EXTD, 2019, 3.3, for the weight of the boxes; Deng
et al., "RetinaFace", 2019, for the points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from facebatch.training.matching import BACKGROUND, FACE
from facebatch.training.networks import Outputs

NEGATIVES = 3
"""Background priors for each prior with a face: those that look most like one."""
BOXES = 4.0
POINTS = 10.0
"""That is, the sum over ten coordinates, as RetinaFace has it. At a tenth of it points were a third of the distance
between the eyes away when boxes were good."""
_EXACT = 0.2
"""From this error on (in tenths of the prior's side) points are pulled with full force. Smooth L1 as for boxes, which
is from 1, leaves them where they are when they are off by a tenth of the face."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Scalars, each the mean over the priors that have a face (points: whose points are known), unweighted."""

    scores: Tensor
    boxes: Tensor
    points: Tensor

    def total(self, points: float = POINTS) -> Tensor:
        """points: their weight."""
        return self.scores + BOXES * self.boxes + points * self.points


def losses(outputs: Outputs, labels: Tensor, loc: Tensor, landms: Tensor, marked: Tensor) -> Losses:
    """outputs: of a network for n pictures; labels n x P, loc n x P x 4, landms n x P x 10, marked n x P: their
    `facebatch.training.matching.Targets`."""
    faces = labels == FACE
    count = faces.sum().clamp(min=1)
    conf = outputs["conf"].float()
    entropy = functional.cross_entropy(conf.transpose(1, 2), labels.clamp(min=0), reduction="none")
    kept = faces | hardest(conf, labels)
    scores = (entropy * kept).sum() / count
    boxes = functional.smooth_l1_loss(outputs["loc"][faces].float(), loc[faces], reduction="sum") / (4 * count)
    points = scores.new_zeros(())
    if "landms" in outputs:
        known = outputs["landms"][marked].float()
        away = functional.smooth_l1_loss(known, landms[marked], beta=_EXACT, reduction="sum")
        points = away / (10 * marked.sum().clamp(min=1))
    return Losses(scores, boxes, points)


def hardest(conf: Tensor, labels: Tensor) -> Tensor:
    """n x P, whether a background prior counts: `NEGATIVES` for each prior with a face, at least as many, of each
    picture, those that are taken for faces most. A picture without faces lends its share from the batch's mean."""
    with torch.no_grad():
        ground = labels == BACKGROUND
        likeness = (conf[..., 1] - conf[..., 0]).masked_fill(~ground, -torch.inf)
        faces = (labels == FACE).sum(1)
        most = NEGATIVES * torch.where(faces > 0, faces, faces.float().mean().ceil().long().clamp(min=1))
        rank = likeness.argsort(1, descending=True).argsort(1)
        chosen: Tensor = (rank < most[:, None]) & ground
    return chosen
