"""The journal of suspects (`facebatch.suspects`) as an actor that outlives the workers."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from facebatch import suspects
from facebatch.suspects import Key
from facebatch.trial import Verdict

_Actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(suspects.Journal)


class RemoteJournal:
    """The journal as a worker reaches it: a millisecond for each batch. Small; travels to the workers.

    Its actor lives beside the driver, and so as long as the run does, whatever happens to other nodes.
    """

    def __init__(self) -> None:
        here = ray.get_runtime_context().get_node_id()
        self._actor: Any = _Actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)).remote()

    def begin(self, stage: str, keys: list[Key]) -> tuple[int, dict[Key, Verdict]]:
        """Returns when it is noted: what comes next may end this process."""
        noted: tuple[int, dict[Key, Verdict]] = ray.get(self._actor.begin.remote(stage, keys))
        return noted

    def end(self, stage: str, keys: list[Key]) -> None:
        """Not waited for: an end that gets lost costs innocent images a trial, and nothing else."""
        self._actor.end.remote(stage, keys)

    def blame(self, verdicts: dict[Key, Verdict]) -> None:
        """Returns when it is noted."""
        ray.get(self._actor.blame.remote(verdicts))
