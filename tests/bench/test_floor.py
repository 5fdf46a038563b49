"""The floor does the work of facebatch, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from facebatch import config, demo, networks
from facebatch.bench import floor
from facebatch.bench.archive import Archive, lay, photos
from facebatch.geometry import Floats, Picture, Pixels
from facebatch.session import Session
from facebatch.stages import FusedStage, Place
from facebatch.work import Work


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("bench")
    demo.write(demo.archive(), folder / "demo")
    return lay(folder / "archive", photos(folder / "demo"), 20)


def test_it_finds_the_faces_that_facebatch_finds(archive: Archive) -> None:
    settings = config.Config()
    chosen = networks.load(settings)
    bare = floor.Bare(settings, chosen)
    found = list(bare.chips(archive.files()))
    works = [Work("shard", k, str(path), "", 0, data=path.read_bytes()) for k, path in enumerate(archive.files())]
    done = FusedStage(settings, chosen, Place())(works)
    assert [len(chips) for chips in found] == [len(work.faces) for work in done]
    assert sum(map(len, found)) > 0
    assert bare.embed([chip for chips in found for chip in chips]) == sum(map(len, found))


@pytest.mark.usefixtures("gpu_path")
def test_on_a_gpu_it_gives_the_detector_as_many_at_once_as_facebatch_does(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.load(None, ["detect.tiles=false", "detect.close_up=false"])
    chosen = networks.load(settings)
    batches: dict[str, list[int]] = {"cpu": [], "cuda": []}
    real = Session.run

    def seen(session: Session, images: Sequence[Pixels]) -> dict[str, Floats]:
        if session.model is chosen.detector:
            batches[session.provider].append(len(images))
        return real(session, images)

    monkeypatch.setattr(Session, "run", seen)
    here, there = (floor.Bare(settings, chosen, provider=provider) for provider in ("cpu", "cuda"))
    found = [list(map(len, bare.chips(archive.files()))) for bare in (here, there)]
    assert found[0] == found[1]
    assert set(batches["cpu"]) == {1}
    assert max(batches["cuda"]) > 1
    assert sum(batches["cuda"]) == sum(batches["cpu"])


@pytest.mark.usefixtures("gpu_path")
def test_its_networks_are_bound_to_a_gpus_memory_where_facebatchs_are(archive: Archive) -> None:
    chosen = networks.load(config.load(None, []))
    for word, bound in (("false", False), ("true", True)):
        bare = floor.Bare(config.load(None, [f"run.io_binding={word}"]), chosen, provider="cuda")
        sessions = [value for part in (bare._detect, bare._embed) for value in vars(part).values()]
        assert [bool(each._bound) for each in sessions if isinstance(each, Session)] == [bound, bound]


def test_it_holds_no_more_pixels_at_once_than_a_run_does(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config.load(None, ["detect.batch=8", "run.megapixels=1"])
    bare = floor.Bare(settings, networks.load(settings))
    held: list[int] = []
    real = bare._found

    def seen(pictures: list[Picture]) -> list[list[Pixels]]:
        held.append(sum(picture.levels[0].size // 3 for picture in pictures[:-1]))
        return real(pictures)

    monkeypatch.setattr(bare, "_found", seen)
    assert len(list(bare.chips(archive.files()))) == 20
    assert len(held) > 3
    assert max(held) < 1_000_000, "the last one of a group ends it"


def test_its_processes_share_the_files_among_them(archive: Archive) -> None:
    began, done = floor.run(config.Config(), archive.files(), 2)
    assert sum(one.images for one in done) == 20
    assert all(one.ended >= began for one in done)
    assert {part for one in done for part in one.spent} >= {"read_us", "decode_us", "detect_us", "chip_us"}
