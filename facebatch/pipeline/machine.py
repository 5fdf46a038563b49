"""The machine that a run is laid out for: nodes with what is free on them, and on what of it the networks run."""

from __future__ import annotations

from dataclasses import dataclass

from facebatch import config
from facebatch.errors import FacebatchError, UsageError
from facebatch.session import CPU, CUDA

TASK_CPUS = 0.25
"""What a read, decode, chip or write task asks for. They are short, and an actor pool must never starve them."""
LEAST_CPUS = 0.25
"""What an actor asks for at least: more than four on a core only take turns."""


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a cluster, as Ray knows it. memory: bytes for workers; 0 where that is not known."""

    cpus: float
    gpus: float = 0.0
    memory: float = 0.0

    @property
    def spare(self) -> float:
        """CPUs that are not for tasks."""
        return max(self.cpus - max(2 * TASK_CPUS, self.cpus / 16), 0.0)

    @property
    def usable(self) -> float:
        """GPUs for which there are CPUs: an actor asks for both on the same machine."""
        return min(self.gpus, float(int(self.spare / LEAST_CPUS + 1e-9)))


@dataclass(frozen=True, slots=True)
class Machine:
    """All nodes together. Of a cluster that others use, too: what they have left."""

    nodes: tuple[Node, ...]
    taken_cpus: float = 0.0
    taken_gpus: float = 0.0

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.usable for node in self.nodes)

    @property
    def memory(self) -> float:
        """0 where it is not known of any node."""
        return sum(node.memory for node in self.nodes)

    def with_gpus(self) -> list[Node]:
        """The nodes that have GPUs which can be used."""
        return [node for node in self.nodes if node.usable]


def provider_of(machine: Machine, run: config.Run, available: list[str]) -> tuple[str, str]:
    """On what the networks run, and why. Raises UsageError where that was asked for and is not there, FacebatchError
    where all of it is taken."""
    if run.provider != "auto":
        if run.provider == CUDA and not machine.gpus:
            _refuse_taken(machine, "wait for them, as with run.min_gpus=1")
            raise UsageError("run.provider=cuda, but Ray sees no GPU on this machine; leave it at auto, or add one")
        return run.provider, f"on {run.provider}, as asked for"
    if CUDA in available:
        _refuse_taken(machine, "let it wait for them, as with run.min_gpus=1, or say run.provider=cpu")
    if machine.gpus and CUDA in available:
        return CUDA, f"on cuda: Ray sees {machine.gpus:g} GPU"
    if machine.gpus:
        return CPU, f"on cpu: there is a GPU, but this ONNX Runtime has only {', '.join(available)}"
    if any(node.gpus for node in machine.nodes):
        return CPU, "on cpu: the machines with GPUs have no CPUs for Ray, and an actor asks for both"
    return CPU, "on cpu: there is no GPU"


def _refuse_taken(machine: Machine, advice: str) -> None:
    """A run that was to have GPUs does not fall to the CPU because somebody else has them today."""
    if machine.taken_gpus and not machine.gpus:
        raise FacebatchError(
            f"all GPUs are taken by others ({machine.taken_gpus:g}): run it when they are free, {advice}"
        )
