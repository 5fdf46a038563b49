"""The embedder, once in PyTorch and once as the importer's graph."""

from __future__ import annotations

import io

import numpy as np
import onnxruntime as ort
import pytest
import torch

from facebatch import importers
from facebatch.errors import FacebatchError
from facebatch.importers import Given
from facebatch.training.student import Student
from tests.importers.torch_nets import state

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def net() -> Student:
    """Random weights and statistics."""
    student = Student()
    student.eval()
    student.load_state_dict(state(student))
    return student


def _given(arrays: dict[str, torch.Tensor]) -> list[Given]:
    file = io.BytesIO()
    torch.save(arrays, file)
    return [Given("student.pt", file.getvalue())]


@pytest.mark.parametrize("batch", [1, 3])
def test_the_graph_gives_what_the_module_gives(net: Student, batch: int) -> None:
    made = importers.run("mobileface", _given(net.state_dict()), {})
    assert made.parameters == sum(p.numel() for p in net.parameters())
    feed = np.random.default_rng(0).uniform(-1, 1, (batch, 3, 112, 112)).astype(np.float32)
    session = ort.InferenceSession(made.graph, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["embedding"]
    (ours,) = session.run(None, {session.get_inputs()[0].name: feed})
    with torch.no_grad():
        expected = net(torch.from_numpy(feed)).numpy()
    assert ours.shape == expected.shape == (batch, 512)
    assert expected.std() > 0.01
    assert np.abs(ours - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


def test_weights_of_another_model_are_refused(net: Student) -> None:
    arrays = net.state_dict()
    with pytest.raises(FacebatchError, match=r"student.pt is another model: .* 'extra.weight' is one"):
        importers.run("mobileface", _given(arrays | {"extra.weight": torch.zeros(1)}), {})
    with pytest.raises(FacebatchError, match="student.pt is another model: array 'vector.0.weight' has shape"):
        importers.run("mobileface", _given(arrays | {"vector.0.weight": torch.zeros(512, 256)}), {})
    with pytest.raises(FacebatchError, match="importer mobileface has no option 'width'"):
        importers.run("mobileface", _given(arrays), {"width": 2})
