"""Who takes part, and who cannot."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from facebatch import config
from facebatch.bench.archive import Archive, Photo
from facebatch.bench.rivals import ours, rival
from facebatch.errors import UsageError

ARCHIVE = Archive(Path("/archive"), 10, (Photo(Path("b"), 500, 2_000_000),))
BUILT_IN = config.Config()


def test_facebatch_and_its_floor_get_the_same_archive_and_settings() -> None:
    floor, facebatch = ours(ARCHIVE, ["embed.batch=8"])
    assert (floor.name, facebatch.name) == ("floor", "facebatch")
    assert json.loads(floor.command(Path("/out"))[-1]) == {"folder": "/archive", "settings": ["embed.batch=8"]}
    words = facebatch.command(Path("/out"))
    assert words[2:] == ["facebatch", "index", "--input", "/archive", "--output", "/out", "embed.batch=8"]


def test_an_unknown_rival_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="no rival 'deepface'; there are insightface, ray-data"):
        rival("deepface", ARCHIVE, [], BUILT_IN)


def test_insightface_must_be_installed_and_runs_only_its_own_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="insightface is not installed: pip install --no-deps insightface"):
        rival("insightface", ARCHIVE, [], BUILT_IN)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="runs SCRFD detectors, and facebatch-detector is none: add detect.pack="):
        rival("insightface", ARCHIVE, [], BUILT_IN)


def test_the_obvious_script_is_no_rival_on_a_gpu() -> None:
    with pytest.raises(UsageError, match="no way to use a GPU: add run.provider=cpu"):
        rival("ray-data", ARCHIVE, [], config.load(None, ["run.provider=cuda"]))


def test_the_obvious_script_gets_the_settings_as_words() -> None:
    contestant = rival("ray-data", ARCHIVE, ["embed.batch=8"], BUILT_IN)
    assert contestant.command(Path("/out"))[1:] == [
        "-m", "facebatch.pipeline.obvious", "/archive", "/out", "embed.batch=8",
    ]  # fmt: skip
