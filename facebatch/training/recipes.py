"""What is trained, on what, and how: the settings of `jobs/train_detector.py` and `jobs/train_embedder.py`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from facebatch import packs
from facebatch.config import Positive
from facebatch.errors import FacebatchError, UsageError
from facebatch.evaluation.landmarks import finder, steadied
from facebatch.training import checkpoint, crops, faces, photos
from facebatch.training.detector import CANDIDATES, Detection, kind
from facebatch.training.embedder import Distillation, alike_blocks
from facebatch.training.loop import Plan, Tell, fit
from facebatch.training.losses import POINTS
from facebatch.training.photos import Photo
from facebatch.training.student import Student
from facebatch.training.teacher import Teacher

_UNSEEN = 0.3
"""The score from which on a teacher's boxes are looked at: what is below its threshold is ignored in training."""
_LABELS = "labels.jsonl"
_PACE = {f"plan.{key}" for key in ("steps", "every", "workers", "threads", "device", "fall")}
_FREE = {*_PACE, "apart.steps", "apart.fall", "output", "data"}
"""Settings that may change when a training goes on."""
_DRAWING, _LOOKS = crops.Drawing(), faces.Looks()
_DETECTOR = Plan(steps=5500, precision="bfloat16")
_EMBEDDER = Plan(steps=3200, batch=64, rate=1e-3, matrices=0.01, fall=0.8, decay=0.01, clip=100.0)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DetectorRecipe:
    """data: a folder with `boxes.jsonl`; output: where checkpoints and weights go; network: `slim` or a variant of
    EXTD; size: side of the training canvas; judged: side of the canvas on which AP is measured; held: the share of the
    photographs that is held back for that; teacher: the pack whose landmarks and further faces are learned, if any;
    sure: the score from which on a face that only the teacher has seen is one; points: the weight of landmarks."""

    data: str = ""
    output: str = ""
    network: str = "slim"
    size: int = 320
    judged: int = 640
    held: float = 0.08
    teacher: str | None = "yunet-n"
    sure: float = 0.8
    points: float = POINTS
    drawing: crops.Drawing = _DRAWING
    plan: Plan = _DETECTOR


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Apart:
    """What of the plan is another while the student's parts learn one by one: how long, how fast, and how freely."""

    steps: Positive = 2200
    rate: float = 8e-3
    matrices: float = 0.06
    rise: int = 60
    fall: float = 0.95
    decay: float = 0.0
    clip: float = 1e4

    def of(self, plan: Plan) -> Plan:
        """The plan with this in it."""
        return replace(plan, **dataclasses.asdict(self))


_APART = Apart()


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EmbedderRecipe:
    """data: a folder with `faces.tsv`, `boxes.jsonl`, or both; teacher: the pack whose vectors are learned; detector:
    the one whose landmarks cut faces out of the photographs; smallest: the shorter side in pixels from which on;
    apart: what differs from the plan before the student is trained as a whole."""

    data: str = ""
    output: str = ""
    teacher: str = "edgeface-xxs"
    detector: str = "yunet-n"
    smallest: float = 24.0
    held: float = 0.08
    looks: faces.Looks = _LOOKS
    apart: Apart = _APART
    plan: Plan = _EMBEDDER


def train(recipe: DetectorRecipe | EmbedderRecipe, tell: Tell) -> Path:
    """Train, or go on. Returns the ONNX file of the best weights. Raises UsageError."""
    return train_detector(recipe, tell) if isinstance(recipe, DetectorRecipe) else train_embedder(recipe, tell)


def train_detector(recipe: DetectorRecipe, tell: Tell) -> Path:
    """Train, or go on. Returns the ONNX file of the best weights. Raises UsageError."""
    network, folder = kind(recipe.network), _folder(recipe)
    if network.landmarks and recipe.teacher is None:
        raise UsageError(f"network={recipe.network} has landmarks and needs a teacher for them, as in teacher=yunet-n")
    marked = photos.read(Path(recipe.data))
    if recipe.teacher:
        marked = _taught(marked, recipe.teacher, recipe.sure, folder, tell)
    learn, judge = photos.split(marked, recipe.held)
    tell(f"{len(learn)} photographs to learn from, {len(judge)} to judge by")
    _prepare(recipe.plan)
    task = Detection(network, learn, judge, recipe.size, recipe.judged, recipe.drawing, recipe.points)
    return fit(network.module(), task, recipe.plan, folder, tell)


def train_embedder(recipe: EmbedderRecipe, tell: Tell) -> Path:
    """Train, or go on. Returns the ONNX file of the best weights. Raises UsageError."""
    folder, data = _folder(recipe), Path(recipe.data)
    have = faces.listed(data) if (data / faces.TSV).exists() else []
    if (data / photos.JSONL).exists():
        have += faces.cut(_taught(photos.read(data), recipe.detector, 1.0, folder, tell), recipe.smallest)
    if not have:
        raise UsageError(f"{recipe.data} holds neither {faces.TSV} nor {photos.JSONL}: there is nothing to learn from")
    learn, judge = faces.split(have, recipe.held)
    tell(f"{len(learn)} faces to learn from, {len(judge)} to judge by")
    _prepare(recipe.plan)
    provider = "cuda" if recipe.plan.device.startswith("cuda") else "cpu"
    teacher = Teacher(packs.load(recipe.teacher, "embedder"), provider, torch.get_num_threads())
    student = Student()
    if alike_blocks(teacher):
        tell(f"{recipe.teacher} is built as the student is: its {len(student.parts)} parts first learn one by one")
        task = Distillation(teacher, learn, judge, recipe.looks, apart=True)
        task.begin(student, recipe.plan.seed)
        fit(student, task, recipe.apart.of(recipe.plan), folder / "apart", tell)
        learned = checkpoint.load(folder / "apart" / "best.pt")
        if learned is None:
            raise FacebatchError(f"{folder / 'apart'} holds a finished training without best.pt: name another folder")
        student.load_state_dict(learned["net"])
    return fit(student, Distillation(teacher, learn, judge, recipe.looks), recipe.plan, folder, tell)


def _taught(marked: Sequence[Photo], teacher: str, sure: float, folder: Path, tell: Tell) -> list[Photo]:
    """What the teacher adds, from an earlier start of this training where there was one."""
    file = folder / _LABELS
    if not file.exists():
        model = packs.load(teacher, "detector")
        eager = replace(model, pack=replace(model.pack, score=_UNSEEN))
        find = steadied(finder(eager, threads=torch.get_num_threads(), most=CANDIDATES))
        tell(f"{teacher} looks at {len(marked)} photographs")
        photos.remember([photos.taught(photo, find, sure) for photo in marked], file)
    return photos.remembered(file, marked)


def _prepare(plan: Plan) -> None:
    torch.manual_seed(plan.seed)
    if plan.threads:
        torch.set_num_threads(plan.threads)


def _folder(recipe: DetectorRecipe | EmbedderRecipe) -> Path:
    """The output folder, with the recipe in it. Raises UsageError where it holds a training by another one, if no more
    than what a teacher has seen."""
    if not recipe.data or not recipe.output:
        raise UsageError("name the data to learn from with --data, and a folder for what is learned with --output")
    folder, asked = Path(recipe.output), dict(_flat(dataclasses.asdict(recipe)))
    file = folder / "recipe.json"
    if file.exists() and any((folder / name).exists() for name in (_LABELS, "last.pt")):
        known = json.loads(file.read_text(encoding="utf-8"))
        other = [key for key in asked if key not in _FREE and asked[key] != known.get(key)]
        if other:
            said = ", ".join(f"{key}={known.get(key)}" for key in other)
            raise UsageError(f"{folder} holds a training with {said}: go on with the same, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write(file, json.dumps(asked, indent=1).encode())
    return folder


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, list(value) if isinstance(value, tuple) else value))
    return found
