"""The floor does the work of facebatch, and nothing else."""

from __future__ import annotations

import pytest

from facebatch import config, demo, networks
from facebatch.bench import floor
from facebatch.bench.archive import Archive, lay, photos
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
    found = [chips for path in archive.files() for chips in bare.chips([path])]
    works = [Work("shard", k, str(path), "", 0, data=path.read_bytes()) for k, path in enumerate(archive.files())]
    done = FusedStage(settings, chosen, Place())(works)
    assert [len(chips) for chips in found] == [len(work.faces) for work in done]
    assert sum(map(len, found)) > 0
    assert bare.embed([chip for chips in found for chip in chips]) == sum(map(len, found))


@pytest.mark.usefixtures("gpu_path")
def test_on_a_gpu_it_gives_the_detector_a_batch_at_once_as_facebatch_does(archive: Archive) -> None:
    settings = config.Config()
    chosen = networks.load(settings)
    here, there = floor.Bare(settings, chosen), floor.Bare(settings, chosen, provider="cuda")
    assert (here.at_once, there.at_once) == (1, 32)
    together = there.chips(archive.files())
    alone = [chips for path in archive.files() for chips in here.chips([path])]
    assert [len(chips) for chips in together] == [len(chips) for chips in alone]
    assert there.embed([chip for chips in together for chip in chips]) == sum(map(len, alone))


def test_its_processes_share_the_files_among_them(archive: Archive) -> None:
    began, done = floor.run(config.Config(), archive.files(), 2)
    assert sum(one.images for one in done) == 20
    assert all(one.ended >= began for one in done)
    assert {part for one in done for part in one.spent} >= {"read_us", "decode_us", "detect_us", "chip_us"}
