"""`facebatch bench` on the command line: on what it measures. (What it measures is in tests/bench and tests/e2e.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facebatch import session
from facebatch.bench import contest
from facebatch.bench.contest import Contestant, Lap, Standing, Told
from facebatch.cli import main
from facebatch.cli.bench import _gpus
from facebatch.errors import FacebatchError, UsageError
from tests.conftest import Tool

ONE = "echo '0, GPU-1, NVIDIA H200, 143771, 0'"


@pytest.fixture
def built_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "providers", lambda: ["cpu", "cuda"])


@pytest.mark.usefixtures("built_for_cuda")
def test_it_measures_on_the_gpus_that_there_are_unless_told_otherwise(nvidia_smi: Tool) -> None:
    nvidia_smi(ONE)
    assert _gpus("auto", print) == _gpus("cuda", print) == ["NVIDIA H200"]
    assert _gpus("cpu", print) == []


@pytest.mark.usefixtures("built_for_cuda")
def test_on_a_machine_without_gpus_it_measures_on_the_cpu_but_not_when_told_to_use_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert _gpus("auto", print) == []
    with pytest.raises(UsageError, match="run.provider=cuda, but nvidia-smi tells of no GPU"):
        _gpus("cuda", print)


@pytest.mark.usefixtures("built_for_cuda")
def test_where_the_driver_does_not_answer_it_says_so_and_measures_on_the_cpu(nvidia_smi: Tool) -> None:
    nvidia_smi("echo 'no driver'; exit 9")
    said: list[str] = []
    assert _gpus("auto", said.append) == []
    assert said == ["measured on the CPU: nvidia-smi does not tell of the GPUs: no driver"]
    with pytest.raises(FacebatchError, match="no driver"):
        _gpus("cuda", said.append)


def test_where_the_runtime_cannot_use_gpus_nobody_asks_for_them(
    nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = nvidia_smi(ONE)
    monkeypatch.setattr(session, "providers", lambda: ["cpu"])
    assert _gpus("auto", print) == []
    assert not asked.exists()
    with pytest.raises(UsageError, match="this ONNX Runtime has only cpu"):
        _gpus("cuda", print)


@pytest.mark.usefixtures("built_for_cuda")
@pytest.mark.parametrize(
    ("words", "provider", "gpus"), [([], "cuda", ["NVIDIA H200"]), (["run.provider=cpu"], "cpu", [])]
)
def test_all_contestants_are_told_where_to_run_and_the_figures_say_where_that_was(
    nvidia_smi: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], provider: str, gpus: list[str]
) -> None:
    nvidia_smi(ONE)
    given: dict[str, Any] = {}

    def stands_in(contestants: list[Contestant], rounds: int, say: object, on_gpus: bool) -> list[Standing]:
        given.update(on_gpus=on_gpus, words=[one.command(tmp_path) for one in contestants])
        lap = Lap(Told(6, 8, 1.0), 2.0, 1.0, 1, 1, 0.5 if on_gpus else None)
        return [Standing(one.name, (lap,)) for one in contestants]

    monkeypatch.setattr(contest, "contest", stands_in)
    assert main(["bench", "--images", "6", "--output", str(tmp_path / "out"), *words]) == 0
    assert given["on_gpus"] == bool(gpus)
    assert len(given["words"]) == 2
    assert all(f"run.provider={provider}" in " ".join(command) for command in given["words"])
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["hardware"]["gpus"] == gpus
