"""Packs: what a model is, and where its weights are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from facebatch import config, packs
from facebatch.errors import FacebatchError, UsageError
from facebatch.packs import Model
from facebatch.resources import folder


def test_every_pack_loads_and_names_its_licence() -> None:
    found = packs.packs()
    mission = {
        "ultra-lightweight-face-detection-slim-320",
        "ssh-mxnet",
        "ssdlite_mobilenet_v2",
        "face-recognition-resnet34-arcface",
        *(
            f"extd-{head}-{c}-{act}"
            for head in ("fpn", "ssd")
            for c in (32, 48, 64)
            for act in ("prelu", "leaky", "relu")
        ),
    }
    assert mission <= set(found)
    for pack in found.values():
        assert pack.licence.name
        built_in = pack.weights.built_in and (folder("models") / pack.licence.url).is_file()
        assert built_in or pack.licence.url.startswith("https://")
        for file in pack.weights.files:
            assert file.url or pack.weights.origin, f"{pack.name} does not say where {file.path} comes from"
            assert file.sha256 is None or len(file.sha256) == 64
            assert file.url is None or file.sha256, "what is downloaded is checked"


def test_a_pack_is_found_by_name_and_alias() -> None:
    assert packs.pack("slim-320", "detector").name == "ultra-lightweight-face-detection-slim-320"


def test_an_unknown_pack_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no embedder pack 'yunet-n'; there are .*edgeface-xs, .*w600k-mbf"):
        packs.pack("yunet-n", "embedder")


def test_missing_weights_say_which_file_where_it_was_looked_for_and_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEBATCH_MODELS", str(tmp_path / "mirror"))
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UsageError) as error:
        packs.load("yunet-n", "detector")
    for part in (
        f"{tmp_path}/mirror/yunet/yunet_n_dynamic.onnx",
        f"{tmp_path}/cache/yunet/yunet_n_dynamic.onnx",
        "https://raw.githubusercontent.com/ShiqiYu/",
        "set FACEBATCH_MODELS to the folder that holds yunet/yunet_n_dynamic.onnx",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="edgeface_xs_q"):
        packs.load("edgeface-xs", "embedder")
    with pytest.raises(UsageError, match=r"the weights of yunet-n are not at .*/here\.onnx"):
        packs.load("yunet-n", "detector", str(tmp_path / "here.onnx"))


def test_another_file_under_the_right_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEBATCH_MODELS", str(tmp_path))
    (tmp_path / "yunet").mkdir()
    (tmp_path / "yunet" / "yunet_n_dynamic.onnx").write_bytes(b"another")
    with pytest.raises(FacebatchError, match="expected 322906 bytes with sha256 104ee26c.*found 7 bytes"):
        packs.load("yunet-n", "detector")


@pytest.mark.needs_models
def test_an_explicit_path_wins_over_the_mirror_and_the_mirror_over_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Callable[[str, str], Model]
) -> None:
    source = packs.read(model("yunet-n", "detector").path) or b""
    for place in ("mirror", "cache"):
        (tmp_path / place / "yunet").mkdir(parents=True)
        (tmp_path / place / "yunet" / "yunet_n_dynamic.onnx").write_bytes(source)
    (tmp_path / "mine.onnx").write_bytes(source)
    monkeypatch.setenv("FACEBATCH_MODELS", str(tmp_path / "mirror"))
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "cache"))
    assert packs.load("yunet-n", "detector", str(tmp_path / "mine.onnx")).path == str(tmp_path / "mine.onnx")
    assert packs.load("yunet-n", "detector").path.startswith(str(tmp_path / "mirror"))
    monkeypatch.delenv("FACEBATCH_MODELS")
    assert packs.load("yunet-n", "detector").path.startswith(str(tmp_path / "cache"))


def test_weights_can_come_from_any_fsspec_url(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/mirror/yunet/yunet_n_dynamic.onnx", b"another")
    monkeypatch.setenv("FACEBATCH_MODELS", "memory://mirror")
    with pytest.raises(FacebatchError, match="memory://mirror/yunet/yunet_n_dynamic.onnx is not the file"):
        packs.load("yunet-n", "detector")


def test_a_broken_pack_names_file_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\nkind: detectr\n")
    monkeypatch.setattr(packs, "folder", lambda _: tmp_path)
    with pytest.raises(UsageError, match=r"bad\.yaml is no model pack"):
        packs.packs()


def test_the_built_in_pair_needs_no_mirror_and_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEBATCH_MODELS", str(tmp_path / "mirror"))
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "cache"))
    defaults = config.Config()
    pair = packs.load(defaults.detect.pack, "detector"), packs.load(defaults.embed.pack, "embedder")
    assert [one.pack.weights.built_in for one in pair] == [True, True]
    assert sum(len(one.graph) for one in pair) <= 8_000_000
