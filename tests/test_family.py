"""What a process and its descendants take."""

from __future__ import annotations

import subprocess
import sys
import time

from facebatch.family import Family

_CHILD = """
import sys
kept = bytearray(200_000_000)
while sys.stdin.readline():
    pass
"""


def _sampled() -> Family:
    family = Family()
    family.sample()
    return family


def test_memory_is_that_of_all_processes_together() -> None:
    before = _sampled()
    with subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE) as child:
        time.sleep(1)
        during = _sampled()
        child.kill()
    assert 190e6 < during.peak_bytes - before.peak_bytes < 300e6
    assert during.own_peak_bytes - before.own_peak_bytes < 50e6


def test_the_peak_stays_when_a_process_is_gone() -> None:
    family = _sampled()
    with subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE) as child:
        time.sleep(1)
        family.sample()
        child.kill()
    peak = family.peak_bytes
    family.sample()
    assert family.peak_bytes == peak


def test_time_of_the_cores_is_that_of_all_processes_also_of_those_that_ended() -> None:
    family = _sampled()
    before = family.cpu_seconds
    busy = "import time\nwhile time.process_time() < 30: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as child:
        time.sleep(2)
        family.sample()
        child.kill()
    family.sample()
    assert family.cpu_seconds - before > 0.5


def test_a_process_that_is_gone_has_nothing_more_to_tell() -> None:
    with subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE) as child:
        family = Family(child.pid)
        child.kill()
    family.sample()
    assert (family.peak_bytes, family.cpu_seconds) == (0, 0)
