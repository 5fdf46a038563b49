"""Layouts for machines that are not here: pure arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from facebatch import config
from facebatch.errors import UsageError
from facebatch.forecast import Sample
from facebatch.pipeline.machine import TASK_CPUS, Machine, Node
from facebatch.pipeline.pools import Layout, Work, lay_out

BOTH = ["cpu", "cuda"]
MUCH = Work(10**6, 10**12)


def _lay_out(cpus: float, gpus: float = 0, words: list[str] | None = None, work: Work = MUCH) -> Layout:
    return lay_out(Machine((Node(cpus, gpus, 1e12),)), config.load(None, words or []).run, work, BOTH)


def _used(layout: Layout) -> tuple[float, float]:
    cpus = sum(p.actors * p.cpus for p in layout.pools) + sum(layout.tasks)
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
    assert layout.facts == {"index": {"actors": 2, "threads": 1, "cpus": 0.75, "gpus": 0.0}}


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
    layout = lay_out(Machine((Node(16, 1),)), config.Run(), MUCH, ["cpu"])
    assert layout.pools[0].place.provider == "cpu"
    assert "there is a GPU, but this ONNX Runtime has only cpu" in layout.why[0]


def test_every_decision_has_a_reason() -> None:
    for layout in (_lay_out(2), _lay_out(16, 1), _lay_out(64, 8), _lay_out(4, 0, ["run.layout=split"])):
        assert len(layout.why) == 5
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
    assert (small.parcels.bytes, large.parcels.bytes) == (2 << 20, 16 << 20)
    assert (small.parcels.images, large.parcels.images) == (8, 128)
    assert (small.commit_parcels, large.commit_parcels) == (17, 17)
    assert _lay_out(2, words=["run.commit_images=500"]).commit_parcels == 4, "no fewer images than were asked for"
    assert _lay_out(2, words=["run.commit_images=5"]).parcels.images == 5, "a parcel is no larger than a commit"


def test_loose_files_are_read_by_actors_that_compute_on_the_cpu() -> None:
    assert _lay_out(2).parcels.unread
    assert not _lay_out(2, words=["run.layout=split"]).parcels.unread
    assert not _lay_out(8, 1).parcels.unread


def test_a_commit_holds_as_many_parcels_as_it_takes_also_where_shards_are_small() -> None:
    """Shards of 44 photos of 3 MB give parcels of 44, tars of a thousand of 1 MB each parcels of 15 or 16."""
    photos = Work(100_000, 100_000 * 3 * 10**6, 100_000 // 44)
    assert _lay_out(2, work=photos).commit_parcels in (46, 47)
    tars = Work(100_000, 100_000 * 10**6, 100)
    assert 2048 // 17 <= _lay_out(2, words=["run.layout=split"], work=tars).commit_parcels <= 2048 // 15


def test_readers_are_few_only_where_actors_read_themselves_and_writers_where_a_cpu_computes() -> None:
    assert (_lay_out(8).readers, _lay_out(8).writers) == (4, 4)
    assert (_lay_out(16, 1).readers, _lay_out(16, 1).writers) == (None, None)
    assert _lay_out(16, words=["run.layout=split"]).readers is None
    assert _lay_out(2).writers == 1


def test_small_pictures_with_their_views_are_few_in_a_parcel() -> None:
    """16 MiB of thumbnails are thousands, whose views are gigabytes."""
    thumbnails = Work(10**6, 5 * 10**9)
    assert _lay_out(8, words=["run.layout=split"], work=thumbnails).parcels.images == 64
    many = replace(thumbnails, view_bytes=6 << 20)
    assert _lay_out(8, words=["run.layout=split"], work=many).parcels.images == 16
    assert _lay_out(8, words=["run.layout=split"], work=replace(many, view_bytes=1 << 30)).parcels.images == 1


def _on(*nodes: Node, words: list[str] | None = None) -> Layout:
    return lay_out(Machine(nodes), config.load(None, words or []).run, MUCH, BOTH)


@pytest.mark.parametrize(
    ("actors", "share", "on_one"), [(1, 1, 1), (2, 1, 1), (3, 0.5, 2), (4, 0.5, 2), (6, 0.33, 3), (8, 0.25, 4)]
)
def test_more_actors_than_gpus_take_equal_parts_of_one_each(actors: int, share: float, on_one: int) -> None:
    """Two thirds of a GPU on each of two GPUs are no place for a third actor of that size."""
    (pool,) = _on(Node(32, 2), words=["run.layout=fused", f"run.actors={actors}"]).pools
    assert (pool.actors, pool.gpus, int(1 / pool.gpus)) == (actors, share, on_one)
    assert pool.place.gpu_share == share


def test_an_actor_asks_for_no_more_than_one_node_has() -> None:
    """Sixteen nodes of two cores are no machine of thirty-two."""
    (pool,) = _on(*[Node(2)] * 16).pools
    assert (pool.actors, pool.cpus) == (32, 0.75)
    (pool,) = _on(Node(8, 1), Node(64, 1), words=["run.layout=fused"]).pools
    assert pool.actors == 2
    assert pool.cpus <= 7.5


def test_every_node_keeps_room_for_tasks() -> None:
    for nodes in ([Node(2)] * 3, [Node(4), Node(64)], [Node(0), Node(8)], [Node(1), Node(1)]):
        for words in ([], ["run.layout=split"]):
            if words and all(node.cpus < 2 for node in nodes):
                continue
            layout = _on(*nodes, words=words)
            most = max(node.cpus for node in nodes)
            assert max(pool.cpus for pool in layout.pools) <= most - 2 * TASK_CPUS


def test_a_head_without_cpus_is_given_nothing() -> None:
    (pool,) = _on(Node(0), Node(4)).pools
    assert (pool.actors, pool.cpus) == (4, 0.87)


def test_nodes_without_gpus_decode_for_those_that_have_them() -> None:
    layout = _on(Node(4, 1), Node(32))
    assert layout.name == "split"
    assert "nodes without a GPU decode" in layout.why[1]
    assert {pool.gpus for pool in layout.pools} == {0.5}
    layout = _on(*[Node(16, 4)] * 3, *[Node(64)] * 5)
    detect, embed = layout.pools
    assert (detect.actors + embed.actors, detect.gpus, embed.gpus) == (12, 1, 1)


def test_a_plan_that_fits_in_sum_and_on_no_node_is_refused() -> None:
    machine, run = Machine((Node(1, 1), Node(3))), config.Run(layout="split", actors=4)
    with pytest.raises(UsageError, match=r"does not fit on the nodes \(1 CPU, 1 GPU\), \(3 CPU, 0 GPU\): 4 detect x"):
        lay_out(machine, run, MUCH, BOTH)


def test_actors_are_no_more_than_memory_is_for() -> None:
    layout = _on(Node(64, 0, 16e9))
    assert layout.memory <= 16e9
    assert layout.pools[0].actors == 14
    assert "memory is for 14, not for 56" in layout.why[2]
    more = _on(Node(64, 0, 16e9), words=["run.megapixels=16"])
    assert more.pools[0].actors == 21
    assert _on(Node(64, 0, 1e8)).pools[0].actors == 1, "one in any case"


def test_the_memory_of_a_plan_is_said() -> None:
    assert "about 2.1 GiB of memory: 2 actor(s) hold 64 megapixels each" in _lay_out(2).why[3]
    assert "2 decoding task(s) beside 2 actor(s) hold" in _lay_out(2, words=["run.layout=split"]).why[3]


def test_decoding_tasks_have_a_core_each_where_there_are_many() -> None:
    """Four on a core would hold four pictures: of a hundred megapixels, some gigabytes for nothing."""
    layout = _on(Node(64, 8))
    assert layout.decode_cpus == 1
    assert "61 decoding task(s)" in layout.why[3]
    assert _lay_out(2, words=["run.layout=split"]).decode_cpus == TASK_CPUS


def _sample(milliseconds: float, network_bytes: int = 0, **spent: float) -> Sample:
    return Sample(20, 100, 40, 20 * milliseconds / 1000, {k: v / 1000 for k, v in spent.items()}, network_bytes)


def _measured(sample: Sample, node: Node, *words: str, work: Work = MUCH) -> Layout:
    return lay_out(Machine((node,)), config.load(None, words).run, work, BOTH, sample)


@pytest.mark.parametrize(("milliseconds", "images", "batch"), [(1, 2048, 256), (25, 120, 32), (5000, 8, 32)])
def test_parcels_and_batches_are_as_large_as_the_measured_time_asks_for(
    milliseconds: float, images: int, batch: int
) -> None:
    layout = _measured(_sample(milliseconds), Node(2))
    assert (layout.parcels.images, layout.batch) == (images, batch), "a parcel is no larger than a commit"
    assert f"parcels of {images} images" in layout.why[4]


def test_sizes_can_be_pinned() -> None:
    layout = _measured(_sample(1), Node(2), "run.parcel_images=50", "run.batch=7")
    assert (layout.parcels.images, layout.batch) == (50, 7)
    assert _measured(_sample(1), Node(16, 1), "run.parcel_images=50").parcels.images == 50
    assert _measured(_sample(1), Node(8), "run.parcel_images=5", "run.layout=split").parcels.images == 5


def test_heavy_networks_have_as_many_actors_as_memory_is_for_and_threads_for_the_cores_that_are_left() -> None:
    node = Node(8, 0, 16 << 30)
    light, heavy = _measured(_sample(25), node), _measured(_sample(25, 3 << 30), node)
    assert [(p.actors, p.place.threads) for p in light.pools + heavy.pools] == [(7, 1), (4, 1)]
    assert "memory is for 4, not for 7" in heavy.why[2]
    (pool,) = _measured(_sample(25, 6 << 30), node).pools
    assert (pool.actors, pool.place.threads) == (2, 3)
    (pool,) = _measured(_sample(25, 6 << 30), node, "run.threads=1").pools
    assert pool.place.threads == 1


@pytest.mark.parametrize(("detect", "embed", "pools"), [(75, 25, [6, 2]), (1, 99, [1, 7]), (99, 1, [7, 1])])
def test_detectors_and_embedders_are_as_many_as_their_measured_shares(
    detect: float, embed: float, pools: list[int]
) -> None:
    layout = _measured(_sample(100, detect=detect, embed=embed), Node(64, 8, 1e12))
    assert [pool.actors for pool in layout.pools] == pools


def test_how_many_threads_must_decode_for_a_gpu_is_said() -> None:
    layout = _measured(_sample(20, decode=15, chip=1, detect=2, embed=2), Node(16, 1))
    assert "to keep it busy takes 4.0" in layout.why[2]


CPUS = (0, 0.25, 0.5, 0.75, 1, 1.25, 2, 3.5, 4, 15.67, 16)


def test_a_plan_of_the_planner_is_never_refused_where_an_actor_and_its_tasks_fit() -> None:
    """Heads with a GPU and no CPU for it, GPUs beside too few CPUs, nodes that others have left little of."""
    random, gib = np.random.default_rng(0), 2.0**30
    for _ in range(3000):
        memory = gib * float(random.choice([0, 2, 16]))
        nodes = tuple(
            Node(float(random.choice(CPUS)), float(random.choice([0, 0, 1, 2, 8])), memory)
            for _ in range(random.integers(1, 4))
        )
        if max(node.cpus for node in nodes) < 3 * TASK_CPUS:
            continue
        layout = lay_out(Machine(nodes), config.Run(), MUCH, BOTH)
        assert (layout.pools[0].place.provider == "cuda") == any(node.usable for node in nodes), nodes


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        ((Node(0, 1), Node(16, 1)), "fused"),
        ((Node(8), Node(0.25, 2)), "fused"),
        ((Node(1, 8),), "fused"),
        ((Node(4, 8),), "split"),
    ],
)
def test_gpus_without_cpus_beside_them_are_not_planned_with(nodes: tuple[Node, ...], name: str) -> None:
    layout = lay_out(Machine(nodes), config.Run(), MUCH, BOTH)
    assert layout.name == name
    assert sum(pool.actors * pool.gpus for pool in layout.pools) <= sum(node.usable for node in nodes)
