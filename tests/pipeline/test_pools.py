"""Layouts for machines that are not here: pure arithmetic."""

from __future__ import annotations

import pytest

from facebatch import config
from facebatch.errors import UsageError
from facebatch.pipeline.pools import TASK_CPUS, Layout, Machine, Work, lay_out

BOTH = ["cpu", "cuda"]
MUCH = Work(10**6, 10**12)


def _lay_out(cpus: float, gpus: float = 0, words: list[str] | None = None, work: Work = MUCH) -> Layout:
    return lay_out(Machine(cpus, gpus, 1e11), config.load(None, words or []).run, work, BOTH)


def _used(layout: Layout) -> tuple[float, float]:
    cpus = sum(p.actors * p.cpus for p in layout.pools) + layout.tasks * TASK_CPUS
    return cpus, sum(p.actors * p.gpus for p in layout.pools)


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 8, 16, 64, 1000])
@pytest.mark.parametrize("gpus", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("layout", ["fused", "split"])
def test_every_plan_of_the_planner_fits_with_room_for_each_kind_of_task(cpus: int, gpus: int, layout: str) -> None:
    if (cpus, layout) == (1, "split"):
        return  # refused, see below
    used = _used(_lay_out(cpus, gpus, [f"run.layout={layout}"]))
    assert used[0] <= cpus + 1e-6
    assert used[1] <= gpus


def test_two_cores_without_gpu() -> None:
    layout = _lay_out(2)
    assert layout.name == "fused"
    (pool,) = layout.pools
    assert (pool.actors, pool.gpus, pool.place.provider, pool.place.threads) == (2, 0, "cpu", 1)


def test_one_gpu() -> None:
    layout = _lay_out(16, 1)
    assert layout.name == "fused"
    (pool,) = layout.pools
    assert (pool.actors, pool.gpus, pool.place.provider, pool.place.gpu_share) == (1, 1, "cuda", 1)
    assert pool.place.threads == 15, "decoding has to keep up"


def test_from_two_gpus_on_detection_and_embedding_are_apart() -> None:
    layout = _lay_out(64, 8)
    assert layout.name == "split"
    detect, embed = layout.pools
    assert (detect.actors, embed.actors, detect.gpus, embed.gpus) == (6, 2, 1, 1)


def test_split_on_one_gpu_shares_it_and_its_memory() -> None:
    detect, embed = _lay_out(16, 1, ["run.layout=split"]).pools
    assert detect.gpus + embed.gpus <= 1
    assert detect.place.gpu_share == detect.gpus == 0.5


def test_the_cpu_can_be_asked_for_where_there_is_a_gpu() -> None:
    (pool,) = _lay_out(16, 1, ["run.provider=cpu"]).pools
    assert (pool.place.provider, pool.gpus) == ("cpu", 0)


def test_a_gpu_without_cuda_in_the_runtime_is_said_and_not_used() -> None:
    layout = lay_out(Machine(16, 1, 1e11), config.Run(), MUCH, ["cpu"])
    assert layout.pools[0].place.provider == "cpu"
    assert "there is a GPU, but this ONNX Runtime has only cpu" in layout.why[0]


def test_every_decision_has_a_reason() -> None:
    for layout in (_lay_out(2), _lay_out(16, 1), _lay_out(64, 8), _lay_out(4, 0, ["run.layout=split"])):
        assert len(layout.why) == 4
        assert all(layout.why)


@pytest.mark.parametrize(
    ("cpus", "gpus", "words", "message"),
    [
        (2, 0, ["run.actors=9"], r"needs 2\.75 CPUs and Ray has 2: 9 index x \(0\.25 CPU, 0 GPU\)"),
        (1, 0, ["run.layout=split"], "needs 1.5 CPUs and Ray has 1"),
        (2, 0, ["run.layout=split", "run.actors=4"], "lower run.actors"),
        (2, 0, ["run.provider=cuda"], "Ray sees no GPU"),
    ],
)
def test_a_plan_that_cannot_fit_is_refused_at_once(cpus: int, gpus: int, words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _lay_out(cpus, gpus, words)


def test_sizes_follow_the_work() -> None:
    small, large = _lay_out(2, work=Work(100, 10**7)), _lay_out(2)
    assert (small.commit_images, large.commit_images) == (128, 2048)
    assert (small.block_bytes, large.block_bytes) == (2 << 20, 16 << 20)
    assert _lay_out(2, words=["run.commit_images=50"]).commit_images == 50
