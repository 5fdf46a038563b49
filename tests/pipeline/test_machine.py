"""On what the networks run, and what a cluster has that others use, too."""

from __future__ import annotations

import pytest

from facebatch.config import Run
from facebatch.errors import FacebatchError
from facebatch.pipeline.machine import Machine, Node, provider_of
from facebatch.pipeline.pools import Work, lay_out

BOTH = ["cpu", "cuda"]
TAKEN = Machine((Node(6),), taken_cpus=2, taken_gpus=2)
"""Two GPUs, and others have them."""


def test_gpus_are_used_where_there_are_some() -> None:
    assert provider_of(Machine((Node(4, 2),)), Run(), BOTH)[0] == "cuda"
    assert provider_of(Machine((Node(4, 2),)), Run(provider="cpu"), BOTH)[0] == "cpu"
    assert provider_of(Machine((Node(4),)), Run(), BOTH)[0] == "cpu"


@pytest.mark.parametrize("provider", ["auto", "cuda"])
def test_the_cpu_does_not_step_in_for_gpus_that_others_hold(provider: str) -> None:
    with pytest.raises(FacebatchError, match=r"all GPUs are taken by others \(2\).* run.min_gpus=1") as refused:
        provider_of(TAKEN, Run(provider=provider), BOTH)  # type: ignore[arg-type]
    assert refused.value.exit_code == 1, "the same command is right, later"


def test_gpus_that_could_not_be_used_are_nobodys_loss() -> None:
    assert provider_of(TAKEN, Run(), ["cpu"])[0] == "cpu"
    assert provider_of(TAKEN, Run(provider="cpu"), BOTH)[0] == "cpu"


def test_of_some_gpus_those_that_are_free_are_used_and_the_plan_says_so() -> None:
    layout = lay_out(Machine((Node(16, 1),), taken_gpus=3), Run(), Work(10**6, 10**12), BOTH)
    assert layout.pools[0].actors == 1
    assert any("others have taken 0 CPUs and 3 GPUs" in why for why in layout.why)


def test_a_plan_for_all_of_a_cluster_that_others_use_is_refused_with_what_they_have() -> None:
    with pytest.raises(FacebatchError, match="needs 6.5 CPUs and Ray has 4 free, 4 are taken by others: 24 index x"):
        lay_out(Machine((Node(4),), taken_cpus=4), Run(actors=24), Work(10**6, 10**12), BOTH)
