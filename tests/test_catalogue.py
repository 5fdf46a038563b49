"""What users do with packs: look at them, check them, bring their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from facebatch import catalogue, packs
from facebatch.errors import FacebatchError, UsageError
from facebatch.packs import Model
from tests.test_cli import run

pytestmark = pytest.mark.needs_models


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """An empty cache and no mirror; gives copies of published files under other names."""
    source = Path(packs.read.__globals__["os"].environ["FACEBATCH_MODELS"])
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FACEBATCH_MODELS")

    def copy(name: str, to: str) -> Path:
        return Path(shutil.copy(source / name, tmp_path / to))

    return copy


def test_an_imported_checkpoint_is_found_by_later_runs(
    mirror: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="missing"):
        packs.load("extd-32", "detector")
    file = mirror("extd/EXTD_32.pth", "whatever.pth")
    assert run("models", "import", "extd-32", "--from", str(file)) == 0
    assert "extd-fpn-32-prelu is imported, 62,939 parameters, sha256 36a0e68a" in capsys.readouterr().out
    assert packs.load("extd-32", "detector").parameters == 62_939


def test_weights_that_were_trained_at_home_take_the_built_in_ones_place_where_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "cache"))
    built_in = packs.load("facebatch-detector", "detector")
    graph = onnx.load_from_string(built_in.graph)
    graph.producer_name = "at home"
    own = tmp_path / "best.onnx"
    own.write_bytes(graph.SerializeToString())
    with pytest.raises(FacebatchError, match=r"best.onnx is not the file that pack facebatch-detector describes"):
        packs.load("facebatch-detector", "detector", str(own))
    assert run("models", "import", "facebatch-detector", "--from", str(own), "--trust") == 0
    assert f"detect.weights={own} uses it, and without that the built-in file stays" in capsys.readouterr().out
    assert packs.load("facebatch-detector", "detector", str(own)).sha256 != built_in.sha256
    assert packs.load("facebatch-detector", "detector").sha256 == built_in.sha256


def test_files_are_put_in_order_and_missing_ones_are_named(mirror: Callable[..., Path], tmp_path: Path) -> None:
    pack = packs.pack("retinaface-mnet25")
    params = mirror("retinaface/mxnet_mnet25/mnet.25-0000.params", "a.params")
    with pytest.raises(UsageError, match=r"mnet.25-symbol.json is missing: name it with --from too"):
        catalogue.take(pack, [str(params)], trust=False)
    symbol = mirror("retinaface/mxnet_mnet25/mnet.25-symbol.json", "b.json")
    model = catalogue.take(pack, [str(symbol), str(params)], trust=False, onnx=str(tmp_path / "out.onnx"))
    assert (tmp_path / "out.onnx").read_bytes() == model.graph
    assert packs.load(pack.name, pack.kind).sha256 == model.sha256
    extra = mirror("yunet/yunet_n_dynamic.onnx", "c.onnx")
    with pytest.raises(UsageError, match=r"c.onnx is none of the files of pack retinaface-mnet25"):
        catalogue.take(pack, [str(symbol), str(params), str(extra)], trust=False)


def test_the_two_files_of_one_name_are_told_apart(mirror: Callable[..., Path]) -> None:
    relu = mirror("retinaface/mobilenet0.25_relu.pth", "mobilenet0.25_Final.pth")
    with pytest.raises(FacebatchError, match="it is the file of pack retinaface-mobilenet0.25-relu: use that pack"):
        catalogue.take(packs.pack("retinaface-mobilenet0.25"), [str(relu)], trust=False)
    assert catalogue.take(packs.pack("retinaface-mobilenet0.25-relu"), [str(relu)], trust=False).parameters == 426_608


def test_a_file_without_a_known_digest_is_taken_only_on_trust(mirror: Callable[..., Path]) -> None:
    """The pack of a variant that nobody has published, and a checkpoint of one's own (here: the published one's)."""
    pack = packs.pack("extd-fpn-48-prelu")
    mine = mirror("extd/EXTD_48.pth", "mine.pth")
    mine.write_bytes(mine.read_bytes() + b"trailing")
    with pytest.raises(FacebatchError, match="expected 443717 bytes with sha256 3f05368c.*found 443725 bytes"):
        catalogue.take(pack, [str(mine)], trust=False)
    taken = catalogue.take(pack, [str(mine)], trust=True)
    assert packs.load(pack.name, pack.kind).sha256 == taken.sha256
    assert taken.sha256 not in {file.sha256 for file in pack.weights.files}, "the contract knows the difference"
    unpublished = packs.pack("extd-fpn-48-relu")
    with pytest.raises(FacebatchError, match=r"no sha256 is known.*models import extd-fpn-48-relu --from .* --trust"):
        catalogue.take(unpublished, [str(mine)], trust=False)
    with pytest.raises(FacebatchError, match="mine.pth is another model"):
        catalogue.take(unpublished, [str(mine)], trust=True)


def test_what_is_refused_leaves_nothing_behind(mirror: Callable[..., Path]) -> None:
    wrong = mirror("extd/EXTD_64.pth", "wrong.pth")
    for trust in (False, True):
        with pytest.raises(FacebatchError):
            catalogue.take(packs.pack("extd-32"), [str(wrong)], trust)
    assert not packs.cache_folder().exists()


def test_check_tells_right_from_wrong_from_missing(
    mirror: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue.take(packs.pack("yunet-n"), [str(mirror("yunet/yunet_n_dynamic.onnx", "a.onnx"))], trust=False)
    assert run("models", "check") == 0, "packs that are not there are no mistake"
    text = capsys.readouterr().out
    assert "yunet-n: ok" in text
    assert "ssh-mxnet: missing: ssh/sshb-0000.params, ssh/e2e-symbol.json" in text
    assert run("models", "check", "yunet-s") == 1
    assert "yunet-s: the weights of yunet-s are missing" in capsys.readouterr().out
    (packs.cache_folder() / "yunet" / "yunet_n_dynamic.onnx").write_bytes(b"torn")
    assert run("models", "check") == 1
    assert "yunet-n: WRONG" in capsys.readouterr().out


def test_show_prints_source_licence_cost_and_contract(
    model: Callable[[str, str], Model], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", "show", "slim-320") == 0
    text = capsys.readouterr().out
    for words in (
        "ultra-lightweight-face-detection-slim-320, slim-320",
        "e9adbd0f920ddcce9368434c4d34d72520dc0c19b526fd44b4ef49bde2c3b1a8",
        "https://raw.githubusercontent.com/Linzaer/",
        "licence     MIT",
        "257,916 with batch norms folded, 26,520 constants",
        "0.1628 GFLOPs at 320x240",
        '"importer": {"name": "onnx-1", "options": {"free": "batch"}}',
    ):
        assert words in text
    assert run("models", "show", "ssh") == 0
    assert "the weights of ssh-mxnet are missing" in capsys.readouterr().out
    assert run("models", "show", "nothing") == 2


def test_the_list_has_what_can_be_used_at_once_first_the_most_accurate_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line.strip()}
    order = list(rows)
    packed = ("facebatch-detector", "scrfd-2.5g"), ("scrfd-2.5g", "yunet-n"), ("yunet-n", "ssh-mxnet")
    for first, second in (*packed, ("facebatch-embedder", "edgeface-xs"), ("edgeface-xs", "w600k-r50")):
        assert order.index(first) < order.index(second)
    assert rows["facebatch-detector"].split()[1:4] == ["(default)", "built", "in"]
    assert rows["yunet-n"].split()[:6] == ["yunet-n", "here", "0.3", "0.6870", "10", "yes"]
    assert rows["w600k-mbf"].split()[1:3] == ["here", "13.6"]
    assert " no " in rows["w600k-mbf"], "not for commercial use"
    assert rows["ssh-mxnet"].split()[1:3] == ["bring", "it"]
    monkeypatch.setenv("FACEBATCH_MODELS", str(tmp_path))
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path))
    assert run("models", "list") == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["yunet-n"].split()[1:3] == ["to", "pull"]
    assert rows["w600k-mbf"].split()[1:3] == ["bring", "it"], "there is no address to pull from"
