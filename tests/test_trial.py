"""Trials: what a decoder does to the process it runs in becomes a reason."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from facebatch import packs
from facebatch.config import Config
from facebatch.detect import Settings
from facebatch.failpoints import VARIABLE
from facebatch.reasons import Reason
from facebatch.trial import Rules, Trial, Verdict, _verdict
from facebatch.work import Work


@pytest.fixture
def rules() -> Rules:
    config = Config()
    return Rules(config.decode, Settings.of(config.detect, packs.pack(config.detect.pack, "detector")), 2.0)


@pytest.fixture
def armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the failpoints of decoders."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    for action in ("crash", "spin", "eat", "kill"):
        (tmp_path / f"decode {action}.png").write_text(f"always {action}")
    return tmp_path


def _work(name: str, data: bytes) -> Work:
    return Work("s1", 0, f"/photos/{name}.png", "", len(data), data=data)


def test_sound_images_and_bad_files_may_be_decoded_by_a_worker(rules: Rules, astronaut: bytes) -> None:
    with Trial(rules) as trial:
        assert trial.of(_work("sound", astronaut)) is None
        assert trial.of(_work("cut", astronaut[:1000])) is None
        assert trial.of(_work("noise", b"no image at all")) is None
        assert trial.of(_work("empty", b"")) is None


def test_each_of_the_guilty_gets_its_reason_and_the_innocent_none(armed: Path, rules: Rules, astronaut: bytes) -> None:
    found = {}
    with Trial(rules) as trial:
        for name in ("one", "crash", "two", "eat", "three", "spin", "four", "kill", "five"):
            verdict = trial.of(_work(name, astronaut))
            found[name] = verdict and verdict.reason
    assert {name: reason for name, reason in found.items() if reason} == {
        "crash": Reason.WORKER_CRASH,
        "eat": Reason.OUT_OF_MEMORY,
        "spin": Reason.TIMEOUT,
        "kill": Reason.OUT_OF_MEMORY,
    }


def test_the_detail_says_what_happened(armed: Path, rules: Rules, astronaut: bytes) -> None:
    with Trial(rules) as trial:
        crash, eat, spin = (trial.of(_work(name, astronaut)) for name in ("crash", "eat", "spin"))
    assert crash is not None
    assert "SIGSEGV" in crash.detail
    assert eat is not None
    assert "its 262144 pixels took more than 518 MiB" in eat.detail
    assert spin is not None
    assert "more than 3 s of a processor" in spin.detail


def test_a_decoder_that_stands_still_is_ended_by_the_clock_and_tried_again_by_the_next_run(
    rules: Rules, armed: Path, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It uses no processor time. Neither does one on a machine that swaps, so this is not final."""
    monkeypatch.setattr("facebatch.trial._BLOCKED", 0.3)
    (armed / "decode held.png").write_text("hold")
    with Trial(rules) as trial:
        verdict = trial.of(_work("held", astronaut))
    assert verdict == Verdict(Reason.INTERNAL_ERROR, "decoding stood still for 1 s")
    assert verdict.reason.retryable


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (-signal.SIGSEGV, Reason.WORKER_CRASH),
        (-signal.SIGABRT, Reason.WORKER_CRASH),
        (1, Reason.WORKER_CRASH),
        (-signal.SIGTERM, Reason.INTERNAL_ERROR),
        (-signal.SIGHUP, Reason.INTERNAL_ERROR),
        (70, Reason.INTERNAL_ERROR),
    ],
)
def test_only_what_a_decoder_can_do_is_final(code: int, reason: Reason) -> None:
    """A scheduler that ends a job sends SIGTERM to all of its processes, and trials run when things go wrong."""
    assert _verdict(code, 2, silent=False).reason is reason


def test_the_limits_of_one_image_are_not_those_of_the_next(rules: Rules, astronaut: bytes) -> None:
    """It is received before its own are known: a small one, then one larger than all that the small one may take."""
    with Trial(Rules(rules.limits, rules.settings, 60)) as trial:
        assert trial.of(_work("small", astronaut)) is None
        assert trial.of(_work("large", astronaut + bytes(400 << 20))) is None


def test_limits_that_were_set_by_others_stay_and_hide_no_crash(
    rules: Rules, armed: Path, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def limited(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        limit = "import os, resource; resource.setrlimit(resource.RLIMIT_CPU, (900, 900)); "
        return start([words[0], "-c", f"{limit}os.execv({words[0]!r}, {words!r})"], **options)

    monkeypatch.setattr("facebatch.trial.subprocess.Popen", limited)
    with Trial(rules) as trial:
        assert trial.of(_work("sound", astronaut)) is None
        verdict = trial.of(_work("crash", astronaut))
    assert verdict is not None
    assert verdict.reason is Reason.WORKER_CRASH


def test_where_no_child_can_be_started_nobody_is_accused(
    rules: Rules, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facebatch.trial.sys.executable", "/bin/false")
    with Trial(rules) as trial:
        assert trial.of(_work("sound", astronaut)) is None


def test_a_child_ends_with_its_trial(rules: Rules, astronaut: bytes) -> None:
    with Trial(rules) as trial:
        trial.of(_work("sound", astronaut))
        child = trial._child
        assert child is not None
        assert child.poll() is None
    assert child.wait(timeout=60) == -signal.SIGKILL


def test_a_busy_machine_makes_no_image_guilty(rules: Rules, armed: Path, astronaut: bytes) -> None:
    """What counts is the processor's time, not the clock's: this decoder waits longer than it may compute."""
    (armed / "decode held.png").write_text("hold")
    with Trial(Rules(rules.limits, rules.settings, 0.5)) as trial:
        import threading

        def let_go() -> None:
            while not (armed / "decode held.png.held").exists():
                time.sleep(0.01)
            time.sleep(1.5)
            (armed / "decode held.png.held").unlink()

        thread = threading.Thread(target=let_go)
        thread.start()
        assert trial.of(_work("held", astronaut)) is None
        thread.join()
