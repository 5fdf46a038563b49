"""The state of a training run on disk."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from facebatch.errors import FacebatchError
from facebatch.training import checkpoint
from facebatch.training.checkpoint import Average

pytestmark = pytest.mark.reference


class _Hostile:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._folder),)


def test_a_state_is_read_as_it_was_saved(tmp_path: Path) -> None:
    state = {"net": {"weight": torch.arange(6.0).reshape(2, 3)}, "step": 7, "best": -float("inf")}
    checkpoint.save(tmp_path / "last.pt", state)
    found = checkpoint.load(tmp_path / "last.pt")
    assert found is not None
    assert torch.equal(found["net"]["weight"], state["net"]["weight"])  # type: ignore[index]
    assert (found["step"], found["best"]) == (7, -float("inf"))
    assert checkpoint.load(tmp_path / "none.pt") is None


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "last.pt"
    checkpoint.save(file, {"step": 1})

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(file, {"step": 2})
    assert checkpoint.load(file) == {"step": 1}


def test_a_file_is_on_the_disk_before_it_takes_the_old_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def syncing(descriptor: int) -> None:
        done.append("sync")
        sync(descriptor)

    def replacing(one: Path, other: Path) -> Path:
        done.append("replace")
        return replace(one, other)

    monkeypatch.setattr("os.fsync", syncing)
    monkeypatch.setattr(Path, "replace", replacing)
    checkpoint.write(tmp_path / "best.onnx", b"weights")
    assert done == ["sync", "replace"]
    assert [path.name for path in tmp_path.iterdir()] == ["best.onnx"]


@pytest.mark.parametrize("keep", [0, 100, -1], ids=["empty", "cut off", "without its last byte"])
def test_a_damaged_file_is_named_in_one_sentence(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "last.pt"
    checkpoint.save(file, {"net": torch.zeros(50)})
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(FacebatchError) as caught:
        checkpoint.load(file)
    assert str(caught.value) == f"{file} is no checkpoint that can be read. Remove it to begin anew"


@pytest.mark.parametrize("writer", [pickle.dump, torch.save])
def test_nothing_in_a_file_is_executed(tmp_path: Path, writer: object) -> None:
    file, folder = tmp_path / "last.pt", tmp_path / "made"
    with open(file, "wb") as stream:
        writer({"net": _Hostile(folder)}, stream)  # type: ignore[operator]
    with pytest.raises(FacebatchError, match="no checkpoint that can be read"):
        checkpoint.load(file)
    assert not folder.exists()


def test_the_average_follows_the_weights_fast_at_first_and_slowly_later() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    average = Average(net, decay=0.9)
    nn.init.ones_(net.weight)
    average.update(net, step=0)
    assert average.net.weight.item() == pytest.approx(0.9)
    nn.init.zeros_(net.weight)
    average.update(net, step=1000)
    assert average.net.weight.item() == pytest.approx(0.81)
    assert net.weight.item() == 0


def test_the_average_is_judged_and_holds_what_is_counted_as_it_is() -> None:
    net = nn.BatchNorm1d(2).train()
    average = Average(net, decay=0.9)
    net(torch.randn(4, 2))
    average.update(net, step=0)
    assert not average.net.training
    assert not any(parameter.requires_grad for parameter in average.net.parameters())
    assert average.net.num_batches_tracked.item() == 1
