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
_REST, _SHORT, _REST_SHARE = 0.25, 0.05, 1 / 8
"""Seconds that Ray's loop rests at most and at least, and as a part of those that a parcel takes an actor, which has
one more waiting."""
_DESK, _SHARE, _ACTORS = "facebatch.desk", "facebatch.unreadable", "facebatch.actors"


class Stranded(FacebatchError):
    """Nodes were lost, and what is left of the cluster cannot go on with the layout there is."""

    on_gpus = False
    """Whether that layout was for GPUs, set by who made it: a CPU must not go on in their place."""


def tell(context: Any, desk: Any, share: float, actors: int) -> None:
    """Leave with Ray Data what a watch needs, which it makes itself. desk: its handle; share: `run.unreadable`; actors:
    for how many there must be work before Ray's loop may rest; 0 where it may not, for tasks wait for it."""
    context.set_config(_DESK, desk)
    context.set_config(_SHARE, share)
    context.set_config(_ACTORS, actors)


def forget(context: Any) -> None:
    """Take it back when the job is over: Ray Data sends all that it holds with the next one, which may run on another
    Ray, where the desk's handle ends the process."""
    for key in (_DESK, _SHARE, _ACTORS):
        context.remove_config(key)
    context.custom_execution_callback_classes = []


class Watch(ExecutionCallback):
    """Raises Stranded or Spent in Ray Data's loop, which ends the execution. Made by Ray, one for each execution."""

    def before_execution_starts(self, executor: Any) -> None:
        known = [executor._data_context.get_config(key) for key in (_DESK, _SHARE, _ACTORS)]
        self._desk, self._share, self._actors = known
        if None in known:
            raise RuntimeError("a watch was made before it was told what to watch (`tell`)")
        self._counted, self._born = time.monotonic(), 0.0
        self._nodes = alive()
        self._moved, self._looked = 0.0, 0.0
        self._counts: list[int] = []
        self._pace = Pace()
        _limited(executor._cluster_autoscaler)
        # Earlier than Ray's own guard, which ends the run.
        self._patience = min(SHRUNK_PATIENCE, executor._data_context.execution_no_progress_timeout_s / 2)

    def on_execution_step(self, executor: Any) -> None:
        if self._actors and (rest := self._rest(executor, time.monotonic())):
            time.sleep(rest)
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

    def _rest(self, executor: Any, now: float) -> float:
        """Seconds for which Ray's loop may rest: while parcels enough for all actors lie before them, beside those that
        they have. It goes round ten times a second, whether anything has happened or not, which takes 3 % of a core,
        and what those that compute have in their caches."""
        pools = [item for item in executor._topology.items() if isinstance(item[0], ActorPoolMapOperator)]
        took = self._pace.parcel(sum(pool.metrics.num_tasks_finished for pool, _ in pools), self._actors, now)
        queued = sum(state.total_enqueued_input_blocks() for _, state in pools)
        rest = min(_REST, _REST_SHARE * took) if queued >= self._actors else 0.0
        return rest if rest >= _SHORT else 0.0

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


class Pace:
    """How long a parcel takes an actor, since the first was seen to be finished: before that, actors started."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def parcel(self, finished: int, actors: int, now: float) -> float:
        """Seconds, when so many are finished in all; 0 while that is not known."""
        if finished and not self._first:
            self._first = now, finished
        since, before = self._first or (now, finished)
        return (now - since) * actors / (finished - before) if finished - before >= actors else 0.0


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
