"""Detectors on annotated photographs, through the job's own stages.

Each detector is measured twice: as its authors use it, with one look at each picture (`published`), and as facebatch
uses it, with all the looks of its pack and the settings of the user (`ours`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facebatch import packs
from facebatch.config import Config, Detect
from facebatch.detect import Detector, Settings
from facebatch.errors import UsageError
from facebatch.evaluation.precision import SLIM_CARD, SSH_CARD, Curve, Found, Rule, by_size, curve
from facebatch.evaluation.truth import JSONL, Truth, read_jsonl, read_wider
from facebatch.evaluation.wider import Official, evaluate, read_official
from facebatch.packs import Model, Pack
from facebatch.session import CPU, Session
from facebatch.stages import DecodeStage, Place
from facebatch.work import Work

LOWEST = 0.02
"""The score from which on candidates count: curves need those that no user would take for faces. RetinaFace and its
successors are measured so on WIDER FACE."""
_MOST = 750
"""Candidates of an image that count, the best, as in the test settings of S3FD, EXTD and RetinaFace."""
PUBLISHED, OURS = "published", "ours"
_WIDER_LIST = "wider_face_val_bbx_gt.txt"
_WIDER_IMAGES = ("WIDER_val/images", "images", "WIDER_val")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How detectors are judged: by which rule, and how they are used where a card says so."""

    rule: Rule
    score: float | None = None
    nms: float | None = None


PROTOCOLS = {
    "plain": Protocol(Rule()),
    "slim-320": Protocol(SLIM_CARD, score=0.7, nms=0.5),
    "ssh-mxnet": Protocol(SSH_CARD, score=0.0, nms=0.3),
}
"""`plain`, and those of Open Model Zoo's cards of that name. The SSH card suppresses within each stride alone; here it
is done over all of them, as its authors do (test_ssh.py)."""


@dataclass(frozen=True, slots=True)
class Data:
    """Annotated photographs. official: WIDER FACE's own files, where the photographs are its validation set."""

    name: str
    truths: list[Truth]
    official: Official | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A detector to be measured: with the pack's own weights, or with those of a file."""

    pack: Pack
    weights: str | None = None

    @property
    def name(self) -> str:
        """What tables, plots and files call it."""
        return f"{self.pack.name}={Path(self.weights).name}" if self.weights else self.pack.name


@dataclass(frozen=True, slots=True)
class Measured:
    """One detector in one setting. found: for each photograph; milliseconds: of one core, from a decoded picture to
    boxes; unread: photographs that could not be decoded, in which nothing is found."""

    entry: Entry
    setting: str
    settings: Settings
    found: list[Found]
    milliseconds: float
    unread: list[str]


@dataclass(frozen=True, slots=True)
class Result:
    """A measured detector and what it is worth. sizes: by `facebatch.evaluation.precision.SIZES`; wider: by subset."""

    measured: Measured
    curve: Curve
    sizes: dict[str, Curve]
    wider: dict[str, Curve]

    @property
    def name(self) -> str:
        return self.measured.entry.name


def read_data(data: str, images: str | None = None, official: str | None = None) -> Data:
    """A `ground_truth.jsonl` or the folder that holds it, or WIDER FACE's list of boxes or a folder that holds it.

    images: of WIDER FACE, the folder of its event folders; official: the folder of its four .mat files. Both are found
    below the same folder where they lie as in its archives. Raises UsageError.
    """
    place = Path(data)
    if place.suffix == ".jsonl" or (place / JSONL).is_file():
        return Data(str(place), read_jsonl(place))
    listed = place if place.is_file() else next(iter(sorted(place.rglob(_WIDER_LIST))), None)
    if listed is None:
        raise UsageError(f"{data} holds neither {JSONL} nor {_WIDER_LIST}: name a folder of annotated photographs")
    root = place if place.is_dir() else listed.parent.parent
    folder = Path(images) if images else next((root / k for k in _WIDER_IMAGES if (root / k).is_dir()), None)
    if folder is None:
        raise UsageError(f"the photographs of {listed} are not at {root / _WIDER_IMAGES[0]}: name them with --images")
    mats = official or next((str(file.parent) for file in root.rglob("wider_easy_val.mat")), None)
    return Data(str(place), read_wider(listed, folder), read_official(mats) if mats else None)


def available(names: Sequence[str] = ()) -> list[Entry]:
    """The face detectors of these names, PACK or PACK=WEIGHTS; without names those whose weights are here.

    Raises UsageError for an unknown pack, and for two entries that would have one name.
    """
    if not names:
        found = [p for p in packs.packs().values() if p.kind == "detector" and p.finds == "faces"]
        return [Entry(pack) for pack in found if all(packs.find(pack))]
    split = [name.partition("=") for name in names]
    entries = [Entry(packs.pack(name, "detector"), weights or None) for name, _, weights in split]
    called = [entry.name for entry in entries]
    if twice := next((name for name in called if called.count(name) > 1), None):
        raise UsageError(f"two detectors would be called {twice} in the table: name it once, or rename one file")
    return entries


def measure(
    entry: Entry, config: Config, data: Data, protocol: Protocol, tell: Callable[[str], object]
) -> dict[str, Result]:
    """A detector, published and ours, on all the photographs. Where both are the same it is measured once.

    Raises FacebatchError where its weights are wrong or missing.
    """
    pack = entry.pack
    model = packs.load(pack.name, "detector", entry.weights)
    score = LOWEST if protocol.score is None else protocol.score
    plain = Detect(pack.name, score=score, nms=protocol.nms, close_up=False, tiles=False)
    own = replace(config.detect, pack=pack.name, score=score, nms=protocol.nms or config.detect.nms)
    results: dict[str, Result] = {}
    for name, chosen in ((PUBLISHED, plain), (OURS, own)):
        settings = Settings.of(chosen, pack)
        before = results.get(PUBLISHED)
        if before and before.measured.settings == settings:
            results[name] = replace(before, measured=replace(before.measured, setting=name))
            continue
        measured = _measured(entry, model, name, replace(config, detect=chosen), settings, data.truths)
        results[name] = _judged(measured, data, protocol.rule)
        unread = f"; {len(measured.unread)} could not be read, e.g. {measured.unread[0]}" if measured.unread else ""
        tell(f"{entry.name}, {name}: {measured.milliseconds:.0f} ms an image{unread}")
    return results


def _measured(
    entry: Entry, model: Model, name: str, config: Config, settings: Settings, truths: Sequence[Truth]
) -> Measured:
    decode = DecodeStage(config, model.pack, Place())
    detector = Detector(Session(model, CPU, threads=1), settings, batch=1, most=_MOST)

    def one(truth: Truth) -> tuple[Found, float, str | None]:
        data = truth.read()
        (work,) = decode([Work("evaluation", 0, truth.path, "", len(data), data=data)])
        if not work.views:
            return Found(np.empty((0, 4), np.float32), np.empty(0, np.float32)), 0.0, f"{truth.path}: {work.detail}"
        started = time.perf_counter()
        (faces,) = detector([work.views], [(work.width or 0, work.height or 0)])
        return Found(faces.boxes, faces.scores), time.perf_counter() - started, None

    with ThreadPoolExecutor(config.run.actors or os.cpu_count() or 1) as threads:
        rows = list(threads.map(one, truths))
    seen = [seconds for _, seconds, trouble in rows if trouble is None]
    unread = [trouble for *_, trouble in rows if trouble is not None]
    milliseconds = 1000 * float(np.median(seen)) if seen else float("nan")
    return Measured(entry, name, settings, [found for found, *_ in rows], milliseconds, unread)


def _judged(measured: Measured, data: Data, rule: Rule) -> Result:
    subsets = {}
    if data.official:
        found = {truth.name: one for truth, one in zip(data.truths, measured.found, strict=True)}
        subsets = evaluate(data.official, found, part=len(found) < len(data.official.names))
    sizes = by_size(data.truths, measured.found, rule)
    return Result(measured, curve(data.truths, measured.found, rule), sizes, subsets)
