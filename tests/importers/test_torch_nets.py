"""Importers of PyTorch checkpoints against independent builds of the same networks in PyTorch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from facebatch.errors import FacebatchError
from facebatch.importers import Given, Importer, extd, onet, retinaface, slim
from facebatch.importers.checkpoint import Checkpoint

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'facebatch[reference]'")
pytestmark = pytest.mark.reference

from tests.importers import torch_nets  # noqa: E402

VARIANTS = [(c, head, act) for head in ("fpn", "ssd") for c in (32, 48, 64) for act in ("prelu", "leaky", "relu")]
PUBLISHED: list[tuple[str, Importer, dict[str, Any], Callable[[], Any], tuple[float, ...], int]] = [
    *(
        (f"extd/EXTD_{c}.pth", extd.convert, {"channels": c}, lambda c=c: torch_nets.Extd(c, "fpn", "prelu"), mean, n)
        for c, mean, n in (
            (32, (123, 117, 104), 62_939),
            (48, (123, 117, 104), 100_160),
            (64, (123, 117, 104), 162_352),
        )
    ),
    (
        "retinaface/mobilenet0.25_leaky.pth",
        retinaface.convert,
        {"activation": "leaky"},
        lambda: torch_nets.RetinaFace(leaky=True),
        (104, 117, 123),
        426_608,
    ),
    (
        "retinaface/mobilenet0.25_relu.pth",
        retinaface.convert,
        {"activation": "relu"},
        lambda: torch_nets.RetinaFace(leaky=False),
        (104, 117, 123),
        426_608,
    ),
    (
        "retinaface/slim_Final.pth",
        slim.convert,
        {"trunk": "slim", "landmarks": True},
        torch_nets.SlimLandmarks,
        (104, 117, 123),
        343_488,
    ),
    (
        "retinaface/RBF_Final.pth",
        slim.convert,
        {"trunk": "rfb", "landmarks": True},
        torch_nets.RfbLandmarks,
        (104, 117, 123),
        359_592,
    ),
    (
        "ultraface/version-slim-640.pth",
        slim.convert,
        {"trunk": "slim", "landmarks": False},
        torch_nets.Slim,
        (127, 127, 127),
        260_188,
    ),
    ("mtcnn/onet.pt", onet.convert, {}, torch_nets.ONet, (127.5, 127.5, 127.5), 389_040),
]


def run(graph: bytes, feed: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: feed}), strict=True))


def assert_equal(ours: Mapping[str, np.ndarray], reference: Mapping[str, Any], within: float = 1e-4) -> None:
    assert set(ours) == set(reference)
    for name, value in reference.items():
        expected = value.numpy()
        assert ours[name].shape == expected.shape
        assert np.abs(ours[name] - expected).max() <= within * max(1.0, np.abs(expected).max()), name


@pytest.mark.needs_models
@pytest.mark.parametrize(
    ("file", "convert", "options", "net", "mean", "parameters"), PUBLISHED, ids=[case[0] for case in PUBLISHED]
)
def test_a_published_checkpoint_gives_what_pytorch_gives_on_a_real_photo(
    file: str,
    convert: Importer,
    options: dict[str, Any],
    net: Callable[[], Any],
    mean: tuple[float, ...],
    parameters: int,
    group: np.ndarray,
) -> None:
    path = Path(os.environ["FACEBATCH_MODELS"]) / file
    imported = convert([Given(file, path.read_bytes())], options)
    assert imported.parameters == parameters
    built = net().eval()
    built.load_state_dict(torch.load(path, "cpu", weights_only=True), strict=True)
    side = (slice(100, 148), slice(450, 498)) if "onet" in file else (slice(0, 599), slice(0, 1001))
    scale = 128 if mean[0] == mean[1] else 1
    photo = ((group[side] - np.array(mean)) / scale).astype(np.float32).transpose(2, 0, 1)
    feed = np.stack([photo, photo[:, :, ::-1]])
    with torch.no_grad():
        assert_equal(run(imported.graph, feed), built(torch.from_numpy(feed)))


@pytest.mark.parametrize(("channels", "head", "activation"), VARIANTS)
def test_every_variant_of_extd_is_built_as_the_paper_counts_it(channels: int, head: str, activation: str) -> None:
    counts = {
        ("fpn", 32): 62_939,
        ("fpn", 48): 100_160,
        ("fpn", 64): 162_352,
        ("ssd", 32): 56_059,
        ("ssd", 48): 86_000,
        ("ssd", 64): 138_352,
    }
    slopes = 0 if activation == "prelu" else {32: 21, 48: 10, 64: 10}[channels]
    net = torch_nets.Extd(channels, head, activation).eval()
    weights = torch_nets.state(net)
    net.load_state_dict(weights, strict=True)
    checkpoint = Checkpoint({name: tensor.numpy() for name, tensor in weights.items()}, "random")
    graph = extd.build(checkpoint, extd.Variant(channels, head, activation))  # type: ignore[arg-type]
    checkpoint.finish()
    assert checkpoint.trainable == counts[head, channels] - slopes
    feed = np.random.default_rng(0).normal(0, 1, (3, 3, 75, 130)).astype(np.float32)
    with torch.no_grad():
        assert_equal(run(graph, feed), net(torch.from_numpy(feed)))


def test_another_variant_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    torch.save(torch_nets.Extd(48, "fpn", "prelu").state_dict(), file)
    given = [Given("mine.pth", file.read_bytes())]
    assert extd.convert(given, {"channels": 48}).parameters == 100_160
    for options, words in (
        ({"channels": 64}, r"mine.pth is another model: array 'base.1.conv.3.weight' has shape \(48, 64, 1, 1\)"),
        ({"channels": 48, "head": "ssd"}, "arrays have no place here, 'upfeat"),
        ({"channels": 48, "activation": "relu"}, "arrays have no place here, 'base.0.2.weight'"),
    ):
        with pytest.raises(FacebatchError, match=words):
            extd.convert(given, options)


@pytest.mark.parametrize("legacy", [True, False])
def test_both_layouts_and_a_wrapped_state_dict_are_read(tmp_path: Path, legacy: bool) -> None:
    net = torch_nets.ONet()
    plain, wrapped = tmp_path / "plain.pt", tmp_path / "wrapped.pt"
    torch.save(net.state_dict(), plain, _use_new_zipfile_serialization=not legacy)
    parallel = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": parallel}, wrapped, _use_new_zipfile_serialization=not legacy)
    graphs = [onet.convert([Given(path.name, path.read_bytes())], {}).graph for path in (plain, wrapped)]
    assert graphs[0] == graphs[1]
