"""`--retry`: rows of the reasons that the user names are computed again, all others stay, each image once."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from facebatch import config, ledger
from facebatch.errors import FacebatchError, UsageError
from facebatch.pipeline.dryrun import dry_run
from facebatch.plugins import EXTRAS
from facebatch.status import status
from facebatch.verify import verify
from tests.faults.world import PRESENT, World, a_world

HEIC = ("failed", "UNSUPPORTED_FORMAT")
BROKEN = ("failed", "CORRUPT")
AGAIN = ("run.retry=[UNSUPPORTED_FORMAT]",)


def build(world: World) -> World:
    """Ten photos in two commits: four of them HEIF, whose package is absent, and one that the decoder refuses."""
    world.add(a="face", b="heic", c="none", d="heic", e="broken")
    world.run()
    world.add(f="face", g="heic", h="none", i="heic", j="face")
    world.run()
    world.computed.clear()
    return world


@pytest.fixture
def indexed(world: World) -> World:
    return build(world)


def test_rows_of_the_reason_are_computed_again_and_all_others_stay(indexed: World) -> None:
    before, vectors = indexed.rows(), indexed.vectors()
    indexed.decoders.add("heic")
    summary = indexed.run(words=AGAIN)
    assert sorted(indexed.computed) == [f"{name}.jpg" for name in "bdgi"]
    assert indexed.rows() == {n: ("ok", None) if row == HEIC else row for n, row in before.items()}
    assert indexed.vectors().items() >= vectors.items()
    assert (summary.new_images, summary.planned) == (4, 10)
    assert "4 images are computed again (UNSUPPORTED_FORMAT 4); 2 of 2 commits are written anew" in indexed.remarks
    report = verify(indexed.dataset)
    assert (report.problems, report.images, report.faces, report.files) == ([], 10, 7, 6)


def test_the_dry_run_counts_what_would_be_computed_again(indexed: World) -> None:
    before = indexed.snapshot()
    settings = config.load(None, AGAIN, inputs=(str(indexed.photos),), output=str(indexed.root / "out"))
    rows = {what: (count, words) for what, count, words in dry_run(settings, Console(file=io.StringIO()))}
    assert rows["retried"] == ("4", "are computed again (UNSUPPORTED_FORMAT 4); not in the figures below")
    assert rows["new"][0] == "0"
    assert indexed.snapshot() == before


def test_several_reasons_are_released_at_once(indexed: World) -> None:
    indexed.decoders |= {"heic", "broken"}
    indexed.run(words=("run.retry=[UNSUPPORTED_FORMAT, CORRUPT]",))
    assert "5 images are computed again (CORRUPT 1, UNSUPPORTED_FORMAT 4)" in indexed.remarks
    assert {row[0] for row in indexed.rows().values()} == {"ok", "no_face"}
    assert verify(indexed.dataset).problems == []


def test_what_fails_again_is_a_row_again_and_may_be_retried_again(indexed: World) -> None:
    before = indexed.rows()
    for _ in range(2):
        indexed.run(words=AGAIN)
        assert indexed.rows() == before
    assert len(indexed.computed) == 8
    assert verify(indexed.dataset).problems == []
    assert ledger.state(indexed.dataset).totals()["absent/HEIF"] == 4


def test_what_now_fails_for_a_reason_outside_it_is_tried_again_by_the_next_run(indexed: World) -> None:
    indexed.decoders.add("heic")
    indexed.storage.denied = {"d.jpg"}
    with pytest.raises(FacebatchError, match=r"1 images failed for reasons outside them \(ACCESS_DENIED 1\)"):
        indexed.run(words=AGAIN)
    assert indexed.rows()["d.jpg"] == ("failed", "ACCESS_DENIED")
    indexed.storage.denied = set()
    indexed.run()
    assert sorted(indexed.computed) == [f"{name}.jpg" for name in "bdgi"]
    assert indexed.rows()["d.jpg"] == ("ok", None)
    assert verify(indexed.dataset).problems == []


def test_a_source_that_was_replaced_since_is_not_taken_for_the_one_that_was_planned(indexed: World) -> None:
    indexed.add(b="face of another photo")
    indexed.decoders.add("heic")
    indexed.run(words=AGAIN)
    assert indexed.rows()["b.jpg"] == ("failed", "SOURCE_CHANGED")
    assert indexed.rows()["d.jpg"] == ("ok", None)


def test_a_commit_that_is_released_whole_leaves_an_empty_one(world: World) -> None:
    world.add(a="heic", b="heic")
    world.run()
    world.decoders.add("heic")
    world.run(words=AGAIN)
    assert world.rows() == {"a.jpg": ("ok", None), "b.jpg": ("ok", None)}
    assert sorted(r.images.rows for r in ledger.state(world.dataset).records) == [0, 2]
    assert verify(world.dataset).problems == []
    world.computed.clear()
    world.run()
    assert world.computed == []


def test_nothing_to_retry_changes_nothing_and_is_said(indexed: World) -> None:
    tables = {name: data for name, data in indexed.snapshot().items() if name.endswith(".parquet")}
    indexed.run(words=("run.retry=[TRUNCATED]",))
    assert "there is nothing to retry: no image has ended with TRUNCATED" in indexed.remarks
    assert {name: data for name, data in indexed.snapshot().items() if name.endswith(".parquet")} == tables


def _tar(file: Path) -> None:
    with tarfile.open(file, "w") as tar:
        for name, content in (("a", b"face"), ("b", b"heic"), ("c", b"none"), ("d", b"heic")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_members_of_a_tar_are_retried_where_they_stand(world: World) -> None:
    _tar(world.photos / "0.tar")
    world.run()
    world.computed.clear()
    world.decoders.add("heic")
    world.run(words=AGAIN)
    assert world.computed == ["0.tar/b", "0.tar/d"]
    assert world.rows() == {f"0.tar/{n}": ("no_face" if n == "c" else "ok", None) for n in "abcd"}
    assert verify(world.dataset).problems == []


def test_of_a_tar_that_was_replaced_since_one_row_says_that_its_members_are_gone(world: World) -> None:
    _tar(world.photos / "0.tar")
    world.run()
    (world.photos / "0.tar").write_bytes(b"another")
    world.run(words=AGAIN)
    stay = {"0.tar/a": ("ok", None), "0.tar/c": ("no_face", None)}
    assert world.rows() == stay | {"0.tar": ("failed", "SOURCE_CHANGED")}
    assert verify(world.dataset).problems == []


def test_a_broken_tar_that_was_replaced_since_has_its_own_row_once(world: World) -> None:
    """The row that spoke of its damage was final and stays; a second one would have the same identity."""
    _tar(world.photos / "0.tar")
    with (world.photos / "0.tar").open("r+b") as file:
        file.truncate(2300)
    world.run()
    assert world.rows()["0.tar/b"] == ("failed", "UNSUPPORTED_FORMAT")
    _tar(world.photos / "0.tar")
    world.decoders.add("heic")
    world.run(words=AGAIN)
    assert world.rows() == {"0.tar/a": ("ok", None), "0.tar": ("failed", "BROKEN_CONTAINER")}
    assert verify(world.dataset).problems == []


def test_a_broken_tar_that_is_as_broken_as_before_has_the_same_rows(world: World) -> None:
    _tar(world.photos / "0.tar")
    with (world.photos / "0.tar").open("r+b") as file:
        file.truncate(1300)
    world.run()
    before = world.rows()
    assert before == {"0.tar/a": ("ok", None), "0.tar": ("failed", "BROKEN_CONTAINER")}
    world.computed.clear()
    assert world.run(words=("run.retry=[BROKEN_CONTAINER]",)).new_images == 1
    assert (world.rows(), world.computed) == (before, [])
    assert verify(world.dataset).problems == []


def test_rows_of_a_table_are_retried_where_they_stand(world: World) -> None:
    cells = [b"face", b"heic", b"none", b"heic"]
    pq.write_table(pa.table({"image": cells}), world.root / "rows.parquet", row_group_size=2)
    world.run(world.root / "rows.parquet")
    world.computed.clear()
    world.decoders.add("heic")
    world.run(world.root / "rows.parquet", words=AGAIN)
    assert [name.rpartition("/")[2] for name in world.computed] == ["1", "3"]
    assert sorted(status for status, _ in world.rows().values()) == ["no_face", "ok", "ok", "ok"]
    assert verify(world.dataset).problems == []


def test_rows_are_not_carried_over_from_a_file_that_was_damaged(indexed: World) -> None:
    file = sorted((indexed.root / "out" / "images").glob("*.parquet"))[0]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(FacebatchError, match=r"is not the file that was committed .*run `facebatch verify"):
        indexed.run(words=AGAIN)
    assert "is damaged" in verify(indexed.dataset).problems[0]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("UNSUPORTED_FORMAT", "it is no reason"),
        ("ok", "it is no reason"),
        ("failed", "it is no reason"),
        ("ACCESS_DENIED", "every run tries it again by itself"),
        ("SOURCE_CHANGED", "the plan holds the version that was listed"),
    ],
)
def test_a_reason_that_cannot_be_retried_is_refused_before_anything_is_written(
    indexed: World, word: str, why: str
) -> None:
    before = indexed.snapshot()
    with pytest.raises(UsageError, match=rf"'{word}' cannot be retried: {why}.*What can is NOT_AN_IMAGE, .*CORRUPT"):
        indexed.run(words=(f"run.retry=[CORRUPT, {word}]",))
    assert indexed.snapshot() == before


def test_a_package_that_was_installed_since_is_named_with_the_command(
    indexed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "retry" not in [what for what, _, _ in status(indexed.dataset)]
    monkeypatch.setitem(EXTRAS, "HEIF", PRESENT)
    _, count, words = next(row for row in status(indexed.dataset) if row[0] == "retry")
    assert (count, words) == (
        "4",
        "HEIF 4 failed when the package for them was absent, which is installed now: facebatch index --input "
        f"{indexed.photos} --output {indexed.root / 'out'} --retry UNSUPPORTED_FORMAT",
    )
    indexed.run()
    assert "4 images failed when the package for them was absent, which is installed now (HEIF 4)" in indexed.remarks
    indexed.decoders.add("heic")
    indexed.run(words=AGAIN)
    assert "retry" not in [what for what, _, _ in status(indexed.dataset)]


def _writes_of_a_retry(world: World) -> int:
    world.storage.writes = 0
    world.run(words=AGAIN)
    return world.storage.writes


@pytest.fixture
def deaths(tmp_path: Path) -> Iterator[int]:
    """How many writes a whole retry makes, each of which may be the last of a run."""
    (tmp_path / "whole").mkdir()
    with a_world(tmp_path / "whole") as world:
        build(world).decoders.add("heic")
        yield _writes_of_a_retry(world)


def test_a_kill_at_any_write_and_one_more_run_give_the_same_dataset(deaths: int, tmp_path: Path) -> None:
    """What stays counts at every moment; what is released counts once or not at all; and then all is there once."""
    assert deaths == 20, "taking, settling, two records replaced and swept, one commit, the end"
    for last in range(deaths):
        root = tmp_path / str(last)
        root.mkdir()
        with a_world(root) as world:
            before = build(world).rows()
            staying = {name for name, row in before.items() if row != HEIC}
            world.decoders.add("heic")
            assert world.killed_run(last, words=AGAIN), last
            now = world.counted()
            assert len(set(now)) == len(now), last
            assert staying <= set(now), last
            world.run(words=AGAIN)
            assert world.rows() == {n: ("ok", None) if row == HEIC else row for n, row in before.items()}, last
            assert verify(world.dataset).problems == [], last
            assert not staying & set(world.computed), last
            assert len(world.vectors()) == 7, last


def test_two_kills_in_a_row_are_as_good_as_one(deaths: int, tmp_path: Path) -> None:
    for first in range(3, 2 * deaths, 5):
        root = tmp_path / str(first)
        root.mkdir()
        with a_world(root) as world:
            world.bundle = 1  # so that some commits are released whole
            before = build(world).rows()
            world.decoders.add("heic")
            world.killed_run(first, words=AGAIN)
            world.killed_run(first // 2, words=AGAIN)
            world.run(words=AGAIN)
            assert world.rows() == {n: ("ok", None) if row == HEIC else row for n, row in before.items()}, first
            assert verify(world.dataset).problems == [], first


def test_what_a_killed_run_has_released_is_computed_by_a_run_that_retries_nothing(world: World) -> None:
    """Here every image is a commit of its own, so that all that is released is released by one record."""
    world.bundle = 1
    before, snapshot = build(world).rows(), world.snapshot()
    again = {name for name, row in before.items() if row == HEIC}
    world.decoders.add("heic")
    kills = 0
    while world.killed_run(kills, words=AGAIN):
        world.run()
        rows = world.rows()
        assert {n: row for n, row in rows.items() if n not in again} == {n: before[n] for n in before.keys() - again}
        assert {rows[name] for name in again} in ({HEIC}, {("ok", None)}), kills
        assert verify(world.dataset).problems == [], kills
        world.restore(snapshot)
        kills += 1
    assert kills > 25
