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
from facebatch.training.student import Student, shapes
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
    made = importers.run("edgenext", _given(net.state_dict()), {})
    assert made.parameters == sum(array.numel() for array in net.state_dict().values())
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
        importers.run("edgenext", _given(arrays | {"extra.weight": torch.zeros(1)}), {})
    with pytest.raises(FacebatchError, match="student.pt is another model: array 'parts.16.vector.weight' has shape"):
        importers.run("edgenext", _given(arrays | {"parts.16.vector.weight": torch.zeros(512, 167)}), {})
    with pytest.raises(FacebatchError, match="importer edgenext has no option 'width'"):
        importers.run("edgenext", _given(arrays), {"width": 2})


def test_its_parts_are_a_chain_that_can_be_fed_apart(net: Student) -> None:
    x = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        made = net.chained(x)
        assert torch.equal(made[-1], net(x))
        assert [tuple(each.shape[1:]) for each in made[:-1]] == shapes()
        again = net.apart([x, *made[:-1]])
    assert all(torch.allclose(one, other) for one, other in zip(made, again, strict=True))


def test_it_begins_with_the_means_and_spreads_of_what_it_is_to_make(net: Student) -> None:
    torch.manual_seed(0)
    student, x = Student(), torch.rand(16, 3, 112, 112)
    with torch.no_grad():
        goals = net.chained(x)
        student.begin([x, *goals[:-1]], goals)
        made = student.apart([x, *goals[:-1]])
    for start, own, goal in zip([x, *goals], made, goals, strict=False):
        over = [axis for axis in range(goal.ndim) if axis != 1]
        adds = start if start.shape == goal.shape else 0.0
        assert torch.allclose(own.mean(over), goal.mean(over), atol=1e-2 * float(goal.std()))
        assert torch.allclose((own - adds).std(over), (goal - adds).std(over), rtol=1e-2)
