"""The contract: what changes results is in it, what does not is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from facebatch import config, packs
from facebatch.contract import contract, contract_id, differences

DETECTOR, EMBEDDER = packs.pack("yunet-n", "detector"), packs.pack("edgeface-xs", "embedder")


def _id(words: list[str]) -> str:
    loaded = config.load(None, words)
    return contract_id(
        contract(loaded, packs.pack(loaded.detect.pack, "detector"), packs.pack(loaded.embed.pack, "embedder"))
    )


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
        "detect.pack=yunet-n",
        "detect.score=0.5",
    ],
)
def test_what_does_not_change_results_does_not(word: str) -> None:
    assert _id([word]) == _id([])


def test_an_alias_is_the_same_contract() -> None:
    assert _id(["detect.pack=slim-320"]) == _id(["detect.pack=ultra-lightweight-face-detection-slim-320"])


def test_other_weights_are_another_contract() -> None:
    other = replace(DETECTOR, weights=replace(DETECTOR.weights, sha256="0" * 64))
    assert contract(config.Config(), other, EMBEDDER) != contract(config.Config(), DETECTOR, EMBEDDER)


def test_the_contract_of_the_defaults_is_the_one_that_datasets_carry() -> None:
    """Red when a change of code or packs makes old datasets refuse new rows. On purpose? Then say so in the README."""
    assert _id([]) == "1f09bceaea1786ab45521bc63c5a144e"


def test_differences_name_the_terms() -> None:
    before = contract(config.Config(), DETECTOR, EMBEDDER)
    now = contract(config.load(None, ["detect.score=0.6", "decode.truncated=accept"]), DETECTOR, EMBEDDER)
    assert differences(before, now) == [
        "decode.truncated was fail and is now accept",
        "detector.score was 0.5 and is now 0.6",
    ]
    assert differences(now, now) == []
