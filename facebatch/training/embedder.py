"""The task of an embedder: faces, and what a stronger embedder, the teacher, makes of them.

Source: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", 2022: teacher and student see
the very same view, views are wild, and training is long. Labels are not needed. From vectors alone a few thousand faces
teach little more than those faces; Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, for what maps add.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from facebatch.embed import Embedder
from facebatch.evaluation.scores import verification
from facebatch.geometry import Floats
from facebatch.importers import edgenext
from facebatch.importers.checkpoint import Checkpoint
from facebatch.packs import Input, Licence, Model, Pack, Weights
from facebatch.session import CPU, Session
from facebatch.training import faces
from facebatch.training.detector import feed
from facebatch.training.faces import Face
from facebatch.training.loader import Sample
from facebatch.training.student import Student, shapes
from facebatch.training.teacher import Teacher

INPUT = Input("RGB", (127.5, 127.5, 127.5), 2 / 255)
MOST = 100
"""All faces of a person with a name are drawn as often as so many without."""
PAIRS = 10.0
"""The weight of what pairs add: about as much as the cosines where the student is good."""
BLOCKS = 1.0
"""The weight of how the maps between blocks differ, on average."""
_BEGIN = 128
"""Faces by which the student's weights are scaled before it learns."""


class Distillation:
    """An embedder's task (`facebatch.training.loop.Task`). apart: each of the student's parts learns from what the
    teacher's gets, not from what the student's part before it gives; for a teacher of `alike_blocks`."""

    def __init__(
        self,
        teacher: Teacher,
        learn: Sequence[Face],
        judge: Sequence[Face],
        looks: faces.Looks | None = None,
        apart: bool = False,
    ) -> None:
        self.count = len(learn)
        self._learn, self._looks, self._teacher, self._apart = learn, looks or faces.Looks(), teacher, apart
        self._shares = faces.shares(learn, MOST)
        self._chips = [faces.chip(face) for face in judge]
        self._people = [face.person for face in judge]
        parts = [self._chips[k : k + 64] for k in range(0, len(self._chips), 64)]
        self._taught = np.concatenate([teacher(np.stack(part))[0] for part in parts])

    def sample(self, index: int, random: np.random.Generator) -> Sample:
        """`index` counts samples: which face it is, is drawn."""
        return {"pixels": faces.view(self._learn, self._shares, random, self._looks)}

    def begin(self, student: Student, seed: int) -> None:
        """Weights from which blocks learn fast."""
        random = np.random.default_rng([seed, _BEGIN])
        pixels = np.stack([self.sample(0, random)["pixels"] for _ in range(_BEGIN)])
        vectors, maps = self._teacher(pixels)
        goals = [torch.from_numpy(each) for each in (*maps, vectors)]
        student.begin([feed(torch.from_numpy(pixels), INPUT), *goals[:-1]], goals)

    def losses(self, net: nn.Module, batch: Sample) -> Mapping[str, Tensor]:
        """1 - the cosine of student and teacher, how differently they see the pairs of a batch, and, where the teacher
        is built of blocks like the student's, how much what these make is unlike the teacher's."""
        pixels = batch["pixels"]
        vectors, maps = self._teacher(pixels.cpu().numpy())
        taught, *theirs = (torch.from_numpy(each).to(pixels.device) for each in (vectors, *maps))
        inputs = [feed(pixels, INPUT), *theirs]
        if self._apart:
            *made, raw = net.apart(inputs)
        elif alike_blocks(self._teacher):
            *made, raw = net.chained(inputs[0])
        else:
            made, raw = [], net(inputs[0])
        own = nn.functional.normalize(raw.float())
        away = (1 - (own * taught).sum(1)).mean()
        pairs = (own @ own.T - taught @ taught.T).square().mean()
        found = {"total": away + PAIRS * pairs, "away": away, "pairs": pairs}
        if made:
            found["blocks"] = torch.stack([_unlike(*each) for each in zip(made, inputs, theirs, strict=False)]).mean()
            found["total"] = found["total"] + BLOCKS * found["blocks"]
        return found

    def judge(self, net: nn.Module) -> Mapping[str, float]:
        """The mean cosine with the teacher on faces held back, of people that were never seen; and how well those that
        have names are told apart (AUC), beside the teacher's own."""
        graph = self.export(net)
        pack = Pack("training", "embedder", "in training", Weights(()), Licence("none", ""), INPUT)
        model = Model(pack, pack.name, hashlib.sha256(graph).hexdigest(), graph)
        vectors = Embedder(Session(model, CPU, torch.get_num_threads()), batch=64)(self._chips).vectors
        cosine = float((vectors * self._taught).sum(axis=1).mean())
        return {"score": cosine, "auc": self._auc(vectors), "teacher_auc": self._auc(self._taught)}

    def export(self, net: nn.Module) -> bytes:
        """The network as an ONNX graph with a dynamic batch axis."""
        arrays = {name: array.detach().cpu().numpy() for name, array in net.state_dict().items()}
        source = Checkpoint(arrays, "the network in training")
        graph = edgenext.build(source)
        source.finish()
        return graph

    def _auc(self, vectors: Floats) -> float:
        named = [i for i, person in enumerate(self._people) if person]
        people, own = np.array([self._people[i] for i in named]), vectors[named].astype(np.float64)
        one, other = np.triu_indices(len(named), 1)
        same = people[one] == people[other]
        if not same.any() or same.all():
            return float("nan")
        return verification((own @ own.T)[one, other], same).auc


def alike_blocks(teacher: Teacher) -> bool:
    """Whether the student can learn block by block."""
    return [tuple(shape) for shape in teacher.shapes] == shapes()


def _unlike(own: Tensor, start: Tensor, its: Tensor) -> Tensor:
    """The root of the mean squared difference of what a block makes, in standard deviations of what it is to add to its
    start, in each channel: networks have a few channels that are far larger than the others."""
    added = its - start if start.shape == its.shape else its
    spread = added.std((0, 2, 3), keepdim=True)
    return ((own.float() - its) / spread.clamp(min=1e-3 * float(spread.mean()))).square().mean().sqrt()
