"""`facebatch bench` on the command line: on what it measures. (What it measures is in tests/bench and tests/e2e.)"""

from __future__ import annotations

import pytest

from facebatch import session
from facebatch.cli.bench import _gpus
from facebatch.errors import UsageError
from tests.conftest import Tool

ONE = "echo 'NVIDIA H200, 143771, 0'"


@pytest.fixture
def built_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "providers", lambda: ["cpu", "cuda"])


@pytest.mark.usefixtures("built_for_cuda")
def test_it_measures_on_the_gpus_that_there_are_unless_told_otherwise(nvidia_smi: Tool) -> None:
    nvidia_smi(ONE)
    assert _gpus("auto") == _gpus("cuda") == ["NVIDIA H200"]
    assert _gpus("cpu") == []


@pytest.mark.usefixtures("built_for_cuda")
def test_on_a_machine_without_gpus_it_measures_on_the_cpu_but_not_when_told_to_use_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert _gpus("auto") == []
    with pytest.raises(UsageError, match="run.provider=cuda, but this machine has no GPU"):
        _gpus("cuda")


def test_where_the_runtime_cannot_use_gpus_nobody_asks_for_them(
    nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = nvidia_smi(ONE)
    monkeypatch.setattr(session, "providers", lambda: ["cpu"])
    assert _gpus("auto") == []
    assert not asked.exists()
    with pytest.raises(UsageError, match="this ONNX Runtime has only cpu"):
        _gpus("cuda")
