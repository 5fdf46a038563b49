"""A dataset lives for years, and the world around it changes: archives, inputs, models, settings, storage."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from pathlib import Path

import pytest
from rich.console import Console

from facebatch import config, ledger
from facebatch.contract import facts_of
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError, UsageError
from facebatch.pipeline import index as pipeline
from facebatch.storage import Storage
from facebatch.verify import verify
from tests.faults.world import World

OK, NO_FACE, CHANGED = ("ok", None), ("no_face", None), ("failed", "SOURCE_CHANGED")
NOT_FOUND, DENIED = ("failed", "NOT_FOUND"), ("failed", "ACCESS_DENIED")
OUTSIDE = "images failed for reasons outside them"


def _tables(world: World) -> dict[str, bytes]:
    return {name: data for name, data in world.snapshot().items() if name.endswith(".parquet")}


def _tar(file: Path, **members: str) -> None:
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))


# A source is replaced.


def test_a_source_that_was_replaced_before_it_was_read_has_a_row_that_says_so(world: World) -> None:
    world.add(a="face", b="face")
    world.before_reading = lambda: world.add(b="face of somebody else")
    world.run()
    assert world.rows() == {"a.jpg": OK, "b.jpg": CHANGED}
    assert "4 bytes" in world.table("images").filter([False, True])["detail"][0].as_py()
    assert verify(world.dataset).problems == []


def test_a_tar_that_was_replaced_before_it_was_read_has_a_row_that_says_so(world: World) -> None:
    _tar(world.photos / "0.tar", a="face", b="face")
    world.before_reading = lambda: _tar(world.photos / "0.tar", a="face", b="none", c="face" * 1000)
    world.run()
    assert world.rows() == {"0.tar": CHANGED}
    assert verify(world.dataset).problems == []


def test_a_source_that_is_replaced_after_it_was_indexed_keeps_its_row_and_every_run_names_it(world: World) -> None:
    world.add(a="face", b="face")
    _tar(world.photos / "0.tar", a="face")
    world.run()
    before = _tables(world)
    world.computed.clear()
    world.add(b="none any more")
    _tar(world.photos / "0.tar", a="face", b="face")
    for _ in range(2):
        world.run()
        assert "2 objects changed since they were planned; their rows stay as is: " in world.remarks
        assert f"{world.photos}/b.jpg" in world.remarks
        assert f"{world.photos}/0.tar" in world.remarks
    assert (world.computed, _tables(world)) == ([], before)
    assert verify(world.dataset).problems == []


# A source is removed.


def test_a_source_that_was_removed_before_it_was_read_is_looked_for_by_every_run(world: World) -> None:
    world.add(a="face", b="face")
    kept = (world.photos / "b.jpg").rename(world.root / "b.jpg")
    world.add(b="face")
    os.utime(world.photos / "b.jpg", ns=(0, kept.stat().st_mtime_ns))
    world.before_reading = (world.photos / "b.jpg").unlink
    with pytest.raises(FacebatchError, match=rf"1 {OUTSIDE} \(NOT_FOUND 1\)"):
        world.run()
    world.before_reading = lambda: None
    assert world.rows() == {"a.jpg": OK, "b.jpg": NOT_FOUND}
    with pytest.raises(FacebatchError, match=OUTSIDE):
        world.run()
    assert world.rows() == {"a.jpg": OK, "b.jpg": NOT_FOUND}
    assert verify(world.dataset).problems == []
    kept.rename(world.photos / "b.jpg")
    world.run()
    assert world.rows() == {"a.jpg": OK, "b.jpg": OK}
    assert verify(world.dataset).problems == []


def test_a_source_that_comes_back_as_another_ends_for_good(world: World) -> None:
    world.add(a="face", b="face")
    world.before_reading = (world.photos / "b.jpg").unlink
    with pytest.raises(FacebatchError, match=OUTSIDE):
        world.run()
    world.before_reading = lambda: None
    world.add(b="face of somebody else")
    world.run()
    assert world.rows() == {"a.jpg": OK, "b.jpg": CHANGED}
    world.storage.read_uris.clear()
    world.run()
    assert world.storage.read_uris == []


def test_a_source_that_is_removed_after_it_was_indexed_keeps_its_row(world: World) -> None:
    world.add(a="face", b="none")
    world.run()
    before = _tables(world)
    (world.photos / "b.jpg").unlink()
    summary = world.run()
    assert (summary.new_images, summary.planned) == (0, 2)
    assert _tables(world) == before
    assert world.rows() == {"a.jpg": OK, "b.jpg": NO_FACE}


def test_an_archive_that_is_gone_is_refused_and_its_index_stays(world: World) -> None:
    world.add(a="face")
    world.run()
    before = world.snapshot()
    world.photos.rename(world.root / "elsewhere")
    with pytest.raises(UsageError, match="names nothing"):
        world.run()
    assert world.snapshot() == before
    assert verify(world.dataset).problems == []


# Sources are added.


def test_of_an_archive_that_grew_only_what_is_new_is_read_and_computed(world: World) -> None:
    world.add(**{f"old{i}": "face" for i in range(20)})
    _tar(world.photos / "old.tar", a="face", b="none")
    world.run()
    before = _tables(world)
    world.computed.clear()
    world.storage.read_uris.clear()
    world.add(new1="face", new2="none")
    _tar(world.photos / "new.tar", a="face")
    assert world.run().new_images == 3
    assert sorted(world.computed) == ["new.tar/a", "new1.jpg", "new2.jpg"]
    assert sorted(world.storage.read_uris) == ["new.tar", "new1.jpg", "new2.jpg"]
    assert _tables(world).items() >= before.items()
    assert len(world.rows()) == 25
    assert verify(world.dataset).problems == []


def test_of_a_manifest_that_grew_only_the_new_lines_are_read(world: World) -> None:
    world.add(a="face", b="face", c="none")
    manifest = world.root / "list.csv"

    def listed(*names: str) -> None:
        with manifest.open("w", newline="") as file:
            csv.writer(file).writerows([["uri"], *([str(world.photos / name)] for name in names)])

    listed("a.jpg")
    world.run(manifest)
    world.computed.clear()
    world.storage.read_uris.clear()
    listed("c.jpg", "b.jpg", "a.jpg")
    assert world.run(manifest).new_images == 2
    assert sorted(world.computed) == sorted(world.storage.read_uris) == ["b.jpg", "c.jpg"]


# The same sources are named in another way.


def test_inputs_in_another_order_a_part_of_them_and_overlapping_ones_name_nothing_new(world: World) -> None:
    folders = [world.photos / name for name in "xyz"]
    for folder in folders:
        folder.mkdir()
        (folder / "a.jpg").write_text("face")
        (folder / "b.jpg").write_text("none")
    x, y, z = folders
    world.run(x, y, z)
    before = _tables(world)
    world.computed.clear()
    world.storage.read_uris.clear()
    for inputs in ([z, y, x], [y], [x, x / "a.jpg", world.photos], [world.photos / "*" / "b.jpg"]):
        assert world.run(*inputs).planned == 6
        assert "nothing to do: all 6 images are indexed already" in world.remarks
    assert (world.computed, world.storage.read_uris, _tables(world)) == ([], [], before)


def test_a_run_over_other_inputs_finishes_what_was_planned_before(world: World) -> None:
    world.add(a="face", b="face")
    more = world.root / "more"
    more.mkdir()
    (more / "c.jpg").write_text("none")
    world.storage.denied = {"a.jpg", "b.jpg"}
    with pytest.raises(FacebatchError, match=rf"2 {OUTSIDE}"):
        world.run()
    world.storage.denied = set()
    assert world.run(more).planned == 3
    assert world.rows() == {"a.jpg": OK, "b.jpg": OK, f"{more}/c.jpg": NO_FACE}


# Another model, another threshold.


@pytest.mark.needs_models
@pytest.mark.parametrize(
    ("words", "difference"),
    [
        (["detect.score=0.9"], r"detector\.score was 0\.8 and is now 0\.9"),
        (["decode.truncated=accept"], r"decode\.truncated was fail and is now accept"),
        (
            ["embed.pack=w600k-mbf"],
            "made with embed.pack=facebatch-embedder, and this run has embed.pack=w600k-mbf. Say ",
        ),
        (
            ["detect.pack=slim-320"],
            "made with detect.pack=facebatch-detector, and this run has .*slim-320. Say detect.pack=",
        ),
    ],
)
def test_another_model_or_threshold_is_refused_with_what_differs(
    tmp_path: Path, words: list[str], difference: str
) -> None:
    """The real models and the real contract; it is refused before Ray starts."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    output, silent = tmp_path / "out", Console(file=io.StringIO())

    def settings(*words: str) -> config.Config:
        return config.load(None, words, inputs=(str(tmp_path / "a.jpg"),), output=str(output))

    facts = facts_of(settings(), pipeline._networks(settings(), silent))
    Dataset.at(Storage(), str(output)).open(facts)
    before = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}
    with pytest.raises(UsageError, match=f"made under another contract.*{difference}.*, or write to a new output"):
        pipeline.index(settings(*words), silent)
    assert {file: file.read_bytes() for file in output.rglob("*") if file.is_file()} == before


def test_another_contract_leaves_a_finished_dataset_as_it_is(world: World) -> None:
    world.add(a="face", b="none")
    world.run()
    before = world.snapshot()
    world.add(c="face")
    world.facts = {**world.facts, "contract": {"detector": {"score": 0.9}}, "contract_id": "c2"}
    with pytest.raises(UsageError, match=r"detector was None and is now .*Take the old settings back"):
        world.run()
    assert world.snapshot() == before


# The storage fails, and recovers.

SMALL = ("shards.files=2",)


def test_all_that_failed_for_outside_reasons_is_counted_in_however_many_commits(world: World) -> None:
    world.add(a="face", b="face", c="face")
    world.bundle = 1
    world.storage.denied = {"a.jpg", "b.jpg", "c.jpg"}
    with pytest.raises(FacebatchError, match=rf"3 {OUTSIDE} \(ACCESS_DENIED 3\)"):
        world.run()


def test_rows_that_failed_for_outside_reasons_become_others_one_by_one(world: World) -> None:
    """One record holds rows of three shards. Of its rows one is read in the next run, one has been replaced meanwhile,
    one fails again, in another way."""
    world.add(a="face", b="face", c="face", d="face", e="face", f="face")
    world.storage.denied = {"a.jpg", "c.jpg", "e.jpg"}
    with pytest.raises(FacebatchError, match=rf"3 {OUTSIDE} \(ACCESS_DENIED 3\)"):
        world.run(words=SMALL)
    (held,) = (record for record in ledger.state(world.dataset).records if record.retryable)
    assert len(held.ranges) == 3
    world.computed.clear()
    world.storage.denied = set()
    world.add(c="face of somebody else")
    (world.photos / "e.jpg").rename(world.root / "e.jpg")
    with pytest.raises(FacebatchError, match=rf"1 {OUTSIDE} \(NOT_FOUND 1\)"):
        world.run(words=SMALL)
    assert world.computed == ["a.jpg"]
    rows = {"a.jpg": OK, "b.jpg": OK, "c.jpg": CHANGED, "d.jpg": OK, "e.jpg": NOT_FOUND, "f.jpg": OK}
    assert world.rows() == rows
    assert verify(world.dataset).problems == []
    (world.root / "e.jpg").rename(world.photos / "e.jpg")
    world.run(words=SMALL)
    assert world.computed == ["a.jpg", "e.jpg"]
    assert world.rows() == rows | {"e.jpg": OK}
    assert verify(world.dataset).problems == []


def test_of_rows_to_retry_in_one_record_some_are_done_and_the_run_is_killed(world: World) -> None:
    """The record is void as soon as one of its rows has another one; the rest is missing until the next run."""
    world.add(a="face", b="face", c="face", d="face")
    world.storage.denied = {"a.jpg", "c.jpg"}
    with pytest.raises(FacebatchError, match=OUTSIDE):
        world.run(words=SMALL)
    world.storage.denied = {"c.jpg"}
    before, computed = world.snapshot(), list(world.computed)
    writes = 0
    while world.killed_run(writes, words=SMALL):
        now = world.counted()
        assert len(set(now)) == len(now), writes
        assert {"b.jpg", "d.jpg"} <= set(now), writes
        world.storage.denied = set()
        world.run(words=SMALL)
        assert world.rows() == dict.fromkeys(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], OK), writes
        assert verify(world.dataset).problems == [], writes
        assert not {"b.jpg", "d.jpg"} & set(world.computed[len(computed) :]), writes
        world.restore(before)
        world.storage.denied = {"c.jpg"}
        writes += 1
    assert writes > 10
