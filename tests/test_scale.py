"""A run on paper, against numbers computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from facebatch import config
from facebatch.errors import UsageError
from facebatch.scale import Archive, Costs, Fleet, Sizes, Table, estimate, fitted, written

MILLION = Archive(images=1_000_000, bytes=300_000, faces=0.5, loose=1_000_000)
SIZES = Sizes(images=Table(10_000, 100), faces=Table(12_000, 1800), plan=Table(5000, 40), record=600, range=30)
COSTS = Costs(image={"read": 0.001, "decode": 0.009, "detect": 0.02}, face={"embed": 0.01, "chip": 0.002}, sizes=SIZES)
SETTINGS = config.Config()


def test_cores_share_what_images_and_faces_take() -> None:
    """A million images at 30 ms and half a million faces at 12 ms: 36,000 seconds, on ten cores an hour."""
    found = estimate(MILLION, Fleet(nodes=2, cores=5), COSTS, SETTINGS)
    assert sum(found.cores.values()) == pytest.approx(36_000)
    assert found.cores["detect"] == pytest.approx(20_000)
    assert found.cores["embed"] == pytest.approx(5000)
    assert found.seconds == pytest.approx(3600)
    assert found.took == {"cores": found.seconds}
    assert (found.bottleneck, found.gpus, found.price) == ("cores", {}, None)
    assert found.bytes_read == 300e9


def test_what_takes_longest_is_the_bottleneck_and_the_time() -> None:
    """300 GB at two times 25 MB/s: 6,000 seconds, and the cores are done after 3,600."""
    found = estimate(MILLION, Fleet(nodes=2, cores=5, bandwidth=25e6), COSTS, SETTINGS)
    assert found.took["reading"] == pytest.approx(6000)
    assert found.bottleneck == "reading"
    assert found.seconds == pytest.approx(6000)


def test_planning_comes_before_all_else_and_more_nodes_do_not_help() -> None:
    costs = replace(COSTS, planning=0.0001)
    found = estimate(MILLION, Fleet(nodes=2, cores=5), costs, SETTINGS)
    assert found.seconds == pytest.approx(3600 + 100)
    many = estimate(MILLION, Fleet(nodes=2000, cores=5), costs, SETTINGS)
    assert many.bottleneck == "planning"
    assert many.seconds == pytest.approx(100 + 3.6)


def test_gpus_take_the_networks_over_and_a_core_each_to_feed_them() -> None:
    """Of 36,000 core-seconds 25,000 are the networks': at ten times the speed 2,500 of a GPU, on two of them 1,250. The
    other 11,000 are for the 8 cores that are left of 10."""
    fleet = Fleet(nodes=2, cores=5, gpus=2)
    found = estimate(MILLION, fleet, fitted(COSTS, fleet, 10), SETTINGS)
    assert sum(found.gpus.values()) == pytest.approx(2500)
    assert found.took == {"cores": pytest.approx(11_000 / 8), "GPUs": pytest.approx(1250)}
    assert (found.bottleneck, found.in_turn) == ("cores", False)
    assert found.seconds == pytest.approx(1375)


@pytest.mark.parametrize(
    ("nodes", "words", "in_turn"),
    [(1, [], True), (2, [], False), (1, ["run.layout=split"], False), (2, ["run.layout=fused"], True)],
)
def test_in_layout_fused_cores_and_a_gpu_take_turns(nodes: int, words: list[str], in_turn: bool) -> None:
    fleet = Fleet(nodes=nodes, cores=12 / nodes, gpus=1)
    found = estimate(MILLION, fleet, fitted(COSTS, fleet, 10), config.load(None, words))
    assert found.took == {"cores": pytest.approx(1000), "GPUs": pytest.approx(2500)}
    assert found.in_turn == in_turn
    assert found.seconds == pytest.approx(3500 if in_turn else 2500)


def test_gpus_without_a_core_beside_those_that_feed_them_are_refused() -> None:
    fleet = Fleet(nodes=1, cores=8, gpus=8)
    with pytest.raises(UsageError, match="8 GPUs need a core each.*8 cores on 1 node.*raise --nodes or --cores"):
        estimate(MILLION, fleet, fitted(COSTS, fleet, 10), SETTINGS)


def test_the_price_is_that_of_the_whole_fleet_busy_or_not() -> None:
    """1,375 seconds of ten cores and two GPUs."""
    fleet = Fleet(nodes=2, cores=5, gpus=2, core_hour=0.05, gpu_hour=3)
    found = estimate(MILLION, fleet, fitted(COSTS, fleet, 10), SETTINGS)
    assert found.price == pytest.approx(1375 / 3600 * (10 * 0.05 + 2 * 3))


def test_no_speed_of_a_gpu_is_made_up() -> None:
    with pytest.raises(UsageError, match="how fast one is cannot be told from them: .*--costs .*--gpu-speedup"):
        fitted(COSTS, Fleet(gpus=1), None)
    with pytest.raises(UsageError, match="do not tell what the networks take of a core: say --gpus"):
        fitted(replace(COSTS, on_gpu=True), Fleet(), None)


def test_costs_of_a_gpu_are_taken_as_they_are() -> None:
    costs = replace(COSTS, on_gpu=True)
    assert fitted(costs, Fleet(gpus=1), None) == costs
    with pytest.raises(UsageError, match="--gpu-speedup=10 has no meaning here: the costs were measured on a GPU"):
        fitted(costs, Fleet(gpus=1), 10)
    with pytest.raises(UsageError, match="no meaning here: there are no --gpus"):
        fitted(COSTS, Fleet(), 10)


def test_a_commit_is_two_tables_and_a_record() -> None:
    """2,048 images in each: 489 commits. 447 files fit into the 128 MiB of a shard: 2,238 shards."""
    left = written(MILLION, SIZES, SETTINGS)
    assert (left.records, left.shards, left.plans) == (489, 2238, 1)
    assert left.objects == 3 * 489 + 1 + 6
    images = 489 * 10_000 + (1_000_000 - 489) * 100
    faces = 489 * 12_000 + (500_000 - 489) * 1800
    assert left.table_bytes == images + faces
    assert left.record_bytes == 489 * 600 + (2238 + 489 - 1) * 30
    assert left.plan_bytes == 5000 + 999_999 * 40
    assert left.bytes == left.table_bytes + left.record_bytes + left.plan_bytes


def test_small_files_fill_a_shard_by_number_and_large_ones_are_alone() -> None:
    assert written(replace(MILLION, bytes=1000), SIZES, SETTINGS).shards == 1954
    assert written(replace(MILLION, bytes=300e6), SIZES, SETTINGS).shards == 1_000_000


def test_a_container_is_a_shard_and_leaves_a_note_when_it_was_read() -> None:
    left = written(MILLION.grown(1_000_000, packed=10_000), SIZES, SETTINGS)
    assert (left.shards, left.objects) == (100, 3 * 489 + 1 + 100 + 6)


def test_a_commit_of_very_many_faces_is_cut() -> None:
    """25 faces on each of 2,048 images are 51,200, of which 20,000 fit into an object."""
    assert written(replace(MILLION, faces=25), SIZES, SETTINGS).records == 3 * 489


def test_commits_are_as_large_as_the_configuration_says() -> None:
    assert written(MILLION, SIZES, config.load(None, ["run.commit_images=1000"])).records == 1000


def test_a_billion_objects_need_a_driver_with_memory() -> None:
    """80 bytes for each object, 320 for each shard, 2,000 for each record, 450 for each shard named in one."""
    billion = MILLION.grown(1_000_000_000)
    found = estimate(billion, Fleet(), COSTS, SETTINGS)
    shards, records = 2_237_137, 488_282
    assert (found.written.shards, found.written.records) == (shards, records)
    held = shards * 320 + records * 2000 + (shards + records - 1) * 450
    assert found.driver_bytes == 200e6 + 80e9 + held
    assert found.written.plans == 954


def test_a_larger_archive_is_like_the_one_that_was_measured() -> None:
    mixed = Archive(images=20, bytes=1000, faces=0.9, loose=17, containers=1)
    assert mixed.grown(20) == mixed
    assert mixed.grown(2000) == Archive(2000, 1000, 0.9, 1700, 100)
    assert mixed.grown(2000, bytes=5, faces=2, packed=300) == Archive(2000, 5, 2, 0, 7)
