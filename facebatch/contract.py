"""The contract: a hash over everything that changes a box or a vector. Two contracts never mix in one dataset.

Not in it, because results do not depend on it beyond rounding: execution provider, batch sizes, layout, versions of
packages. Those are recorded with each run as provenance.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from facebatch.align import CHIP, TEMPLATE
from facebatch.config import Config
from facebatch.detect import Settings
from facebatch.importers import revision
from facebatch.networks import Networks
from facebatch.packs import Model

_REVISION = {
    "decode": "turbo-islow-srgb-scaled-2",
    "resample": "halve-bilinear-1",
    "align": "umeyama-5-or-box-up5-1",
    "precision": "float32",
}
"""Raised by hand when code changes results on purpose. Golden vectors in the tests notice when it was forgotten."""


def contract(config: Config, networks: Networks) -> dict[str, Any]:
    """The terms, as JSON-ready values: what to compare when two datasets differ.

    What not every run has is named where it is had: datasets from before it was there go on.
    """
    detector, landmarks, gate = networks.detector, networks.landmarks, networks.gate
    terms: dict[str, Any] = {
        "decode": asdict(config.decode),
        "detector": network(detector) | Settings.of(config.detect, detector.pack).terms(),
        "embedder": network(networks.embedder) | ({"flip": True} if config.embed.flip else {}),
        "align": {"chip": CHIP, "template": TEMPLATE.tolist()},
        "code": _REVISION,
    }
    if landmarks:
        terms["landmarks"] = network(landmarks)
    if gate:
        terms["gate"] = network(gate) | Settings.of_gate(config.gate, gate.pack).terms()
    return _plain(terms)


def facts_of(config: Config, networks: Networks) -> dict[str, Any]:
    """What a dataset made with these settings and networks says of itself (`Dataset.open`)."""
    terms = contract(config, networks)
    return {"contract": terms, "contract_id": contract_id(terms), "relative": bool(config.base_uri), **networks.facts}


def network(model: Model) -> dict[str, Any]:
    """A model's own share of the terms: which weights, how they became a graph, how it is fed and decoded."""
    pack = model.pack
    terms: dict[str, Any] = {
        "weights": model.sha256,
        "importer": {"name": revision(pack.weights.importer), "options": pack.weights.options},
        "input": {"colour": pack.input.colour, "mean": pack.input.mean, "scale": pack.input.scale},
    }
    if model.precision != "float32":
        terms["precision"] = model.precision
    if pack.kind == "detector":
        anchors = asdict(pack.anchors) if pack.anchors else None
        terms |= {"decoder": pack.decoder, "anchors": anchors}
    if pack.kind == "landmarks":
        terms |= {"crop": pack.crop, "canvas": pack.input.canvases}
    return _plain(terms)


def contract_id(terms: dict[str, Any]) -> str:
    """First 32 hex digits of sha256 over the canonical JSON of the terms."""
    return hashlib.sha256(json.dumps(terms, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """The terms that differ, one sentence each."""
    found = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {old} and is now {new}")
    return found


def _plain(terms: dict[str, Any]) -> dict[str, Any]:
    """As JSON would give it back: what is stored is compared with what is made."""
    plain: dict[str, Any] = json.loads(json.dumps(terms))
    return plain
