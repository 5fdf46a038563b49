"""Failpoints: inert, until a test arms one, and then once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from facebatch.failpoints import VARIABLE, failpoint


def _child(folder: Path, name: str) -> int:
    code = f"from facebatch.failpoints import failpoint; failpoint({name!r}); failpoint({name!r})"
    return subprocess.run(
        [sys.executable, "-c", code], env={VARIABLE: str(folder)}, check=False, cwd=Path(__file__).parents[1]
    ).returncode


def test_nothing_happens_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "record").write_text("kill")
    monkeypatch.chdir(tmp_path)
    failpoint("record")


def test_a_point_fires_once(tmp_path: Path) -> None:
    (tmp_path / "record").write_text("kill")
    assert _child(tmp_path, "data") == 0
    assert _child(tmp_path, "record") == -signal.SIGKILL
    assert _child(tmp_path, "record") == 0


def test_a_point_may_fire_always(tmp_path: Path) -> None:
    (tmp_path / "decode a.jpg").write_text("always crash")
    assert [_child(tmp_path, "decode a.jpg") for _ in range(2)] == [-signal.SIGSEGV] * 2


def test_a_held_process_goes_on_when_it_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "record").write_text("hold")
    thread = threading.Thread(target=failpoint, args=("record",))
    thread.start()
    while not (tmp_path / "record.held").exists():
        time.sleep(0.01)
    assert thread.is_alive()
    (tmp_path / "record.held").unlink()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_an_unknown_action_is_an_error_and_not_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "record").write_text("explode")
    with pytest.raises(ValueError, match="says explode, which is no action"):
        failpoint("record")
