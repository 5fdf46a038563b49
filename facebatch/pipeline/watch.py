"""The watch over a running job: a cluster that has shrunk until nothing moves is noticed, and a storage that fails.

When a node is lost, Ray starts its actors again wherever there is room. They may take the CPUs that were left for read
and write tasks, or wait for CPUs that idle actors of another pool hold: pools of a fixed size never give a place back,
and Ray waits for ever (seen: two nodes of one CPU each, one lost). Pools that may shrink are no cure. Ray then reserves
less for them, takes idle actors away from healthy runs too, and cannot shrink a pool whose waiting actors hold tasks.
So the run is laid out anew for the nodes that are left: by the planner, from what is committed (`index`).
"""

from __future__ import annotations

import time
from typing import Any

import ray
import ray.exceptions
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator

from facebatch.budget import Budget
from facebatch.errors import FacebatchError

SHRUNK_PATIENCE = 60.0
"""Seconds in which nothing moves, after nodes were lost, until a run is laid out anew. An actor starts in 5 to 30."""
_EVERY = 1.0
"""Seconds between looks: Ray's loop takes a step many times a second."""
_BUDGET_EVERY = 5.0
"""Seconds between looks at the counters."""
_LIMITS_PATIENCE = 1.0
"""Seconds after which Ray Data's own way is as fast."""
_DESK, _SHARE, _REST = "facebatch.desk", "facebatch.unreadable", "facebatch.rest"


class Stranded(FacebatchError):
    """Nodes were lost, and what is left of the cluster cannot go on with the layout there is."""

    on_gpus = False
    """Whether that layout was for GPUs, set by who made it: a CPU must not go on in their place."""


def tell(context: Any, desk: Any, share: float, rest: float, actors: int) -> None:
    """Leave with Ray Data what a watch needs, which it makes itself. desk: its handle; share: `run.unreadable`; rest,
    actors: of the layout."""
    context.set_config(_DESK, desk)
    context.set_config(_SHARE, share)
    context.set_config(_REST, (rest, actors))


def forget(context: Any) -> None:
    """Take it back when the job is over: Ray Data sends all that it holds with the next one, which may run on another
    Ray, where the desk's handle ends the process."""
    for key in (_DESK, _SHARE, _REST):
        context.remove_config(key)
    context.custom_execution_callback_classes = []


class Watch(ExecutionCallback):
    """Raises Stranded or Spent in Ray Data's loop, which ends the execution. Made by Ray, one for each execution."""

    def before_execution_starts(self, executor: Any) -> None:
        known = [executor._data_context.get_config(key) for key in (_DESK, _SHARE, _REST)]
        self._desk, self._share, self._rest = known
        if None in known:
            raise RuntimeError("a watch was made before it was told what to watch (`tell`)")
        self._counted, self._born = time.monotonic(), 0.0
        self._nodes = alive()
        self._moved, self._looked = 0.0, 0.0
        self._counts: list[int] = []
        _limited(executor._cluster_autoscaler)
        # Earlier than Ray's own guard, which ends the run.
        self._patience = min(SHRUNK_PATIENCE, executor._data_context.execution_no_progress_timeout_s / 2)

    def on_execution_step(self, executor: Any) -> None:
        seconds, actors = self._rest
        if seconds and _queued(executor) >= actors:
            time.sleep(seconds)
        now = time.monotonic()
        if now - self._looked < _EVERY:
            return
        self._looked = now
        if now - self._counted >= _BUDGET_EVERY:
            self._counted = now
            self._check()
        counts = [n for operator, state in executor._topology.items() for n in _counts(operator, state)]
        if counts != self._counts:
            self._counts, self._moved = counts, now
        elif now - self._moved >= self._patience and (lost := self._nodes - alive()):
            raise Stranded(
                f"{len(lost)} of {len(self._nodes)} nodes were lost, and for {now - self._moved:.0f} s nothing has "
                f"moved on those that are left"
            )

    def _check(self) -> None:
        """What the desk cannot say now it says the next time. One that was started again counts anew."""
        try:
            born, counts = ray.get(self._desk.told.remote(), timeout=1)
        except ray.exceptions.RayError:
            return
        if born != self._born:
            self._born, self._budget = born, Budget(self._share, self._counted)
        self._budget.check(counts, self._counted)


def _limited(autoscaler: Any) -> None:
    """Wait until Ray Data knows what it may use. It asks without waiting for the answer, and once a second: so for the
    first second it has nothing, and gives work to one actor."""
    until = time.monotonic() + _LIMITS_PATIENCE
    while not autoscaler.get_total_resources().cpu and time.monotonic() < until:
        time.sleep(0.01)


def _queued(executor: Any) -> int:
    """Parcels that lie before the actors, beside those that they have. While these are enough for all, Ray's loop may
    rest: it goes round ten times a second, whether anything has happened or not, which takes 3 % of a core, and what
    those that compute have in their caches."""
    pools = (state for operator, state in executor._topology.items() if isinstance(operator, ActorPoolMapOperator))
    return sum(state.total_enqueued_input_blocks() for state in pools)


def alive() -> set[str]:
    """The nodes of the cluster that Ray has not given up."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]


def _counts(operator: Any, state: Any) -> tuple[int, int, int]:
    """What changes whenever an operator moves: the same three numbers as Ray's own guard against standstill."""
    return (
        operator.metrics.num_outputs_taken,
        state.total_enqueued_input_blocks(),
        state.total_enqueued_output_blocks(),
    )
