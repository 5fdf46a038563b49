"""Ray itself: connecting to a cluster or starting one on this machine, without its noise on the user's screen."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import ray
from ray.util.annotations import RayDeprecationWarning

from facebatch.errors import FacebatchError, UsageError

LOGS = os.path.join(tempfile.gettempdir(), "ray", "session_latest", "logs")
"""Where Ray and its workers write their logs on each machine."""
_OURS = {
    "idle_worker_killing_time_threshold_ms": 600_000,
    "prestart_worker_first_driver": False,
    "enable_metrics_collection": False,
    "task_events_report_interval_ms": 0,
}
"""For a Ray of our own. Workers without a task are kept: after Ray's second, and as soon as actors hold the cores,
nearly every task that reads or writes would wait for a process of its own to start, which costs two seconds of a core
(ten of them in a minute's run on two cores; ray-project/ray#36766 tells why). None is started before there is a task:
Ray would let a driver in only when one for each core has begun, and so never where one of them died meanwhile, or took
more than a minute (ray-project/ray#40131); those that tasks wait for it starts anew, and no later. And without a
dashboard nobody reads Ray's metrics and task events, which every process would gather and send."""
_MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""For glibc in the workers of a Ray of our own: memory that a picture leaves is kept for the next one. Given back to
the kernel, as is the default, each picture's pages are zeroed anew, which was a fifth of the work on a camera's photo
(31.6 against 23.9 ms, one core of an AMD EPYC virtual machine, 2026-11-22). Other allocators do not read these."""
_LOGS = {"RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0", "LOG_NAME_UPDATE_INTERVAL_S": str(24 * 3600)}
"""For a Ray of our own, whose logs lie on this machine: without them a process lists and reads them ten times a second
to show them to a driver that does not want to see them, which is a hundredth of a core."""
_STORE_SHARE = 0.2
"""Of this machine's free memory for Ray's object store, where blocks wait between stages; at most 4 GiB."""


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A Ray to run on, while the block lasts: the one this process is connected to already, else the cluster at
    `address` or RAY_ADDRESS, else one of our own on this machine.

    Raises UsageError when the cluster cannot be reached.
    """
    with _silence():
        ours = not ray.is_initialized()
        if ours:
            _connect(address or os.environ.get("RAY_ADDRESS"))
        try:
            yield
        finally:
            if ours:
                workers = _workers()
                ray.shutdown()
                bury(workers)


def bury(workers: list[psutil.Process], patience: float = 5.0) -> None:
    """Wait for workers to end, and kill those that do not.

    Ray 2.60's workers sometimes deadlock in the destructor of their core when they leave (seen once in some twenty
    runs): they have done all their work and will do none, but each would hold 270 MB for ever.
    """
    _, left = psutil.wait_procs(workers, timeout=patience)
    for worker in left:
        with suppress(psutil.NoSuchProcess):
            worker.kill()


def _workers() -> list[psutil.Process]:
    """The workers of the Ray that this process has started; none for a Ray that runs elsewhere."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.name().startswith("ray::"):
                found.append(process)
    return found


def _connect(address: str | None) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ours: dict[str, str] = {}
    try:
        if address and address.startswith("ray://"):
            raise ValueError(
                "a run cannot be driven from outside the cluster (ray://): use `facebatch submit`, or HEAD:6379 on one "
                "of its machines"
            )
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            return
        ours = _environment()
        os.environ.update(ours)  # which all processes of our own Ray inherit
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            object_store_memory=min(int(psutil.virtual_memory().available * _STORE_SHARE), 4 << 30),
            _system_config=_OURS,
        )
    except Exception as error:
        if not address:  # a start that fails or takes too long is a bare Exception
            raise FacebatchError(
                f"Ray could not be started on this machine: {error} Its logs are in {LOGS}; run the same command again"
            ) from error
        if not isinstance(error, ConnectionError | ValueError | RuntimeError):
            raise
        token = "; if it asks for a token, as Ray's clusters do, put that into ~/.ray/auth_token"
        raise UsageError(f"Ray cannot be reached at {address}: {error}{token}") from error
    finally:
        for name in ours:
            del os.environ[name]
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler kills its processes and leaves, without a word and without an end of the epoch.
            signal.signal(signal.SIGTERM, before)


def _environment() -> dict[str, str]:
    """Those of our settings that the user has not made."""
    return {name: value for name, value in (_MALLOC | _LOGS).items() if name not in os.environ}


@contextmanager
def _silence() -> Iterator[None]:
    """Ray's words go to its logs; what matters is said in ours.

    Whatever its log level is, its native part writes to descriptor 2 and a thread of its prints to stdout, so both
    descriptors lead elsewhere meanwhile. A console that shall be seen holds a duplicate (`facebatch.cli`).
    """
    warnings.filterwarnings("ignore", category=RayDeprecationWarning)
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.stdout.flush()
    sys.stderr.flush()
    seen = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as elsewhere:
        os.dup2(elsewhere.fileno(), 1)
        os.dup2(elsewhere.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, original in zip((1, 2), seen, strict=True):
                os.dup2(original, target)
                os.close(original)
