"""Networks in fewer bits: what is reduced, from which photographs, and that nobody takes one for the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from facebatch import catalogue, packs
from facebatch.config import Config
from facebatch.contract import contract, contract_id, network
from facebatch.dataset import Dataset
from facebatch.detect import Detector, Settings, views
from facebatch.errors import FacebatchError, UsageError
from facebatch.geometry import Floats, Picture, Pixels, halvings
from facebatch.importers import Given
from facebatch.importers.quantised import Mark, mark
from facebatch.networks import Networks
from facebatch.packs import CloseUp, Input, Model
from facebatch.quantize import Quantised, halve, quantise
from facebatch.session import Session, tensor
from facebatch.storage import Storage
from tests import models
from tests.conftest import encode
from tests.test_cli import run

DOTS = models.bright_dots(close_up=CloseUp(((64, 48),), 0.5, 0.3))


def _photo(seed: int) -> np.ndarray:
    """640x480 of black with a bright cell of 160x160 here and there."""
    bright = np.random.default_rng(seed).random((3, 4)) < 0.3
    return np.repeat(bright.repeat(160, axis=0).repeat(160, axis=1)[:, :, None], 3, axis=2).astype(np.uint8) * 255


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photographs at different depths, one that ends too early, and a text."""
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    for seed in range(6):
        (folder / ("deep/er" if seed % 2 else "deep") / f"{seed}.png").write_bytes(encode(_photo(seed)))
    (folder / "short.png").write_bytes(encode(_photo(7))[:200])
    (folder / "boxes.jsonl").write_text("{}")
    return folder


@pytest.fixture
def made(photos: Path) -> Quantised:
    return quantise(DOTS, Config(), photos)


def _nodes(graph: bytes) -> list[onnx.NodeProto]:
    return list(onnx.load_from_string(graph).graph.node)


def test_the_inner_convolutions_are_in_eight_bits_and_the_first_and_last_ones_float(made: Quantised) -> None:
    nodes = _nodes(made.model.graph)
    whole = {out for node in nodes if node.op_type == "DequantizeLinear" for out in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert [node.input[1] in whole for node in convolutions] == [False, True, False]
    assert "QuantizeLinear" not in {node.op_type for node in _nodes(DOTS.graph)}
    scales = {tensor.name: tensor.dims for tensor in onnx.load_from_string(made.model.graph).graph.initializer}
    weights = next(
        node for node in nodes if node.op_type == "DequantizeLinear" and node.output[0] == convolutions[1].input[1]
    )
    assert scales[weights.input[1]] == [2], "weights have a scale for each channel"


def test_it_runs_in_batches_and_finds_the_same_faces(made: Quantised) -> None:
    Session(made.model, "cpu").prove_batch()
    settings = Settings.of(replace(Config().detect, close_up=False), DOTS.pack)
    pictures = [Picture(halvings(_photo(seed)), 640, 480) for seed in range(20, 30)]
    both = [
        Detector(Session(one, "cpu"), settings)([views(p, settings) for p in pictures], [(640, 480)] * len(pictures))
        for one in (DOTS, made.model)
    ]
    assert sum(len(faces) for faces in both[0]) > 10
    for before, now in zip(*both, strict=True):
        assert now.boxes.tolist() == before.boxes.tolist()
        assert now.scores == pytest.approx(before.scores, abs=0.02)


def test_what_cannot_be_read_is_left_out_and_said(made: Quantised, photos: Path) -> None:
    assert made.photos == 6
    assert sorted(re.sub(r":.*", "", said) for said in made.skipped) == [
        str(photos / "boxes.jsonl"),
        str(photos / "short.png"),
    ]


def test_no_more_photographs_are_read_than_were_asked_for(photos: Path) -> None:
    assert quantise(DOTS, Config(), photos, images=2).photos == 2
    with pytest.raises(UsageError, match="ranges from 0 photographs were asked for"):
        quantise(DOTS, Config(), photos, images=0)


def test_the_network_sees_every_pass_of_the_settings(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Floats] = []

    def noted(images: Sequence[Pixels], how: Input) -> Floats:
        shown.append(tensor(images, how))
        return shown[-1]

    monkeypatch.setattr("facebatch.quantize.tensor", noted)
    quantise(DOTS, Config(), photos)
    assert len(shown) == 6 * 2, "the whole picture, and the close-up"


@pytest.mark.parametrize(("texts", "why"), [(0, "it holds no file"), (2, "none of its 2 files can be read, e.g. ")])
def test_without_a_photograph_there_is_nothing_to_learn_from(tmp_path: Path, texts: int, why: str) -> None:
    for number in range(texts):
        (tmp_path / f"{number}.txt").write_text("no picture")
    with pytest.raises(UsageError, match=f"there is no photograph below {tmp_path}: {why}"):
        quantise(DOTS, Config(), tmp_path)


def test_only_detectors_in_float_are_quantised(photos: Path, made: Quantised) -> None:
    with pytest.raises(UsageError, match="test is no detector: INT8 is for detectors"):
        quantise(models.embedder(), Config(), photos)
    with pytest.raises(UsageError, match=r"test\.onnx is in INT8 already: name the float weights"):
        quantise(made.model, Config(), photos)


def test_a_network_with_nothing_between_its_first_and_last_convolutions_is_refused(photos: Path) -> None:
    with pytest.raises(FacebatchError, match="test cannot be quantised: no convolution lies between"):
        quantise(models.bright_squares(), Config(), photos)


def test_a_file_says_what_it_was_made_of(made: Quantised) -> None:
    assert mark(made.model.graph) == Mark("test", DOTS.sha256, "int8", 6)
    assert mark(DOTS.graph) is None
    assert mark(b"no ONNX file") is None


def test_eight_bits_are_another_contract(made: Quantised) -> None:
    before, now = network(DOTS), network(made.model)
    assert (before.get("precision"), now["precision"]) == (None, "int8")
    assert before["weights"] != now["weights"]


def test_an_index_made_in_float_does_not_go_on_in_eight_bits(made: Quantised, tmp_path: Path) -> None:
    dataset = Dataset.at(Storage(Config().storage), str(tmp_path / "index"))
    facts = []
    for detector in (DOTS, made.model):
        networks = Networks(detector, models.embedder())
        terms = contract(Config(), networks)
        facts.append({"contract": terms, "contract_id": contract_id(terms), **networks.facts})
    dataset.open(facts[0])
    with pytest.raises(UsageError) as refused:
        dataset.open(facts[1])
    assert "detector.precision was None and is now int8" in str(refused.value)
    assert str(refused.value).endswith("Take the old settings back, or write to a new output")
    assert dataset.open(facts[0])["contract_id"] == facts[0]["contract_id"]


def test_a_file_is_used_by_its_own_pack_and_on_trust_only(made: Quantised, tmp_path: Path) -> None:
    given = Given("int8.onnx", made.model.graph)
    assert packs.reduced(DOTS.pack, Given("float.onnx", DOTS.graph)) is None
    with pytest.raises(FacebatchError, match=r"int8\.onnx is test in INT8, and not another: use it with that pack"):
        packs.reduced(replace(DOTS.pack, name="another"), given)
    with pytest.raises(FacebatchError, match=r"was not made here: `facebatch models import test --from .* --trust`"):
        packs.reduced(DOTS.pack, given)
    trusted = packs.reduced(DOTS.pack, given, trust=True)
    assert isinstance(trusted, Model)
    assert (trusted.precision, trusted.sha256) == ("int8", made.model.sha256)


def test_the_command_makes_a_file_that_the_pack_takes_and_that_others_import(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "new" / "int8.onnx"
    words = ("quantize", "facebatch-detector", "--photos", str(photos), "--images", "2", "--output", str(file))
    assert run("models", *words, "detect.close_up=false") == 0
    said = capsys.readouterr()
    assert f"detect.weights={file} uses it" in said.out
    assert "2 photos" in said.out
    small, full = packs.load("facebatch-detector", "detector", str(file)), packs.load("facebatch-detector", "detector")
    assert (small.precision, full.precision) == ("int8", "float32")
    assert small.pack == full.pack
    assert 0 < len(small.graph) < len(full.graph)

    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "of another machine"))
    with pytest.raises(FacebatchError, match="was not made here"):
        packs.load("facebatch-detector", "detector", str(file))
    taken = catalogue.take(small.pack, [str(file)], trust=True)
    assert taken.sha256 == packs.load("facebatch-detector", "detector", str(file)).sha256 == small.sha256
    assert not (packs.cache_folder() / "facebatch-detector.onnx").exists(), "it takes nobody's place"


@pytest.mark.parametrize("model", [DOTS, models.embedder()])
def test_any_network_can_be_halved_and_gives_nearly_the_same(model: Model) -> None:
    half = halve(model)
    assert half.precision == "float16"
    kinds = {weights.data_type for weights in onnx.load_from_string(half.graph).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    graph = onnx.load_from_string(half.graph).graph
    assert {value.type.tensor_type.elem_type for value in [*graph.input, *graph.output]} == {onnx.TensorProto.FLOAT}
    width, height = model.pack.input.canvases[0]
    images = list(np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8))
    full, now = Session(model, "cpu").run(images), Session(half, "cpu").run(images)
    for name, values in full.items():
        assert now[name].dtype == np.float32
        assert np.abs(now[name] - values).max() <= 5e-3 * max(1.0, float(np.abs(values).max()))


def test_a_halved_network_says_so_and_is_another_contract() -> None:
    half = halve(DOTS)
    assert mark(half.graph) == Mark("test", DOTS.sha256, "float16")
    assert network(half)["precision"] == "float16"
    with pytest.raises(FacebatchError, match=r"half\.onnx is test in FP16, and not another"):
        packs.reduced(replace(DOTS.pack, name="another"), Given("half.onnx", half.graph))
    with pytest.raises(UsageError, match="is in FP16 already: name the float weights"):
        halve(half)


def test_words_of_another_version_are_not_understood() -> None:
    for said in ('{"pack": "test"}', '{"pack": "test", "source": "0", "precision": "int4"}'):
        network = onnx.load_from_string(DOTS.graph)
        onnx.helper.set_model_props(network, {"facebatch.reduced": said})
        with pytest.raises(FacebatchError, match="in words of another version"):
            mark(network.SerializeToString())


def test_the_command_halves_an_embedder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "half.onnx"
    assert run("models", "halve", "facebatch-embedder", "--output", str(file)) == 0
    assert f"embed.weights={file} uses it" in capsys.readouterr().out
    half, full = (packs.load("facebatch-embedder", "embedder", weights) for weights in (str(file), None))
    assert (half.precision, len(half.graph) < 0.6 * len(full.graph)) == ("float16", True)


def test_a_network_whose_numbers_float16_cannot_hold_is_refused() -> None:
    """The converter makes 10,000 of 200,000 and says nothing."""
    network = onnx.load_from_string(models.embedder().graph)
    (output,) = network.graph.output
    inner = f"{output.name}_inner"
    for node in network.graph.node:
        node.output[:] = [inner if name == output.name else name for name in node.output]
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.array(2e5, np.float32), "large"))
    network.graph.node.append(onnx.helper.make_node("Mul", [inner, "large"], [output.name]))
    model = replace(models.embedder(), graph=network.SerializeToString())
    Session(model, "cpu").prove_batch()
    with pytest.raises(FacebatchError, match="cannot be halved: its output .* float16 cannot hold its numbers"):
        halve(model)


def test_what_always_runs_on_the_cpu_is_not_halved(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("halve", "landmarks-regression-retail-0009", "--output", str(tmp_path / "half.onnx"))
    assert run("models", *words) == 2
    assert "it always runs on the CPU" in capsys.readouterr().err
