"""The task of an embedder: faces, and what a stronger embedder, the teacher, makes of them.

Source: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", 2022: teacher and student see
the very same view, views are wild, and training is long. Labels are not needed.
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
from facebatch.importers import mobileface
from facebatch.importers.checkpoint import Checkpoint
from facebatch.packs import Input, Licence, Model, Pack, Weights
from facebatch.session import CPU, Session
from facebatch.training import faces
from facebatch.training.detector import feed
from facebatch.training.faces import Face
from facebatch.training.loader import Sample

INPUT = Input("RGB", (127.5, 127.5, 127.5), 2 / 255)
MOST = 100
"""All faces of a person with a name are drawn as often as so many without."""
PAIRS = 10.0
"""The weight of what pairs add: about as much as the cosines where the student is good."""


class Distillation:
    """An embedder's task (`facebatch.training.loop.Task`). threads: of the teacher."""

    def __init__(
        self,
        teacher: Model,
        learn: Sequence[Face],
        judge: Sequence[Face],
        looks: faces.Looks | None = None,
        provider: str = CPU,
        threads: int = 1,
    ) -> None:
        self.count = len(learn)
        self._learn, self._looks = learn, looks or faces.Looks()
        self._shares = faces.shares(learn, MOST)
        self._teacher = Embedder(Session(teacher, provider, threads), batch=64)
        self._chips = [faces.chip(face) for face in judge]
        self._people = [face.person for face in judge]
        self._taught = self._teacher(self._chips).vectors

    def sample(self, index: int, random: np.random.Generator) -> Sample:
        """`index` counts samples: which face it is, is drawn."""
        return {"pixels": faces.view(self._learn, self._shares, random, self._looks)}

    def losses(self, net: nn.Module, batch: Sample) -> Mapping[str, Tensor]:
        """1 - the cosine of student and teacher, and how differently they see the pairs of a batch."""
        pixels = batch["pixels"]
        taught = torch.from_numpy(self._teacher(list(pixels.cpu().numpy())).vectors).to(pixels.device)
        own = nn.functional.normalize(net(feed(pixels, INPUT)).float())
        away = (1 - (own * taught).sum(1)).mean()
        pairs = (own @ own.T - taught @ taught.T).square().mean()
        return {"total": away + PAIRS * pairs, "away": away, "pairs": pairs}

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
        graph = mobileface.build(source)
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
