"""Which networks a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from facebatch import config, networks, packs
from facebatch.errors import UsageError
from facebatch.networks import DEFAULT_LANDMARKS, Networks, landmark_pack
from facebatch.packs import Model


@pytest.mark.parametrize(
    ("detector", "landmarks", "wanted"),
    [
        ("yunet-n", "auto", None),
        ("yunet-n", "none", None),
        ("yunet-n", "onet", "onet"),
        ("slim-320", "auto", DEFAULT_LANDMARKS),
        ("slim-320", "none", None),
        ("slim-320", "onet", "onet"),
        ("ssh", "auto", DEFAULT_LANDMARKS),
        ("extd-32", "auto", DEFAULT_LANDMARKS),
        ("ssdlite", "auto", None),
        ("ssdlite", "onet", None),
    ],
)
def test_a_landmark_network_is_there_for_faces_that_have_boxes_only(
    detector: str, landmarks: str, wanted: str | None
) -> None:
    settings = config.load(None, [f"detect.pack={detector}", f"landmarks={landmarks}"])
    assert landmark_pack(settings, packs.pack(detector)) == wanted


@pytest.mark.needs_models
def test_the_networks_of_a_run_and_what_is_said_of_them() -> None:
    words = ["detect.pack=slim-320", "gate.model=yunet-s"]
    found = networks.load(config.load(None, words))
    assert [model.pack.name for model in found] == [
        "yunet-s",
        "ultra-lightweight-face-detection-slim-320",
        DEFAULT_LANDMARKS,
        "facebatch-embedder",
    ]
    assert found.facts["landmarks"] == DEFAULT_LANDMARKS
    assert found.facts["gate"] == "yunet-s"
    assert set(found.facts["licences"]) == {model.pack.name for model in found}


@pytest.mark.needs_models
@pytest.mark.parametrize(("detector", "source"), [("yunet-n", "yunet-n"), ("slim-320", None)])
def test_without_a_landmark_network_landmarks_are_the_detectors_or_there_are_none(
    model: Callable[[str, str], Model], detector: str, source: str | None
) -> None:
    facts = Networks(model(detector, "detector"), model("edgeface-xs", "embedder")).facts
    assert (facts["landmarks"], facts["gate"]) == (source, None)


@pytest.mark.needs_models
def test_a_landmark_network_that_is_missing_is_never_done_without_in_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Callable[[str, str], Model]
) -> None:
    for kind, name in (("detector", "slim-320"), ("embedder", "edgeface-xs")):
        path = Path(model(name, kind).path)
        (tmp_path / path.parent.name).mkdir()
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("FACEBATCH_MODELS", str(tmp_path))
    with pytest.raises(UsageError, match="slim-320 finds boxes only.* are missing.*landmarks=none"):
        networks.load(config.load(None, ["detect.pack=slim-320"]))
    assert networks.load(config.load(None, ["detect.pack=slim-320", "landmarks=none"])).landmarks is None
    with pytest.raises(UsageError, match="^the weights of onet are missing"):
        networks.load(config.load(None, ["detect.pack=slim-320", "landmarks=onet"]))


@pytest.mark.needs_models
def test_a_pack_that_does_not_do_what_it_is_named_for_is_refused() -> None:
    with pytest.raises(UsageError, match="no landmarks pack 'yunet-n'; there are .*-0009, onet"):
        networks.load(config.load(None, ["landmarks=yunet-n"]))
    with pytest.raises(UsageError, match="no detector pack 'onet'"):
        networks.load(config.load(None, ["gate.model=onet"]))
    with pytest.raises(UsageError, match="gate.model=yunet-n is the detector itself"):
        networks.load(config.load(None, ["detect.pack=yunet-n", "gate.model=yunet-n"]))
