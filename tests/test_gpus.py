"""What the driver's tool says of the GPUs, here from a tool that stands in for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from facebatch import gpus
from facebatch.errors import FacebatchError
from facebatch.gpus import Gpu
from tests.conftest import Tool


def test_each_has_a_name_its_memory_and_how_busy_it_is(nvidia_smi: Tool) -> None:
    asked = nvidia_smi("echo 'NVIDIA H200, 143771, 87'; echo 'NVIDIA A10G, 23028, [N/A]'")
    assert gpus.visible() == [Gpu("NVIDIA H200", 143771 << 20, 0.87), Gpu("NVIDIA A10G", 23028 << 20, None)]
    assert asked.read_text() == "--query-gpu=name,memory.total,utilization.gpu --format=csv,noheader,nounits\n"


def test_only_those_that_the_process_may_see_are_asked_for(nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = nvidia_smi("echo 'NVIDIA H200, 143771, 0'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5a")
    assert gpus.visible() == [Gpu("NVIDIA H200", 143771 << 20, 0)]
    assert asked.read_text().endswith(" --id=2,GPU-5a\n")


@pytest.mark.parametrize("nothing", ["", "-1"])
def test_a_process_from_which_they_are_hidden_sees_none(
    nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch, nothing: str
) -> None:
    asked = nvidia_smi("echo 'NVIDIA H200, 143771, 0'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
    assert gpus.visible() == []
    assert not asked.exists()


def test_a_machine_without_a_driver_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible() == []


def test_a_driver_that_does_not_answer_is_an_error_and_so_is_an_answer_to_something_else(nvidia_smi: Tool) -> None:
    nvidia_smi("echo 'NVIDIA-SMI has failed because it could not communicate with the driver.'; exit 9")
    with pytest.raises(FacebatchError, match="nvidia-smi does not tell of the GPUs: NVIDIA-SMI has failed because"):
        gpus.visible()
    nvidia_smi("exit 9")
    with pytest.raises(FacebatchError, match="does not tell of the GPUs: .*exit status 9"):
        gpus.visible()
    nvidia_smi("echo 'NVIDIA H200, a lot, 3'")
    with pytest.raises(FacebatchError, match="answers 'NVIDIA H200, a lot, 3.*not name, memory.total"):
        gpus.visible()
