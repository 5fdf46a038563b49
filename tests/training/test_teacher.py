"""What is learned from: vectors, and the maps between the blocks of a network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from facebatch import packs
from facebatch.importers import edgenext
from facebatch.importers.checkpoint import Checkpoint
from facebatch.importers.network import Network
from facebatch.training.embedder import INPUT
from facebatch.training.student import Student, shapes
from facebatch.training.teacher import Teacher, stream
from tests import models
from tests.importers.torch_nets import state

pytestmark = pytest.mark.reference


def test_maps_are_what_blocks_start_from_and_end_with() -> None:
    torch.manual_seed(0)
    student = Student().eval()
    student.load_state_dict(state(student))
    arrays = {name: array.numpy() for name, array in student.state_dict().items()}
    teacher = Teacher(models.model(edgenext.build(Checkpoint(arrays, "student")), "embedder", input=INPUT), "cpu", 1)
    assert teacher.shapes == shapes()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    vectors, maps = teacher(pixels)
    with torch.no_grad():
        *made, raw = student.chained((torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127.5) / 127.5)
    assert np.allclose(vectors, torch.nn.functional.normalize(raw).numpy(), atol=1e-4)
    for own, its in zip(made, maps, strict=True):
        assert np.allclose(own.numpy(), its, atol=1e-3 * float(own.std()))


def test_sums_of_branches_are_no_blocks() -> None:
    """out = x + f(x) is one; f(x) + g(x) is not, and neither is x + 1."""
    net = Network()
    moved = net.add("input", net.array(np.array(1.0)))
    left, right = net.relu(moved), net.op("Neg", moved)
    branches = net.add(left, right)
    block = net.add(branches, net.op("Exp", net.relu(branches)))
    graph = onnx.load_from_string(net.model({"input": ["N", 3, 4, 4]}, {"out": block}))
    assert stream(graph.graph.node) == [branches, block]
    turned = [helper.make_node(n.op_type, list(n.input)[::-1] if n.op_type == "Add" else list(n.input), list(n.output))
              for n in graph.graph.node]  # fmt: skip
    assert stream(turned) == [branches, block]


def test_a_network_without_blocks_has_vectors_only() -> None:
    teacher = Teacher(models.embedder(), "cpu", 1)
    assert teacher.shapes == []
    vectors, maps = teacher(np.full((2, 112, 112, 3), 99, np.uint8))
    assert maps == []
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1])


@pytest.mark.needs_models
def test_edgeface_is_built_as_the_student_is() -> None:
    assert Teacher(packs.load("edgeface-xxs", "embedder"), "cpu", 1).shapes == shapes()
    assert Teacher(packs.load("edgeface-xs", "embedder"), "cpu", 1).shapes != shapes()
    assert Teacher(packs.load("w600k-mbf", "embedder"), "cpu", 1).shapes != shapes()
