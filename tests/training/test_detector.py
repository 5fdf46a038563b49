"""The task of a face detector: what it learns from, that it learns, and how it is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from facebatch.detect import Faces
from facebatch.detectors.priors import priors
from facebatch.errors import UsageError
from facebatch.importers.checkpoint import Source
from facebatch.packs import Anchors, Input
from facebatch.training.crops import Drawing
from facebatch.training.detector import Detection, Kind, distances, feed, kind
from facebatch.training.loader import Sample, batches
from facebatch.training.photos import Photo
from tests.importers.torch_nets import state
from tests.training.photographs import painted, saved

pytestmark = pytest.mark.reference

SIDE = 64


@pytest.fixture
def portraits(tmp_path: Path) -> list[Photo]:
    """Six photographs of one face each, in other places and sizes."""
    boxes = [[20 + 8 * k, 30 - 4 * k, 90 + 4 * k, 110 - 2 * k] for k in range(6)]
    return [painted(tmp_path / f"{k}.png", 160, 120, [[float(v) for v in box]]) for k, box in enumerate(boxes)]


def _batch(task: Detection, size: int) -> Sample:
    return next(batches(task.sample, task.count, size, 0, 0, 0))


@pytest.mark.parametrize("name", ["slim", "extd-32-ssd-relu"])
def test_a_sample_says_of_every_prior_what_it_is_to_say(portraits: list[Photo], name: str) -> None:
    network = kind(name)
    task = Detection(network, portraits, portraits, SIDE, SIDE)
    count = len(priors(network.anchors, SIDE, SIDE))
    made = task.sample(0, np.random.default_rng(0))
    shapes = {key: (value.shape, value.dtype) for key, value in made.items()}
    assert shapes == {
        "pixels": ((SIDE, SIDE, 3), np.uint8),
        "labels": ((count,), np.int64),
        "loc": ((count, 4), np.float32),
        "landms": ((count, 10), np.float32),
        "marked": ((count,), np.bool_),
    }
    assert (made["labels"] == 1).any()
    assert ((made["labels"] == 1) == made["marked"]).all()
    assert task.count == 6


def test_pixels_are_fed_as_the_job_feeds_them() -> None:
    pixels = torch.arange(2 * 3 * 4 * 3, dtype=torch.uint8).reshape(2, 3, 4, 3)
    plain = feed(pixels, Input("RGB", (1, 2, 3), 0.5))
    assert plain.shape == (2, 3, 3, 4)
    assert plain[1, 2, 0, 1] == (float(pixels[1, 0, 1, 2]) - 3) * 0.5
    turned = feed(pixels, Input("BGR", (1, 2, 3), 0.5))
    assert turned[1, 0, 0, 1] == (float(pixels[1, 0, 1, 2]) - 1) * 0.5


@pytest.mark.parametrize(("name", "named"), [("slim", {"points"}), ("extd-32-ssd-relu", set())])
def test_a_batch_can_be_learned_by_heart(portraits: list[Photo], name: str, named: set[str]) -> None:
    torch.manual_seed(0)
    task = Detection(kind(name), portraits, portraits, SIDE, SIDE)
    net, batch = kind(name).module(), _batch(task, 4)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    seen = []
    for _ in range(120):
        losses = task.losses(net, batch)
        assert set(losses) == {"total", "scores", "boxes"} | named
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        seen.append({key: float(value.detach()) for key, value in losses.items()})
    for key in seen[0]:
        assert seen[-1][key] < 0.5 * seen[0][key], key


@pytest.mark.parametrize("name", ["slim", "extd-32-fpn-prelu"])
def test_what_is_exported_is_the_network_for_pictures_of_any_number_and_size(portraits: list[Photo], name: str) -> None:
    network = kind(name)
    net = network.module().eval()
    net.load_state_dict(state(net))
    graph = Detection(network, portraits, portraits, SIDE, SIDE).export(net)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for batch, height, width in ((3, 64, 96), (1, 75, 50)):
        pixels = np.random.default_rng(0).normal(0, 1, (batch, 3, height, width)).astype(np.float32)
        names = [output.name for output in session.get_outputs()]
        ours = dict(zip(names, session.run(names, {session.get_inputs()[0].name: pixels}), strict=True))
        with torch.no_grad():
            expected = {key: value.numpy() for key, value in net(torch.from_numpy(pixels)).items()}
            expected["conf"] = torch.from_numpy(expected["conf"]).softmax(-1).numpy()
        assert set(ours) == set(expected)
        for key, value in expected.items():
            assert ours[key].shape == value.shape
            assert np.abs(ours[key] - value).max() <= 1e-4 * max(1.0, np.abs(value).max()), key


def _always(corner: tuple[int, int], landmarks: bool = True) -> Kind:
    """A network that sees a face of 32x32 pixels in one quarter (column, row) of a canvas of 64x64, its five points all
    in the middle, whatever it is shown."""
    column, row = corner
    at = 2 * row + column
    arrays = {
        "loc": np.zeros((1, 4, 4), np.float32),
        "conf": np.array([[[0.1, 0.9] if k == at else [1.0, 0.0] for k in range(4)]], np.float32),
        "landms": np.zeros((1, 4, 10), np.float32),
    }
    names = [name for name in arrays if landmarks or name != "landms"]

    def graph(source: Source) -> bytes:
        nodes = [
            helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "nought"], ["none"]),
            helper.make_node("Reshape", ["none", "column"], ["zero"]),
            *[helper.make_node("Add", ["zero", f"{name}_value"], [name]) for name in names],
        ]
        constants = {"axes": np.array([1, 2, 3]), "nought": np.array(0, np.float32), "column": np.array([-1, 1, 1])}
        constants |= {f"{name}_value": arrays[name] for name in names}
        made = helper.make_graph(
            nodes,
            "always",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, "H", "W"])],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *arrays[n].shape[1:]]) for n in names],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        return bytes(model.SerializeToString())

    return Kind(nn.Identity, graph, Input("RGB", (0, 0, 0), 1), Anchors((32,), ((32.0,),)), landmarks)


def _held(tmp_path: Path) -> list[Photo]:
    """A face in the upper left quarter of 128x128, and one in the lower right quarter."""
    black = np.zeros((128, 128, 3), np.uint8)
    points = np.array([[[16, 32], [48, 32], [32, 32], [32, 32], [32, 32]]], np.float32)
    return [
        saved(tmp_path / "first.png", black, [[0, 0, 64, 64]], points),
        saved(tmp_path / "second.png", black, [[64, 64, 128, 128]]),
    ]


def test_a_network_that_sees_one_face_of_two_and_a_false_one_has_half_the_precision(tmp_path: Path) -> None:
    """It finds the first face and then none: precision 1 until half of the faces are found. Eyes are 32 pixels apart
    and 16 off, the other points right: 0.2 of their distance on average."""
    first, second = _held(tmp_path)
    network = _always((0, 0))

    def judged(*photos: Photo) -> dict[str, float]:
        task = Detection(network, [first], photos, SIDE, SIDE)
        return dict(task.judge(network.module()))

    assert judged(first, second) == {"score": 0.5, "away": pytest.approx(0.2)}
    assert judged(first) == {"score": 1.0, "away": pytest.approx(0.2)}
    assert judged(second, first)["score"] == 0.25
    missed = judged(second)
    assert missed["score"] == 0.0
    assert np.isnan(missed["away"])


def test_ignored_faces_are_neither_found_nor_missed(tmp_path: Path) -> None:
    first, second = _held(tmp_path)
    both = replace(
        first,
        boxes=np.concatenate([first.boxes, second.boxes]),
        points=np.concatenate([first.points, second.points]),
        ignored=np.array([False, True]),
    )
    network = _always((0, 0))
    assert Detection(network, [first], [both], SIDE, SIDE).judge(network.module())["score"] == 1.0
    ground = replace(both, ignored=np.array([True, False]))
    assert Detection(network, [first], [ground], SIDE, SIDE).judge(network.module())["score"] == 0.0


def test_a_network_without_landmarks_is_judged_by_its_boxes_alone(tmp_path: Path) -> None:
    network = _always((1, 1), landmarks=False)
    task = Detection(network, _held(tmp_path), _held(tmp_path)[1:], SIDE, SIDE)
    assert task.judge(network.module()) == {"score": 1.0}


def test_photographs_to_judge_by_that_show_no_face_are_refused(tmp_path: Path) -> None:
    """No judgement of them would be a number, and no weights the best."""
    first, _ = _held(tmp_path)
    unsure = replace(first, ignored=np.array([True]))
    with pytest.raises(UsageError, match="none of the 1 photographs to judge by shows a face"):
        Detection(kind("slim"), [first], [unsure], SIDE, SIDE)


def test_points_are_compared_where_both_know_them_and_the_face_is_the_same(tmp_path: Path) -> None:
    first, second = _held(tmp_path)
    theirs = first.points + np.array([3, 4], np.float32)
    seen = Faces(first.boxes, np.ones(1, np.float32), theirs)
    assert distances(first, seen) == [pytest.approx(5 / 32)]
    assert distances(replace(first, ignored=np.array([True])), seen) == []
    assert distances(replace(first, points=first.points * np.nan), seen) == []
    assert distances(first, Faces(second.boxes, seen.scores, theirs)) == []
    assert distances(first, Faces(first.boxes[:0], np.ones(0, np.float32), theirs[:0])) == []
    assert distances(first, Faces(first.boxes, np.ones(1, np.float32), None)) == []


def test_samples_can_be_drawn_with_other_settings(portraits: list[Photo]) -> None:
    """Whole photographs of 160x120 on 64x64 have black below, which they would have by chance only."""
    asis = Drawing(mosaics=(), whole=1.0, grey=0.0, blurred=0.0)
    task = Detection(kind("slim"), portraits, portraits, SIDE, SIDE, asis)
    for k in range(6):
        assert np.ptp(task.sample(k, np.random.default_rng(k))["pixels"][50:].astype(int)) == 0
