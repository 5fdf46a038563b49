"""The contract: what changes results is in it, what does not is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from facebatch import config, packs
from facebatch.contract import contract, contract_id, differences
from facebatch.networks import Networks, landmark_pack
from facebatch.packs import Model


def _model(name: str, kind: str) -> Model:
    """The pack's model as if its files had been found."""
    pack = packs.pack(name, kind)
    return Model(pack, "", pack.weights.files[0].sha256 or "", b"")


DETECTOR, EMBEDDER = _model("yunet-n", "detector"), _model("edgeface-xs", "embedder")
NETWORKS = Networks(DETECTOR, EMBEDDER)


def _id(words: list[str]) -> str:
    loaded = config.load(None, words)
    detector = _model(loaded.detect.pack, "detector")
    marks = landmark_pack(loaded, detector.pack)
    networks = Networks(
        detector,
        _model(loaded.embed.pack, "embedder"),
        _model(marks, "landmarks") if marks else None,
        _model(loaded.gate.model, "detector") if loaded.gate.model else None,
    )
    return contract_id(contract(loaded, networks))


@pytest.mark.parametrize(
    "word",
    [
        "detect.pack=slim-320",
        "embed.pack=w600k-mbf",
        "detect.score=0.6",
        "detect.nms=0.3",
        "detect.close_up=false",
        "decode.scale_above=0",
        "decode.max_pixels=1000000",
        "decode.truncated=accept",
        "landmarks=onet",
        "gate.model=slim-320",
        "embed.flip=true",
    ],
)
def test_what_changes_results_changes_the_contract(word: str) -> None:
    assert _id([word]) != _id([])


@pytest.mark.parametrize(
    "word",
    [
        "run.layout=split",
        "run.batch=1",
        "run.provider=cpu",
        "run.threads=3",
        "detect.batch=7",
        "embed.batch=4",
        "quality.small_face=50",
        "shards.files=10",
        "storage.region=mars",
        "detect.pack=facebatch-detector",
        "detect.score=0.8",
        "landmarks=none",
        "gate.score=0.1",
        "detect.tiles=false",
    ],
)
def test_what_does_not_change_results_does_not(word: str) -> None:
    assert _id([word]) == _id([])


def test_an_alias_is_the_same_contract() -> None:
    assert _id(["detect.pack=slim-320"]) == _id(["detect.pack=ultra-lightweight-face-detection-slim-320"])


def test_other_weights_are_another_contract() -> None:
    other = replace(DETECTOR, sha256="0" * 64)
    assert contract(config.Config(), Networks(other, EMBEDDER)) != contract(config.Config(), NETWORKS)


@pytest.mark.parametrize(
    "change",
    [
        {"anchors": packs.Anchors((8,), ((10.0,),))},
        {"decoder": "priors"},
        {"input": replace(DETECTOR.pack.input, colour="RGB")},
        {"weights": replace(DETECTOR.pack.weights, options={"free": "batch"})},
        {"weights": replace(DETECTOR.pack.weights, importer="extd")},
    ],
    ids=["anchors", "decoder", "colour", "options", "importer"],
)
def test_another_way_to_use_the_same_weights_is_another_contract(change: dict[str, object]) -> None:
    other = replace(DETECTOR, pack=replace(DETECTOR.pack, **change))  # type: ignore[arg-type]
    assert contract(config.Config(), Networks(other, EMBEDDER)) != contract(config.Config(), NETWORKS)


def test_the_contract_of_the_defaults_is_the_one_that_datasets_carry() -> None:
    """Red when a change of code or packs makes old datasets refuse new rows. On purpose? Then say so in the README."""
    assert _id(["detect.pack=yunet-n", "embed.pack=edgeface-xs"]) == "2e84fc764e3e92532fc677bf6ecf4364"
    assert _id([]) == "5acafa5bde06181bedf6c4b1a0401e5d"


def test_differences_name_the_terms() -> None:
    before = contract(config.Config(), NETWORKS)
    now = contract(config.load(None, ["detect.score=0.6", "decode.truncated=accept"]), NETWORKS)
    assert differences(before, now) == [
        "decode.truncated was fail and is now accept",
        "detector.score was 0.5 and is now 0.6",
    ]
    assert differences(now, now) == []
