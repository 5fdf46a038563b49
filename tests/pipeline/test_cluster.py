"""Ray itself: what it leaves behind."""

from __future__ import annotations

import subprocess
import sys

import psutil

from facebatch.pipeline.cluster import bury


def test_a_worker_that_does_not_end_is_ended() -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    quick = subprocess.Popen([sys.executable, "-c", ""])
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as hanging:
        assert hanging.stdout
        hanging.stdout.readline()
        bury([psutil.Process(quick.pid), psutil.Process(hanging.pid)], patience=0.2)
        assert hanging.wait(5) == -9
    assert quick.wait(5) == 0
