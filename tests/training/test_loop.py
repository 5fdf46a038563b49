"""The training loop: whatever happens to it, it goes on as if nothing had."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from facebatch.errors import FacebatchError
from facebatch.training import curves
from facebatch.training.loader import Sample
from facebatch.training.loop import Plan, fit
from tests.training.tiny import EVERY, Brightness, network, plan

pytestmark = pytest.mark.reference

ROOT = Path(__file__).parents[2]
STEPS = 60
FILES = ["best.onnx", "best.pt", "curves.jsonl", "curves.png", "last.pt", "steady.pt"]


class _Judged(Brightness):
    """Its judgements are given, and so it can be told which one was exported."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self._scores, self._done = scores, 0

    def judge(self, net: nn.Module) -> Mapping[str, float]:
        self._done += 1
        return {"score": self._scores[self._done - 1]}

    def export(self, net: nn.Module) -> bytes:
        return f"judgement {self._done}".encode()


class _Broken(Brightness):
    """Its loss is not a number from a step on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._left = at

    def losses(self, net: nn.Module, batch: Sample) -> Mapping[str, Tensor]:
        self._left -= 1
        found = super().losses(net, batch)
        return found if self._left > 0 else {"total": found["total"] * float("nan")}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the process that is killed: the order of a sum hangs on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _fit(folder: Path, steps: int, task: Brightness | None = None, **changed: Any) -> list[str]:
    told: list[str] = []
    assert fit(network(), task or Brightness(), plan(steps, **changed), folder, told.append) == folder / "best.onnx"
    return told


def _assert_same(one: Any, other: Any) -> None:
    """Bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, Mapping):
        assert list(one) == list(other)
        for key in one:
            _assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            _assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert one == other


def _assert_same_training(one: Path, other: Path) -> None:
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir()) == FILES
    for name in ("last.pt", "steady.pt", "best.pt"):
        _assert_same(torch.load(one / name, weights_only=True), torch.load(other / name, weights_only=True))
    assert (one / "best.onnx").read_bytes() == (other / "best.onnx").read_bytes()
    assert (one / "curves.jsonl").read_text("utf-8") == (other / "curves.jsonl").read_text("utf-8")


def _start(folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.training.tiny", str(folder), str(STEPS)]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def _killed_between(process: subprocess.Popen[str], judgement: int) -> None:
    """Lets it come to a judgement, and kills it at any moment until the next one."""
    assert process.stdout is not None
    said: list[str] = []
    while not (said and said[-1].startswith("step ")) or int(said[-1].split()[1]) < judgement * EVERY:
        line = process.stdout.readline()
        assert line, said
        said.append(line)
    time.sleep(random.uniform(0, EVERY * 0.02))
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    process.stdout.close()


def test_a_training_that_was_killed_twice_is_the_one_that_was_not(tmp_path: Path) -> None:
    """At two moments that are drawn, with samples made by a process of their own; the other one makes them itself."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _fit(whole, STEPS)
    first = random.randint(1, 4)
    _killed_between(_start(killed), first)
    _killed_between(_start(killed), random.randint(first + 1, STEPS // EVERY - 1))
    ended = _start(killed)
    said, _ = ended.communicate(timeout=120)
    assert ended.returncode == 0
    assert said.splitlines()[0].startswith("going on from step ")
    assert said.splitlines()[-1] == str(killed / "best.onnx")
    _assert_same_training(whole, killed)


def test_a_kill_before_the_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    _fit(tmp_path / "whole", 20)
    with pytest.raises(FacebatchError):
        _fit(tmp_path / "killed", 20, _Broken(5))
    assert not (tmp_path / "killed" / "last.pt").exists()
    assert not any("going on" in line for line in _fit(tmp_path / "killed", 20))
    _assert_same_training(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("name", ["best.pt", "best.onnx", "steady.pt", "last.pt", "curves.jsonl"])
def test_a_kill_at_any_file_of_a_checkpoint_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before it takes the old one's place for the last time, which of the best ones is somewhere in the middle."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    replaced: list[Path] = []
    replace, add = Path.replace, curves.Log.add

    def noted(part: Path, file: Path) -> Path:
        replaced.append(file)
        return replace(part, file)

    monkeypatch.setattr(Path, "replace", noted)
    _fit(whole, 40)
    last = sum(file.name == name for file in replaced)

    def dies(part: Path, file: Path) -> Path:
        if file.name == name and [f.name for f in replaced if f.parent == killed].count(name) == last - 1:
            raise KeyboardInterrupt
        return noted(part, file)

    def dies_behind(log: curves.Log, step: int, values: Mapping[str, float]) -> None:
        add(log, step, values)
        if step == 30:
            raise KeyboardInterrupt

    if name == "curves.jsonl":  # which is added to
        monkeypatch.setattr(curves.Log, "add", dies_behind)
    else:
        monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        _fit(killed, 40)
    monkeypatch.undo()
    assert "going on" in _fit(killed, 40)[0]
    _assert_same_training(whole, killed)


def test_more_steps_later_go_on_from_where_the_rate_was_steady(tmp_path: Path) -> None:
    """As one training of so many steps, whose judgements were at other steps."""
    _fit(tmp_path / "whole", 40)
    _fit(tmp_path / "longer", 20)
    assert _fit(tmp_path / "longer", 40)[0] == "going on from step 15"
    last = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "longer")]
    for key in ("net", "average", "optimiser", "step"):
        _assert_same(last[0][key], last[1][key])
    assert [entry["step"] for entry in curves.read(tmp_path / "longer" / "curves.jsonl")] == [
        7,
        14,
        15,
        21,
        28,
        30,
        35,
        40,
    ]


def test_best_weights_of_an_earlier_fall_are_kept_until_better_ones_come(tmp_path: Path) -> None:
    """Judged after 7, 14, 15 and 20 steps, of which the last is thrown away when 40 are asked for; then after 21, 28,
    30, 35 and 40."""
    _fit(tmp_path, 20, _Judged([0.1, 0.2, 0.3, 0.8]))
    assert (tmp_path / "best.onnx").read_bytes() == b"judgement 4"
    _fit(tmp_path, 40, _Judged([0.4, 0.5, 0.6, 0.7, 0.75]))
    assert (tmp_path / "best.onnx").read_bytes() == b"judgement 4"
    _fit(tmp_path, 80, _Judged([0.4, 0.5, 0.6, 0.7, 0.75, 0.9, 0.8, 0.7, 0.6]))
    assert (tmp_path / "best.onnx").read_bytes() == b"judgement 6"


def test_a_training_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    _fit(tmp_path, 20)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert _fit(tmp_path, 20) == ["going on from step 20"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("scores", "best"), [([0.1, 0.5, 0.3, 0.4], 2), ([0.9, 0.5, 0.9, 0.4], 1), ([0, -1, 0, 1], 4)])
def test_the_best_weights_are_those_of_the_best_judgement(tmp_path: Path, scores: list[float], best: int) -> None:
    """The first of equals. Judged after 7, 14, 15 (where the rate begins to fall) and 20 steps."""
    _fit(tmp_path, 20, _Judged(scores))
    assert (tmp_path / "best.onnx").read_bytes() == f"judgement {best}".encode()
    held = torch.load(tmp_path / "best.pt", weights_only=True)
    assert held["step"] == [7, 14, 15, 20][best - 1]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["best"] == scores[best - 1]


def test_it_learns_and_says_how_it_goes(tmp_path: Path) -> None:
    told = _fit(tmp_path, STEPS)
    entries = curves.read(tmp_path / "curves.jsonl")
    assert [entry["step"] for entry in entries] == [7, 14, 21, 28, 35, 42, 45, 49, 56, 60]
    assert len(told) == len(entries)
    assert told[-1].startswith("step 60 of 60, ")
    assert set(entries[0]) == {"step", "rate", "total", "away", "gradient", "score"}
    assert entries[-1]["score"] > entries[0]["score"]
    assert entries[-1]["total"] < entries[0]["total"]
    assert entries[-1]["rate"] < entries[5]["rate"] == 0.02


def test_gradients_that_are_not_finite_end_it_in_one_sentence_and_spoil_nothing(tmp_path: Path) -> None:
    words = "step 17 gave gradients that are not finite: name another folder and a lower plan.rate"
    with pytest.raises(FacebatchError, match=f"^{words}$"):
        _fit(tmp_path, 20, _Broken(17))
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert last["step"] == 15
    assert all(torch.isfinite(value).all() for value in last["net"].values())


def test_a_long_gradient_is_clipped(tmp_path: Path) -> None:
    """With a clip of nothing no weight moves but by its decay."""
    how = Plan(steps=3, batch=4, clip=1e-12, decay=0.0, workers=0, rise=0, average=0.0)
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    fit(net, Brightness(), how, tmp_path, lambda line: None)
    moved = max(float((p.detach() - q).abs().max()) for p, q in zip(net.parameters(), before, strict=True))
    assert moved < 1e-5


def test_it_learns_in_bfloat16_on_a_device_with_a_number(tmp_path: Path) -> None:
    how = Plan(steps=4, batch=4, workers=0, device="cpu:0", precision="bfloat16")
    fit(network(), Brightness(), how, tmp_path, lambda line: None)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["step"] == 4
    assert all(value.dtype in (torch.float32, torch.int64) for value in state["net"].values())


def test_plans_that_are_none_are_refused() -> None:
    for wrong in ({"steps": 0}, {"batch": 0}, {"every": 0}, {"workers": -1}, {"precision": "float8"}, {"speed": 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Plan(**{"steps": 1} | wrong)
