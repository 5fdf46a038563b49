"""Sessions: the network that was asked for, on the device that was asked for, fed as the pack says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest

from facebatch import gpus, packs, session
from facebatch.errors import FacebatchError, UsageError
from facebatch.gpus import Gpu
from facebatch.importers import Given, onnx_file
from facebatch.packs import Input, Model
from facebatch.session import Session, buckets, tensor
from tests import models


def test_pixels_are_fed_in_the_packs_order_and_range() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 1] = (10, 20, 30)
    rgb = tensor([pixels], Input("RGB", (1, 2, 3), 0.5))
    bgr = tensor([pixels], Input("BGR", (1, 2, 3), 0.5))
    assert rgb.shape == (1, 3, 2, 3)
    assert rgb.dtype == np.float32
    assert rgb[0, :, 0, 1].tolist() == [4.5, 9, 13.5]
    assert bgr[0, :, 0, 1].tolist() == [14.5, 9, 3.5]


@pytest.mark.parametrize(
    ("count", "largest", "sizes"),
    [(0, 32, []), (1, 32, [1]), (7, 32, [4, 2, 1]), (32, 32, [32]), (75, 32, [32, 32, 8, 2, 1]), (5, 6, [4, 1])],
)
def test_any_count_is_cut_into_few_fixed_sizes(count: int, largest: int, sizes: list[int]) -> None:
    assert buckets(count, largest) == sizes


def test_a_batch_is_run_as_one() -> None:
    net = Session(models.bright_squares(), "cpu")
    bright, dark = np.full((48, 64, 3), 255, np.uint8), np.zeros((48, 64, 3), np.uint8)
    scores = net.run([bright, dark])["scores"]
    assert scores.shape == (2, 12, 2)
    assert scores[:, :, 1].mean(axis=1).tolist() == [1, 0]
    net.prove_batch()


def test_a_batch_axis_that_is_only_a_label_is_refused() -> None:
    fixed = models.bright_squares(batch=1)
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
        Session(fixed, "cpu").run([np.zeros((48, 64, 3), np.uint8)] * 2)
    freed = onnx_file.freed(Given("test.onnx", fixed.graph))
    relabelled = models.model(freed, "detector", input=fixed.pack.input, decoder=fixed.pack.decoder)
    with pytest.raises(FacebatchError, match="cannot be run.*reshape"):
        Session(relabelled, "cpu").prove_batch()


def test_a_graph_that_folds_images_together_is_refused() -> None:
    """slim-320 `_simplified` does so: a batch of two becomes one image with twice the boxes."""
    folding = models.bright_squares(batch=-1)
    with pytest.raises(FacebatchError, match="batch axis is only a label"):
        Session(folding, "cpu").prove_batch()


@pytest.mark.needs_models
@pytest.mark.parametrize("name", ["slim-320", "yunet-n"])
def test_published_detectors_prove_their_batch(model: Callable[[str, str], Model], name: str) -> None:
    Session(model(name, "detector"), "cpu").prove_batch()


@pytest.mark.needs_models
@pytest.mark.parametrize("name", ["edgeface-xs", "w600k-mbf"])
def test_published_embedders_prove_their_batch(model: Callable[[str, str], Model], name: str) -> None:
    Session(model(name, "embedder"), "cpu").prove_batch()


@pytest.mark.needs_models
def test_freeing_the_batch_of_slim_320_changes_nothing_but_the_batch(model: Callable[[str, str], Model]) -> None:
    published = model("slim-320", "detector")
    source = packs.read(published.path)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    original = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    assert original.get_inputs()[0].shape[0] == 1
    images = list(np.random.default_rng(0).integers(0, 256, (4, 240, 320, 3), np.uint8))
    repaired = Session(published, "cpu").run(images)
    for index, image in enumerate(images):
        scores, boxes = original.run(["scores", "boxes"], {"input": tensor([image], published.pack.input)})
        assert np.abs(repaired["scores"][index] - scores[0]).max() < 1e-5
        assert np.abs(repaired["boxes"][index] - boxes[0]).max() < 1e-5


def test_a_provider_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "providers", lambda: ["cpu"])
    with pytest.raises(UsageError, match="run.provider=cuda: this ONNX Runtime has only cpu"):
        Session(models.embedder(), "cuda")


def test_a_silent_fall_back_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ONNX Runtime does when the CUDA libraries are missing: a session on the CPU, and a log line."""
    real = ort.InferenceSession

    def falls_back(graph: bytes, options: ort.SessionOptions, **_: object) -> ort.InferenceSession:
        return real(graph, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(session, "providers", lambda: ["cpu", "cuda"])
    monkeypatch.setattr(ort, "InferenceSession", falls_back)
    with pytest.raises(FacebatchError, match="fell back to CPUExecutionProvider.*facebatch\\[cuda\\]"):
        Session(models.embedder(), "cuda")


def test_cudas_libraries_are_loaded_from_where_pip_puts_them_and_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime does not look there by itself, and prints to where results go."""
    real, loaded = ort.InferenceSession, []

    def preload() -> None:
        loaded.append(True)
        print("Failed to load libcublas.so.13:\n cannot open")

    def falls_back(graph: bytes, options: ort.SessionOptions, **_: object) -> ort.InferenceSession:
        assert loaded, "before the session is made"
        return real(graph, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(session, "providers", lambda: ["cpu", "cuda"])
    monkeypatch.setattr(ort, "preload_dlls", preload)
    monkeypatch.setattr(ort, "InferenceSession", falls_back)
    with pytest.raises(
        FacebatchError, match=r"or set run\.provider=cpu\. Failed to load libcublas.so.13: cannot open$"
    ):
        Session(models.embedder(), "cuda")
    assert capsys.readouterr().out == ""
    loaded.clear()
    monkeypatch.setattr(ort, "InferenceSession", real)
    Session(models.embedder(), "cpu")
    assert not loaded


@pytest.mark.usefixtures("gpu_path")
def test_a_gpu_that_fails_in_mid_run_is_an_error_and_the_rest_is_not_left_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ONNX Runtime does when cuDNN fails, unless it is told not to."""
    failed = ort.capi.onnxruntime_pybind11_state.EPFail

    class Failing:
        def __init__(self, sound: object) -> None:
            self._sound = sound

        def __getattr__(self, name: str) -> object:
            return getattr(self._sound, name)

        def run(self, *_: object) -> None:
            raise failed("cuDNN failed")

    net = Session(models.embedder(), "cuda")
    monkeypatch.setattr(net._session, "_sess", Failing(net._session._sess))
    with pytest.raises(failed, match="cuDNN failed"):
        net.run([np.zeros((112, 112, 3), np.uint8)])


@pytest.mark.usefixtures("gpu_path")
@pytest.mark.parametrize("graph", [b"this is no protobuf", b""])
def test_a_file_that_is_no_graph_is_one_sentence_on_a_gpu_too(graph: bytes) -> None:
    broken = models.model(graph, "embedder", input=Input("RGB", (0, 0, 0), 1))
    with pytest.raises(FacebatchError, match=r"test\.onnx cannot be loaded: \w+"):
        Session(broken, "cuda")


def test_a_file_that_is_no_graph_is_one_sentence() -> None:
    broken = models.model(b"this is no protobuf", "embedder", input=Input("RGB", (0, 0, 0), 1))
    with pytest.raises(FacebatchError, match=r"test\.onnx cannot be loaded"):
        Session(broken, "cpu")


def test_a_shared_gpu_is_shared_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "visible", lambda: [Gpu("0", "one", 10 << 30), Gpu("1", "other", 99 << 30)])
    assert session._options("cuda", 0.5)["gpu_mem_limit"] == int(4.5 * (1 << 30))
    assert "gpu_mem_limit" not in session._options("cuda", 1.0)
    assert session._options("cuda", 1.0)["use_tf32"] == 0
    assert session._options("cpu", 0.5) == {}
    for unknown in ([], [Gpu("MIG-1", "MIG-1")]):
        monkeypatch.setattr(gpus, "visible", lambda there=unknown: there)
        assert "gpu_mem_limit" not in session._options("cuda", 0.5), "of a memory that is not known there is no share"
