"""Model packs: everything about a model that is data, from YAML; and where its weights are found.

A pack says what a file must be (sha256), under which licence it comes, how it is fed and how it is decoded. Adding a
model of a known family means adding a YAML file to models/.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import field
from pathlib import Path
from typing import Literal

import fsspec
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from facebatch.errors import FacebatchError, UsageError
from facebatch.resources import folder

_STRICT = ConfigDict(extra="forbid")
Size = tuple[int, int]


@dataclass(frozen=True, config=_STRICT)
class Weights:
    """Which file holds the weights. `origin` says where it comes from when there is no public `url`."""

    file: str
    sha256: str
    bytes: int
    url: str | None = None
    origin: str | None = None


@dataclass(frozen=True, config=_STRICT)
class Licence:
    """The terms of the weights, recorded in every dataset made with them."""

    name: str
    url: str
    non_commercial: bool = False


@dataclass(frozen=True, config=_STRICT)
class Input:
    """How pixels are fed: channel order, (x - mean) * scale with mean in that order, and how they get to size."""

    colour: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    scale: float
    resize: Literal["letterbox", "stretch"] = "letterbox"
    canvases: tuple[Size, ...] = ((112, 112),)


@dataclass(frozen=True, config=_STRICT)
class CloseUp:
    """The second pass: the whole picture small, for faces that fill the frame.

    Of its boxes only those whose longer side is at least `min_face` of the picture's longer side are taken.
    """

    canvases: tuple[Size, ...]
    fill: float
    min_face: float


@dataclass(frozen=True, config=_STRICT)
class Pack:
    """One model. Detectors have a `decoder`, a threshold and an NMS IoU; embedders give 512 numbers for a chip."""

    name: str
    kind: Literal["detector", "embedder"]
    title: str
    weights: Weights
    licence: Licence
    input: Input
    aliases: tuple[str, ...] = ()
    repair: Literal["none", "dynamic_batch"] = "none"
    decoder: str = ""
    landmarks: bool = False
    score: float = 0.5
    nms: float = 0.45
    close_up: CloseUp | None = None


@dataclass(frozen=True, config=_STRICT)
class Model:
    """A pack whose weights were found and are the right ones."""

    pack: Pack
    path: str
    source: bytes = field(repr=False)
    """The file's bytes, as published."""


def packs() -> dict[str, Pack]:
    """Every pack by name. Raises UsageError for a YAML file that is no pack, naming file and key."""
    found = {}
    for file in sorted(folder("models").glob("*.yaml")):
        try:
            pack = TypeAdapter(Pack).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
        except (ValidationError, yaml.YAMLError) as error:
            raise UsageError(f"{file.name} is no model pack: {error}") from None
        found[pack.name] = pack
    return found


def pack(name: str, kind: str) -> Pack:
    """The pack of that name or alias. Raises UsageError that lists the ones there are."""
    of_kind = {key: p for key, p in packs().items() if p.kind == kind}
    for candidate in of_kind.values():
        if name in (candidate.name, *candidate.aliases):
            return candidate
    raise UsageError(f"there is no {kind} pack {name!r}; there are {', '.join(of_kind)}")


def load(name: str, kind: str, weights: str | None = None) -> Model:
    """A pack with its weights, from an explicit path, FACEBATCH_MODELS, or the cache, whichever has the file first.

    Raises UsageError when the file is nowhere, naming the file, where it was looked for and what to set; and
    FacebatchError when a file is there but is not the one the pack describes.
    """
    found = pack(name, kind)
    places = [weights] if weights else _places(found.weights.file)
    for place in places:
        source = _read(place)
        if source is not None:
            _check(found, place, source)
            return Model(found, place, source)
    raise UsageError(_missing(found, places, explicit=weights is not None))


def find(pack: Pack) -> str | None:
    """Where the pack's weights are, unchecked; None if nowhere."""
    return next((place for place in _places(pack.weights.file) if _exists(place)), None)


def cache_folder() -> Path:
    """Where downloaded weights live: FACEBATCH_CACHE, else the user's cache folder."""
    given = os.environ.get("FACEBATCH_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facebatch/models"


def _places(file: str) -> list[str]:
    mirror = os.environ.get("FACEBATCH_MODELS")
    return [*([f"{mirror.rstrip('/')}/{file}"] if mirror else []), str(cache_folder() / file)]


def _exists(place: str) -> bool:
    fs, path = fsspec.url_to_fs(place)
    return bool(fs.isfile(path))


def _read(place: str) -> bytes | None:
    try:
        with fsspec.open(place, "rb") as file:
            data: bytes = file.read()
            return data
    except (FileNotFoundError, IsADirectoryError):
        return None
    except (OSError, ValueError, ImportError) as error:
        raise FacebatchError(f"the weights {place} cannot be read: {error}") from error


def _check(pack: Pack, place: str, source: bytes) -> None:
    seen = hashlib.sha256(source).hexdigest()
    if seen != pack.weights.sha256:
        raise FacebatchError(
            f"{place} is not the file that pack {pack.name} describes: expected {pack.weights.bytes} bytes with sha256 "
            f"{pack.weights.sha256}, found {len(source)} bytes with {seen}; replace it by the original"
        )


def _missing(pack: Pack, places: list[str], explicit: bool) -> str:
    looked = " and ".join(places)
    if explicit:
        return f"the weights of {pack.name} are not at {looked}"
    where = f"from {pack.weights.url}" if pack.weights.url else f"({pack.weights.origin})"
    return (
        f"the weights of {pack.name} are missing: looked for {looked}; get {Path(pack.weights.file).name} {where} and "
        f"set FACEBATCH_MODELS to the folder that holds {pack.weights.file}"
    )
