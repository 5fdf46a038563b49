"""Model packs: everything about a model that is data, from YAML; and where its weights are found.

A pack says what its files must be (sha256), under which licence they come, how they become a graph, how it is fed and
how its output is decoded. Adding a model of a known family means adding a YAML file to models/.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import fsspec
import yaml
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from facebatch import importers
from facebatch.config import laid_over
from facebatch.errors import FacebatchError, UsageError
from facebatch.importers import Given, Imported, quantised
from facebatch.resources import folder

_STRICT = ConfigDict(extra="forbid")
Size = tuple[int, int]
Kind = Literal["detector", "embedder", "landmarks"]


@dataclass(frozen=True, config=_STRICT)
class File:
    """A published file. Without a sha256, because none is truly known, the user has to say that theirs is trusted."""

    path: str
    sha256: str | None = None
    bytes: int | None = None
    url: str | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, config=_STRICT)
class Weights:
    """The files that hold the weights, and the importer that makes a graph of them. `origin` says where files without
    a public `url` come from; `built_in` ones lie beside their pack."""

    files: tuple[File, ...]
    origin: str | None = None
    built_in: bool = False
    importer: str = "onnx"
    options: dict[str, Any] = field(default_factory=dict)


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
class Anchors:
    """The fixed boxes that a detector's outputs are relative to: for each step (stride) the sides of its squares.

    grid: cells are `step` pixels wide from the top left corner (`pixels`), or share the canvas evenly (`cells`).
    """

    steps: tuple[int, ...]
    sizes: tuple[tuple[float, ...], ...]
    grid: Literal["pixels", "cells"] = "pixels"
    clip: bool = False


@dataclass(frozen=True, config=_STRICT)
class CloseUp:
    """The second pass: the whole picture small, for faces that fill the frame.

    Of its boxes only those whose longer side is at least `min_face` of the picture's longer side are taken; and, if it
    `yields`, none where the first pass is sure of a face, whose box is the more exact one unless it saw too few pixels.
    """

    canvases: tuple[Size, ...]
    fill: float
    min_face: float
    yields: bool = False


@dataclass(frozen=True, config=_STRICT)
class Tiles:
    """A further pass for small faces: the picture in `across` x `across` parts, each as large as the whole one was.

    Neighbours share `overlap` of the picture's width and height. Boxes whose longer side is more than `max_face` of
    the picture's longer side are left to the first pass.
    """

    across: int
    overlap: float
    max_face: float


@dataclass(frozen=True, config=_STRICT)
class Measured:
    """What users choose by, from the README's tables: `accuracy` of detectors is AP on 282 photos, of embedders AUC on
    1,200 pairs; `milliseconds` are those of one core for an image or a face, in the pack's default setting."""

    accuracy: float
    milliseconds: float


@dataclass(frozen=True, config=_STRICT)
class Pack:
    """One model. Detectors have a `decoder`, a threshold and an NMS IoU, and say what they find; embedders give 512
    numbers for a chip; landmark nets give five points for a crop, which is the box pulled to the canvas (`box`) or the
    upright square around it (`square`)."""

    name: str
    kind: Kind
    title: str
    weights: Weights
    licence: Licence
    input: Input
    aliases: tuple[str, ...] = ()
    decoder: str = ""
    anchors: Anchors | None = None
    landmarks: bool = False
    score: float = 0.5
    nms: float = 0.45
    close_up: CloseUp | None = None
    tiles: Tiles | None = None
    finds: Literal["faces", "people"] = "faces"
    crop: Literal["box", "square"] = "box"
    measured: Measured | None = None


@dataclass(frozen=True, config=_STRICT)
class Model:
    """A pack whose weights were found, are the right ones, and were made a graph."""

    pack: Pack
    path: str
    sha256: str
    """Of the file; of all their digests in a row where there are several."""
    graph: bytes = field(repr=False)
    """ONNX, ready to run in batches."""
    parameters: int | None = None
    """As the paper counts them, where the importer knows."""
    precision: Literal["float32", "float16", "int8"] = "float32"
    """Of weights and of the maps between most layers; inputs and outputs are float32 all the same."""


def packs() -> dict[str, Pack]:
    """Every pack by name. Raises UsageError for a YAML file that is no pack, naming file and key.

    A file may hold several models of one family: `variants` lists what they change of the rest.
    """
    files = sorted(folder("models").glob("*.yaml"))
    return {pack.name: pack for file in files for pack in family(file.name, file.read_bytes())}


def family(name: str, data: bytes) -> list[Pack]:
    """The packs of one file. Raises UsageError, naming it, for one that is no pack."""
    try:
        content = yaml.safe_load(data)
        variants = content.pop("variants", [{}])
        return [TypeAdapter(Pack).validate_python(laid_over(content, variant)) for variant in variants]
    except (
        yaml.YAMLError,
        AttributeError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:  # pydantic's are ValueErrors
        raise UsageError(f"{name} is no model pack: {error}") from None


def pack(name: str, kind: str | None = None) -> Pack:
    """The pack of that name or alias. Raises UsageError that lists the ones there are."""
    of_kind = {key: p for key, p in packs().items() if kind in (None, p.kind)}
    for candidate in of_kind.values():
        if name in (candidate.name, *candidate.aliases):
            return candidate
    raise UsageError(f"there is no {kind or 'model'} pack {name!r}; there are {', '.join(of_kind)}")


def load(name: str, kind: str, weights: str | None = None) -> Model:
    """A pack with its weights, from an explicit path, FACEBATCH_MODELS, or the cache, whichever has the files first.

    weights: the file, or the folder that holds the files where there are several; or a file that `facebatch models
    quantize` made of them.
    Raises UsageError when a file is nowhere, naming it, where it was looked for and what to set; and FacebatchError
    when a file is there but is not the one the pack describes.
    """
    found = pack(name, kind)
    data = read(weights) if weights else None
    if weights and data and (small := reduced(found, Given(weights, data))):
        return small
    files = []
    for file in found.weights.files:
        looked = places(found, file, weights)
        given = next(((place, data) for place in looked if (data := read(place)) is not None), None)
        if given is None:
            raise UsageError(_missing(found, file, looked, explicit=weights is not None))
        files.append(Given(*given))
    return build(found, files)


def build(pack: Pack, files: Sequence[Given], trust: bool = False) -> Model:
    """The graph of a pack's files, which are in the pack's order. trust: take files of another sha256 as well.

    Raises FacebatchError for files that are not the model.
    """
    digests = [_checked(pack, file, given, trust) for file, given in zip(pack.weights.files, files, strict=True)]
    made: Imported = importers.run(pack.weights.importer, files, pack.weights.options)
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return Model(pack, files[0].name, digest, made.graph, made.parameters)


def reduced(pack: Pack, given: Given, trust: bool = False) -> Model | None:
    """The model of a file that `facebatch models quantize` or `halve` made; None for any other file.

    Raises FacebatchError for one that was made of another pack, or elsewhere and is not trusted.
    """
    mark = quantised.mark(given.data)
    if mark is None:
        return None
    if mark.pack != pack.name:
        raise FacebatchError(f"{given.name} is {mark.pack} in {mark.words}, and not {pack.name}: use it with that pack")
    digest = hashlib.sha256(given.data).hexdigest()
    if not trust and digest not in trusted(pack):
        raise FacebatchError(
            f"{given.name} is {pack.name} in {mark.words}, but was not made here: `facebatch models import {pack.name} "
            f"--from {given.name} --trust` checks its content and remembers it"
        )
    return Model(pack, given.name, digest, given.data, precision=mark.precision)


def places(pack: Pack, file: File, weights: str | None = None) -> list[str]:
    """Where a file is looked for, in this order."""
    if weights:
        return [weights if len(pack.weights.files) == 1 else f"{weights.rstrip('/')}/{file.name}"]
    if pack.weights.built_in:
        return [str(folder("models") / file.path)]
    mirror = os.environ.get("FACEBATCH_MODELS")
    return [*([f"{mirror.rstrip('/')}/{file.path}"] if mirror else []), str(cache_folder() / file.path)]


def find(pack: Pack) -> list[str | None]:
    """Where each of the pack's files is, unchecked; None if nowhere."""
    return [next((place for place in places(pack, file) if _exists(place)), None) for file in pack.weights.files]


def cache_folder() -> Path:
    """Where downloaded and imported weights live: FACEBATCH_CACHE, else the user's cache folder."""
    given = os.environ.get("FACEBATCH_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facebatch/models"


def trusted(pack: Pack) -> set[str]:
    """The sha256 of files that the user has said to trust, by `facebatch models import --trust`."""
    record = _trust_record(pack)
    return set(record.read_text(encoding="utf-8").split()) if record.exists() else set()


def trust(pack: Pack, digests: Sequence[str]) -> None:
    """Note that the user trusts these files. Raises OSError."""
    record = _trust_record(pack)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("\n".join(sorted({*trusted(pack), *digests})), encoding="utf-8")


def read(place: str) -> bytes | None:
    """The file's bytes; None if there is none. Raises FacebatchError when it cannot be read."""
    try:
        with fsspec.open(place, "rb") as file:
            data: bytes = file.read()
            return data
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except (OSError, ValueError, ImportError) as error:
        raise FacebatchError(f"the weights {place} cannot be read: {error}") from error


def _trust_record(pack: Pack) -> Path:
    return cache_folder() / "trusted" / f"{pack.name}.txt"


def _exists(place: str) -> bool:
    fs, path = fsspec.url_to_fs(place)
    return bool(fs.isfile(path))


def _checked(pack: Pack, file: File, given: Given, trust: bool) -> str:
    seen = hashlib.sha256(given.data).hexdigest()
    if seen == file.sha256 or trust or seen in trusted(pack):
        return seen
    if file.sha256 is None:
        raise FacebatchError(
            f"no sha256 is known for {file.name} of pack {pack.name}; if you know where {given.name} comes from, "
            f"`facebatch models import {pack.name} --from {given.name} --trust` checks its content and remembers it"
        )
    owner = next((p.name for p in packs().values() for f in p.weights.files if f.sha256 == seen), None)
    other = f"it is the file of pack {owner}: use that pack" if owner else "replace it by the original"
    raise FacebatchError(
        f"{given.name} is not the file that pack {pack.name} describes: expected {file.bytes} bytes with sha256 "
        f"{file.sha256}, found {len(given.data)} bytes with {seen}; {other}"
    )


def _missing(pack: Pack, file: File, places: list[str], explicit: bool) -> str:
    looked = " and ".join(places)
    if explicit:
        return f"the weights of {pack.name} are not at {looked}"
    if file.sha256 is None:
        way = f"({pack.weights.origin}) and run `facebatch models import {pack.name} --from FILE --trust`"
    else:
        where = f"from {file.url} (`facebatch models pull {pack.name}`)" if file.url else f"({pack.weights.origin})"
        way = f"{where} and set FACEBATCH_MODELS to the folder that holds {file.path}"
    return f"the weights of {pack.name} are missing: looked for {looked}; get {file.name} {way}"
