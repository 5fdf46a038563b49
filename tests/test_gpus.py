"""What the driver's tool says of the GPUs, here from a tool that stands in for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from facebatch import gpus
from facebatch.errors import FacebatchError
from facebatch.gpus import Gpu
from tests.conftest import Tool

TWO = "echo '0, GPU-5a1b, NVIDIA H200, 143771, 87'; echo '1, GPU-77, NVIDIA A10G, 23028, [N/A]'"
H200 = Gpu("GPU-5a1b", "NVIDIA H200", 143771 << 20, 0.87)
A10G = Gpu("GPU-77", "NVIDIA A10G", 23028 << 20, None)


def test_each_has_a_name_its_memory_and_how_busy_it_is(nvidia_smi: Tool) -> None:
    asked = nvidia_smi(TWO)
    assert gpus.visible() == [H200, A10G]
    assert asked.read_text() == (
        "--query-gpu=index,uuid,name,memory.total,utilization.gpu --format=csv,noheader,nounits\n"
    )


@pytest.mark.parametrize("word", ["1", "GPU-77", "GPU-7"])
def test_only_those_that_the_process_may_see_in_the_order_in_which_it_sees_them(
    nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    nvidia_smi(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{word},0")
    assert [(gpu.word, gpu.name) for gpu in gpus.visible()] == [(word, "NVIDIA A10G"), ("0", "NVIDIA H200")]


def test_of_a_part_of_a_gpu_nothing_is_known(nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-3f")
    assert gpus.visible() == [Gpu("MIG-3f", "MIG-3f", 0, None)]


def test_what_a_container_may_not_know_is_not_known(nvidia_smi: Tool) -> None:
    nvidia_smi("printf '0, GPU-1, NVIDIA A100 \\351, [Insufficient Permissions], [N/A]\\n'")
    (gpu,) = gpus.visible()
    assert (gpu.word, gpu.bytes, gpu.busy) == ("GPU-1", 0, None)


@pytest.mark.parametrize(
    ("words", "seen"), [("0,7,1", ["0"]), ("0,", ["0"]), ("NoDevFiles", []), ("1,GPU-5", ["1", "GPU-5"])]
)
def test_the_first_word_that_says_nothing_ends_them_as_it_does_for_cuda(
    nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch, words: str, seen: list[str]
) -> None:
    nvidia_smi(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", words)
    assert [gpu.word for gpu in gpus.visible()] == seen


@pytest.mark.parametrize("nothing", ["", "-1"])
def test_a_process_from_which_they_are_hidden_sees_none(
    nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch, nothing: str
) -> None:
    asked = nvidia_smi(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
    assert gpus.visible() == []
    assert not asked.exists()


def test_a_machine_without_a_driver_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible() == []


def test_a_driver_that_does_not_answer_is_an_error_and_so_is_an_answer_to_something_else(
    nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi("echo 'NVIDIA-SMI has failed because it could not communicate with the driver.'; exit 9")
    with pytest.raises(FacebatchError, match="nvidia-smi does not tell of the GPUs: NVIDIA-SMI has failed because"):
        gpus.visible()
    nvidia_smi("exit 9")
    with pytest.raises(FacebatchError, match="does not tell of the GPUs: .*exit status 9"):
        gpus.visible()
    nvidia_smi("echo 'No devices were found'")
    with pytest.raises(FacebatchError, match="answers 'No devices were found', not index, uuid, name"):
        gpus.visible()
    monkeypatch.setattr(gpus, "_PATIENCE", 0.2)
    nvidia_smi("/bin/sleep 5")
    with pytest.raises(FacebatchError, match="does not tell of the GPUs: .*timed out"):
        gpus.visible()
