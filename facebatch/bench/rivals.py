"""Who takes part: facebatch, the floor beneath it, and what a user would run instead, all with the same models."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

from facebatch import networks
from facebatch.bench.archive import Archive
from facebatch.bench.contest import Contestant, of_facebatch, said
from facebatch.config import Config
from facebatch.errors import UsageError

FLOOR, FACEBATCH = "floor", "facebatch"


def ours(archive: Archive, words: list[str]) -> list[Contestant]:
    """The floor and facebatch with these settings (`key=value`)."""
    return [_entrant(FLOOR, archive, words), indexing(archive, words)]


def indexing(archive: Archive, words: list[str]) -> Contestant:
    """`facebatch index` over the archive."""

    def command(output: Path) -> list[str]:
        folder = str(archive.folder)
        return [sys.executable, "-m", "facebatch", "index", "--input", folder, "--output", str(output), *words]

    return Contestant(FACEBATCH, command, of_facebatch)


def rival(name: str, archive: Archive, words: list[str], settings: Config) -> Contestant:
    """One of `RIVALS`. Raises UsageError where it is not installed, or cannot run the models that are configured."""
    if name not in RIVALS:
        raise UsageError(f"there is no rival {name!r}; there are {', '.join(RIVALS)}")
    return RIVALS[name](archive, words, settings)


def _insightface(archive: Archive, words: list[str], settings: Config) -> Contestant:
    if importlib.util.find_spec("insightface") is None:
        raise UsageError(
            "insightface is not installed: pip install --no-deps insightface (its dependencies bring a second ONNX "
            "Runtime, which overwrites the one of facebatch), and pip install tqdm scipy scikit-image"
        )
    detector = networks.load(settings).detector.pack
    if detector.decoder != "scrfd":
        raise UsageError(
            f"InsightFace runs SCRFD detectors, and {detector.name} is none: add detect.pack=scrfd-2.5g and an "
            "embedder such as embed.pack=edgeface-xs"
        )
    return _entrant("insightface", archive, words)


def _ray_data(archive: Archive, words: list[str], settings: Config) -> Contestant:
    if settings.run.provider == "cuda":
        raise UsageError(
            "the obvious script gives its detector one picture at a time, which is no way to use a GPU: add "
            "run.provider=cpu"
        )
    if networks.load(settings).landmarks:
        raise UsageError(
            "the obvious script has no landmark network: add landmarks=none, or take a detector that gives landmarks"
        )

    def command(output: Path) -> list[str]:
        return [sys.executable, "-m", "facebatch.pipeline.obvious", str(archive.folder), str(output), *words]

    return Contestant("ray-data", command, said)


RIVALS: dict[str, Callable[[Archive, list[str], Config], Contestant]] = {
    "insightface": _insightface,
    "ray-data": _ray_data,
}


def _entrant(name: str, archive: Archive, words: list[str]) -> Contestant:
    task = json.dumps({"folder": str(archive.folder), "settings": words})
    return Contestant(name, lambda _: [sys.executable, "-m", "facebatch.bench.entrant", name, task], said)
