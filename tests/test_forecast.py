"""How long a run will take, from a sample."""

from __future__ import annotations

import io
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facebatch import config, forecast
from facebatch.errors import FacebatchError
from facebatch.forecast import Reservoir, Sample
from facebatch.networks import Networks
from facebatch.packs import Model
from facebatch.sources import Kind, Source
from facebatch.sources.inputs import expand
from facebatch.stages import Place
from facebatch.stopwatch import Stopwatch
from facebatch.storage import Object, Storage
from facebatch.work import Work


def test_each_source_of_a_stream_has_the_same_chance() -> None:
    kept: Counter[str] = Counter()
    for run in range(300):
        reservoir = Reservoir(5)
        stream = [Source(Kind.FILES, Object(f"{(k + run) % 50}", 1)) for k in range(50)]
        assert list(reservoir.passing(stream)) == stream, "the stream itself is left as it is"
        assert len({s.key for s in reservoir.sources}) == 5
        kept.update(s.key for s in reservoir.sources)
    assert len(kept) == 50
    assert max(kept.values()) < 70, "30 are expected"


def test_a_short_stream_is_kept_whole() -> None:
    reservoir = Reservoir(5)
    stream = [Source(Kind.FILES, Object(f"{k}", 1)) for k in range(3)]
    list(reservoir.passing(stream))
    assert reservoir.sources == stream


def test_the_rate_is_that_of_one_core() -> None:
    assert Sample(images=20, bytes=10, faces=3, seconds=0.5).rate == 40


@pytest.mark.needs_models
def test_a_sample_is_read_and_goes_through_the_stages(
    tmp_path: Path, astronaut: bytes, hopper: bytes, model: Callable[[str, str], Model]
) -> None:
    (tmp_path / "a.png").write_bytes(astronaut)
    (tmp_path / "b.txt").write_text("no picture")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for k in range(9):
            info = tarfile.TarInfo(f"{k}.jpg")
            info.size = len(hopper)
            tar.addfile(info, io.BytesIO(hopper))
    settings = config.Config(inputs=(str(tmp_path),), output="/nowhere")
    chosen = Networks(model("yunet-n", "detector"), model("edgeface-xs", "embedder"))
    sources = list(expand(Storage(), settings))
    sample = forecast.measure(settings, chosen, Storage(), sources)
    assert (sample.images, sample.faces) == (2 + 4, 5), "of a container a few"
    assert sample.bytes == len(astronaut) + 10 + 4 * len(hopper)
    assert 0 < sample.seconds < 60
    few = forecast.measure(settings, chosen, Storage(), sources, most=9)
    assert few.images == 5, "a text, a photo, and three of the nine that the tar holds: about as many of each source"
    assert set(few.spent) == {"decode", "detect", "chip", "embed"}
    with pytest.raises(FacebatchError, match="no image of the sample can be read"):
        forecast.measure(settings, chosen, Storage(), [])


@pytest.mark.parametrize(("provider", "waited"), [("cpu", 0.0), ("cuda", 1.0)])
def test_a_core_that_is_shared_does_not_make_images_dear(
    tmp_path: Path, hopper: bytes, monkeypatch: pytest.MonkeyPatch, provider: str, waited: float
) -> None:
    """A sample is taken while a run starts its processes. Beside a GPU a worker waits for that, which is the work."""

    class Waiting:
        def __init__(self, config: object, networks: object, place: object, watch: Stopwatch) -> None:
            self._watch = watch

        def __call__(self, works: list[Work]) -> list[Work]:
            with self._watch.timing("decode"):
                time.sleep(0.05)
            return works

    monkeypatch.setattr(forecast, "FusedStage", Waiting)
    for k in range(8):
        (tmp_path / f"{k}.jpg").write_bytes(hopper)
    settings = config.Config(inputs=(str(tmp_path),), output="/nowhere")
    sources = list(expand(Storage(), settings))
    sample = forecast.measure(settings, None, Storage(), sources, Place(provider))  # type: ignore[arg-type]
    assert sample.seconds == pytest.approx(2 * 0.05 * waited, rel=0.5, abs=0.05)
    assert sample.spent["decode"] == pytest.approx(sample.seconds, rel=0.2, abs=0.01)


def test_what_was_slow_at_first_is_looked_at_twice(
    tmp_path: Path, hopper: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless that would keep the run waiting."""
    seen: list[int] = []

    class Waking:
        def __init__(self, config: object, networks: object, place: object, watch: Stopwatch) -> None:
            self._watch = watch

        def __call__(self, works: list[Work]) -> list[Work]:
            assert all(work.data for work in works), "each look has works of its own"
            seen.append(len(works))
            with self._watch.timing("decode"):
                time.sleep(0.02 if len(seen) > 3 else 0.2)
            for work in works:
                work.data = None
            return works

    monkeypatch.setattr(forecast, "FusedStage", Waking)
    for k in range(8):
        (tmp_path / f"{k}.jpg").write_bytes(hopper)
    settings = config.Config(inputs=(str(tmp_path),), output="/nowhere")
    asked: Any = settings, None, Storage(), list(expand(Storage(), settings)), Place("cuda"), 8
    sample = forecast.measure(*asked)
    assert (seen, sample.images) == ([1, 4, 4, 4, 4], 8)
    assert sample.seconds == pytest.approx(0.04, rel=0.5)
    assert sample.spent["decode"] == pytest.approx(sample.seconds, rel=0.2)
    monkeypatch.setattr(forecast, "_SECONDS", 0.3)
    seen.clear()
    assert forecast.measure(*asked).seconds == pytest.approx(0.4, rel=0.3)
    assert seen == [1, 4, 4]
