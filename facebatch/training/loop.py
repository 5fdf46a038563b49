"""The training loop, the same for detectors and embedders: steps, judgements, checkpoints, and going on after a kill.

In its folder it leaves `last.pt` (to go on from), `steady.pt` (to go on from with more steps), `best.pt` and
`best.onnx` (by what the task judges by), `curves.jsonl` and `curves.png`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as settings
from torch import Tensor, nn

from facebatch.config import Count, Positive
from facebatch.errors import FacebatchError
from facebatch.training import checkpoint, curves
from facebatch.training.loader import Sample, batches
from facebatch.training.schedule import Schedule

Tell = Callable[[str], None]
SCORE = "score"
"""What a judgement is compared by; higher is better."""
_MATRICES = "matrices"


class Task(Protocol):
    """What is trained. `count`: training samples; `sample`: one of them, from a generator; `losses`: of a batch, of
    which `total` is minimised; `judge`: figures of a network, with `score`; `export`: it as an ONNX file."""

    count: int

    def sample(self, index: int, random: np.random.Generator) -> Sample: ...
    def losses(self, net: nn.Module, batch: Sample) -> Mapping[str, Tensor]: ...
    def judge(self, net: nn.Module) -> Mapping[str, float]: ...
    def export(self, net: nn.Module) -> bytes: ...


@settings(frozen=True, config=ConfigDict(extra="forbid"))
class Plan:
    """How long and how fast. `every`: steps from one judgement and checkpoint to the next; `decay`: of the weights;
    `average`: of the moving average of the weights; `clip`: the longest gradient; `threads`: 0 for all cores."""

    steps: Positive
    batch: Positive = 32
    rate: float = 2e-3
    matrices: float = 0.0
    rise: int = 200
    fall: float = 0.25
    every: Positive = 500
    seed: Count = 0
    workers: Count = 1
    threads: Count = 0
    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    decay: float = 1e-2
    average: float = 0.999
    clip: float = 10.0

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.steps, self.rate, self.rise, self.fall)


@dataclass
class _Run:
    """Everything that a checkpoint holds."""

    net: nn.Module
    average: checkpoint.Average
    optimisers: Mapping[str, torch.optim.Optimizer]
    step: int = 0
    best: float = -float("inf")

    def state(self) -> checkpoint.State:
        return {
            "net": self.net.state_dict(),
            "average": self.average.net.state_dict(),
            "step": self.step,
            "best": self.best,
        } | {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def restore(self, state: checkpoint.State) -> None:
        self.net.load_state_dict(state["net"])
        self.average.net.load_state_dict(state["average"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])
        self.step, self.best = int(state["step"]), float(state["best"])


def fit(net: nn.Module, task: Task, plan: Plan, folder: Path, tell: Tell) -> Path:
    """Train until `plan.steps`, from wherever the folder's checkpoint is. Returns the ONNX file of the best weights.
    Raises FacebatchError for a damaged checkpoint, and where gradients are not finite."""
    folder.mkdir(parents=True, exist_ok=True)
    net = net.to(plan.device, memory_format=torch.channels_last).train()
    run = _Run(net, checkpoint.Average(net, plan.average), _optimisers(net, plan))
    _go_on(run, plan, folder, tell)
    log = curves.Log(folder / "curves.jsonl", run.step)
    sums, since, started = _Sums(), run.step, time.monotonic()
    stream = batches(task.sample, task.count, plan.batch, plan.seed, run.step, plan.workers)
    while run.step < plan.steps:
        batch = {key: value.to(plan.device) for key, value in next(stream).items()}
        sums.add(_step(run, task, batch, plan))
        run.step += 1
        steady = run.step == plan.schedule.steady_until
        if run.step % plan.every == 0 or run.step == plan.steps or steady:
            figures = {"rate": plan.schedule.rate(run.step - 1)} | sums.means() | dict(task.judge(run.average.net))
            log.add(run.step, figures)
            pace = (time.monotonic() - started) / (run.step - since)
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            tell(f"step {run.step} of {plan.steps}, {pace:.2f} s each: {shown}")
            sums = _Sums()
            if figures[SCORE] > run.best:
                run.best = figures[SCORE]
                checkpoint.save(folder / "best.pt", {"net": run.average.net.state_dict(), "step": run.step})
                checkpoint.write(folder / "best.onnx", task.export(run.average.net))
            if steady:  # before the last one: a run that goes on from there would not come by here again
                checkpoint.save(folder / "steady.pt", run.state())
            checkpoint.save(folder / "last.pt", run.state())
            curves.plot(folder / "curves.png", curves.read(folder / "curves.jsonl"))
    return folder / "best.onnx"


def _go_on(run: _Run, plan: Plan, folder: Path, tell: Tell) -> None:
    """From the last checkpoint, unless its rate was falling already towards an earlier end: then from before that."""
    state = checkpoint.load(folder / "last.pt")
    steady = checkpoint.load(folder / "steady.pt")
    if state and steady and state["step"] > steady["step"] and plan.schedule.steady_until > steady["step"]:
        state = steady | {"best": state["best"]}  # of what was thrown away the best weights are still there
    if state:
        run.restore(state)
        tell(f"going on from step {run.step}")


def _step(run: _Run, task: Task, batch: Sample, plan: Plan) -> dict[str, float]:
    for name, optimiser in run.optimisers.items():
        peak = plan.matrices if name == _MATRICES else plan.rate
        for group in optimiser.param_groups:
            group["lr"] = replace(plan.schedule, peak=peak).rate(run.step)
    with torch.autocast(
        torch.device(plan.device).type, getattr(torch, plan.precision), enabled=plan.precision != "float32"
    ):
        losses = task.losses(run.net, batch)
    run.net.zero_grad(set_to_none=True)
    losses["total"].backward()
    length = nn.utils.clip_grad_norm_(run.net.parameters(), plan.clip)
    if not torch.isfinite(length):
        raise FacebatchError(
            f"step {run.step + 1} gave gradients that are not finite: name another folder and a lower plan.rate"
        )
    for optimiser in run.optimisers.values():
        optimiser.step()
    run.average.update(run.net, run.step)
    return {key: float(value.detach()) for key, value in losses.items()} | {"gradient": float(length)}


def _optimisers(net: nn.Module, plan: Plan) -> dict[str, torch.optim.Optimizer]:
    """AdamW; what scales and shifts does not decay. For matrices Muon, where it is wanted.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """
    matrices = [p for p in net.parameters() if p.ndim == 2] if plan.matrices else []
    others = [p for p in net.parameters() if p.ndim != 2 or not plan.matrices]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": plan.decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    found: dict[str, torch.optim.Optimizer] = {"optimiser": torch.optim.AdamW(groups, lr=plan.rate)}
    if matrices:
        found[_MATRICES] = torch.optim.Muon(matrices, lr=plan.matrices, weight_decay=0.0)
    return found


@dataclass
class _Sums:
    """Means of what many steps gave."""

    total: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, values: Mapping[str, float]) -> None:
        self.count += 1
        for key, value in values.items():
            self.total[key] = self.total.get(key, 0.0) + value

    def means(self) -> dict[str, Any]:
        return {key: value / max(1, self.count) for key, value in self.total.items()}
