"""The networks of a run, as its configuration names them: a detector, an embedder, and what may stand between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from facebatch import packs
from facebatch.config import Config
from facebatch.errors import UsageError
from facebatch.packs import Model, Pack

DEFAULT_LANDMARKS = "landmarks-regression-retail-0009"
"""On hard faces it gives all of the TAR back that boxes lose (README, Accuracy), and its licence allows all uses."""


@dataclass(frozen=True)
class Networks:
    """`landmarks` and `gate`: None where there is none."""

    detector: Model
    embedder: Model
    landmarks: Model | None = None
    gate: Model | None = None

    def __iter__(self) -> Iterator[Model]:
        """Those there are, in the order in which an image meets them."""
        return (model for model in (self.gate, self.detector, self.landmarks, self.embedder) if model)

    @property
    def facts(self) -> dict[str, Any]:
        """What every file of a dataset says of them."""
        own = self.detector.pack if self.detector.pack.landmarks else None
        marks = self.landmarks.pack if self.landmarks else own
        return {
            "detector": self.detector.pack.name,
            "embedder": self.embedder.pack.name,
            "landmarks": marks.name if marks else None,
            "gate": self.gate.pack.name if self.gate else None,
            "licences": {m.pack.name: {"licence": m.pack.licence.name, "url": m.pack.licence.url} for m in self},
        }


def load(config: Config) -> Networks:
    """The networks with their weights. Raises UsageError for a pack or weights that are not there, FacebatchError for
    weights that are not the pack's."""
    detector = packs.load(config.detect.pack, "detector", config.detect.weights)
    embedder = packs.load(config.embed.pack, "embedder", config.embed.weights)
    named = landmark_pack(config, detector.pack)
    gate = packs.load(config.gate.model, "detector", config.gate.weights) if config.gate.model else None
    if gate and gate.pack.name == detector.pack.name:
        raise UsageError(f"gate.model={config.gate.model} is the detector itself: name a cheaper one, or none")
    return Networks(detector, embedder, _landmarks(named, config) if named else None, gate)


def landmark_pack(config: Config, detector: Pack) -> str | None:
    """The landmark net that a detector needs, or that the user wants; None where there is none to be run."""
    if config.landmarks == "none" or detector.finds != "faces":
        return None
    if config.landmarks == "auto":
        return None if detector.landmarks else DEFAULT_LANDMARKS
    return config.landmarks


def _landmarks(name: str, config: Config) -> Model:
    try:
        return packs.load(name, "landmarks")
    except UsageError as error:
        if config.landmarks != "auto":
            raise
        raise UsageError(
            f"{config.detect.pack} finds boxes only, and faces cut out by their boxes are told apart much worse: "
            f"{error}. Or say landmarks=none to go on with boxes"
        ) from None
