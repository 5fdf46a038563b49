"""What can be said of model packs: which there are, where their weights are, whether they are right, what they cost."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from facebatch import config, packs
from facebatch.contract import contract_id, network
from facebatch.cost import cost
from facebatch.detect import Settings
from facebatch.errors import FacebatchError, UsageError
from facebatch.importers import Given
from facebatch.packs import File, Model, Pack
from facebatch.session import CPU, Session


def whereabouts(pack: Pack) -> str:
    """Where the weights are, unchecked, or which file is missing."""
    found = packs.find(pack)
    missing = [file.path for file, place in zip(pack.weights.files, found, strict=True) if place is None]
    return f"missing: {', '.join(missing)}" if missing else str(found[0])


def availability(pack: Pack) -> str:
    """Whether a pack can be used at once (`built in`, `here`), downloaded (`to pull`), or needs files of the user's."""
    if pack.weights.built_in:
        return "built in"
    if all(packs.find(pack)):
        return "here"
    return "to pull" if all(file.url and file.sha256 for file in pack.weights.files) else "bring it"


def megabytes(pack: Pack) -> float | None:
    """Of the weights as they are published; None where nobody has said."""
    sizes = [file.bytes for file in pack.weights.files]
    return None if None in sizes else sum(size or 0 for size in sizes) / 1e6


def check(pack: Pack) -> Model:
    """The pack's model, proved: the right files, a graph that loads, and the same results in a batch as alone.

    Raises UsageError when files are missing, FacebatchError when they are not right.
    """
    model = packs.load(pack.name, pack.kind)
    Session(model, CPU).prove_batch()
    return model


def describe(pack: Pack) -> list[tuple[str, str]]:
    """Everything about a pack, as titles and texts: with its cost and its share of the contract where the weights are
    at hand and right, and with the reason where they are not."""
    lines = [("name", ", ".join((pack.name, *pack.aliases))), ("kind", pack.kind), ("title", pack.title)]
    for file, place in zip(pack.weights.files, packs.find(pack), strict=True):
        digest = f"sha256 {file.sha256}" if file.sha256 else "no sha256 is known: needs --trust"
        lines.append(("file", f"{file.path}, {digest}, {'at ' + place if place else 'missing'}"))
        if file.url:
            lines.append(("", file.url))
    if pack.weights.origin:
        lines.append(("origin", pack.weights.origin))
    commercial = ", no commercial use" if pack.licence.non_commercial else ""
    lines.append(("licence", f"{pack.licence.name}{commercial}, {pack.licence.url}"))
    fed = pack.input
    sizes = ", ".join(f"{width}x{height}" for width, height in fed.canvases)
    lines.append(("input", f"{fed.colour}, (x - {list(fed.mean)}) * {fed.scale:g}, {fed.resize} to {sizes}"))
    if pack.kind == "detector":
        lines.append(("decoder", f"{pack.decoder}, score {pack.score}, NMS {pack.nms}, landmarks {pack.landmarks}"))
    try:
        model = packs.load(pack.name, pack.kind)
    except FacebatchError as error:
        return [*lines, ("weights", str(error))]
    return [*lines, *_cost(model), ("contract", contract_id(_terms(model))), ("", json.dumps(_terms(model)))]


def take(pack: Pack, paths: Sequence[str], trust: bool, onnx: str | None = None) -> Model:
    """Import files of the user's: checked, made a graph, proved, then copied to the cache for later runs.

    A pack's further files are looked for where weights always are. trust: take them whatever their sha256, if their
    content fits, and remember that. Those of a built-in pack, and those in eight bits, are used where they are named.
    onnx: also write the graph to this file.
    Raises UsageError for a missing file, FacebatchError for one that is not the model.
    """
    given = []
    for path in paths:
        data = packs.read(path)
        if data is None:
            raise UsageError(f"there is no file {path}")
        given.append(Given(path, data))
    small = packs.reduced(pack, given[0], trust) if len(given) == 1 else None
    files = given if small else _sorted(pack, given)
    model = small or packs.build(pack, files, trust)
    Session(model, CPU).prove_batch()
    if not (pack.weights.built_in or small):
        for file, one in zip(pack.weights.files, files, strict=True):
            keep(packs.cache_folder() / file.path, one.data)
    if trust:
        packs.trust(pack, [hashlib.sha256(one.data).hexdigest() for one in files])
    if onnx:
        keep(Path(onnx), model.graph)
    return model


def _cost(model: Model) -> list[tuple[str, str]]:
    pack = model.pack
    width, height = max(pack.input.canvases, key=lambda size: size[0] * size[1])
    counted = cost(model.graph, width, height)
    as_published = f", {model.parameters:,} as trained" if model.parameters else ""
    return [
        ("parameters", f"{counted.folded:,} with batch norms folded, {counted.constants:,} constants{as_published}"),
        ("cost", f"{counted.gflops:.4f} GFLOPs at {width}x{height}, convolutions and dense layers"),
    ]


def _terms(model: Model) -> dict[str, object]:
    if model.pack.kind != "detector":
        return network(model)
    settings: dict[str, object] = json.loads(json.dumps(asdict(Settings.of(config.Detect(), model.pack))))
    return network(model) | settings


def _sorted(pack: Pack, given: list[Given]) -> list[Given]:
    """The given files in the pack's order: by digest, else by name, else by suffix, else the only one left."""
    left = list(given)
    digests = {one.name: hashlib.sha256(one.data).hexdigest() for one in given}
    found: dict[File, Given] = {}
    for alike in (
        lambda file, one: digests[one.name] == file.sha256,
        lambda file, one: Path(one.name).name == file.name,
        lambda file, one: Path(one.name).suffix == Path(file.name).suffix,
        lambda file, one: len(pack.weights.files) == 1,
    ):
        for file in pack.weights.files:
            match = next((one for one in left if file not in found and alike(file, one)), None)
            if match:
                found[file] = match
                left.remove(match)
    if left:
        raise UsageError(f"{left[0].name} is none of the files of pack {pack.name}: {_names(pack)}")
    for file in pack.weights.files:
        if file not in found:
            place, data = next(
                ((p, d) for p in packs.places(pack, file) if (d := packs.read(p)) is not None), ("", b"")
            )
            if not place:
                raise UsageError(
                    f"pack {pack.name} needs {_names(pack)}; {file.name} is missing: name it with --from too"
                )
            found[file] = Given(place, data)
    return [found[file] for file in pack.weights.files]


def _names(pack: Pack) -> str:
    return " and ".join(file.name for file in pack.weights.files)


def keep(target: Path, data: bytes) -> None:
    """Write a file, whole or not at all. Raises FacebatchError."""
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, target)
    except OSError as error:
        raise FacebatchError(f"{target} cannot be written: {error}") from error
