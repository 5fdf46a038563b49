"""What a process and its descendants take."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from facebatch.family import Family

_HOLDS = "import sys; kept = bytearray(200_000_000); print(flush=True); sys.stdin.read()"
_WORKS = """
import sys, time
while time.process_time() < 0.5: pass
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def _child(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said its line, and lives on while the block lasts."""
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        yield child
        child.kill()


def _sampled() -> Family:
    family = Family()
    family.sample()
    return family


def test_memory_is_that_of_all_processes_together() -> None:
    before = _sampled()
    with _child(_HOLDS):
        during = _sampled()
    assert 190e6 < during.peak_bytes - before.peak_bytes < 300e6
    assert during.own_peak_bytes - before.own_peak_bytes < 50e6


def test_the_peak_stays_when_a_process_is_gone() -> None:
    family = _sampled()
    before = family.peak_bytes
    with _child(_HOLDS):
        family.sample()
    peak = family.peak_bytes
    family.sample()
    assert family.peak_bytes == peak > before + 190e6


def test_a_process_is_seen_when_it_was_listed_and_again_without_listing_it_anew() -> None:
    grows = "import sys; print(flush=True); sys.stdin.readline(); kept = bytearray(200_000_000); print(flush=True)"
    family = _sampled()
    before = family.peak_bytes
    with _child(grows + "; sys.stdin.read()") as child:
        assert child.stdin
        assert child.stdout
        family.sample()
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        with _child(_HOLDS):
            family.sample(listed=False)
            assert 190e6 < family.peak_bytes - before < 300e6, "one of them"
            family.sample()
            assert family.peak_bytes - before > 380e6, "both"


def test_time_of_the_cores_is_that_of_all_processes_also_of_those_that_ended() -> None:
    family = _sampled()
    before = family.cpu_seconds
    with _child(_WORKS):
        family.sample()
    family.sample()
    assert family.cpu_seconds - before >= 0.4, "systems count in ticks"


def test_a_process_that_is_gone_has_nothing_more_to_tell() -> None:
    with _child(_HOLDS) as child:
        family = Family(child.pid)
    family.sample()
    assert (family.peak_bytes, family.cpu_seconds) == (0, 0)
