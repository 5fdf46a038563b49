"""Epochs: who may write. A run takes the next number of its dataset, beats, and stops when another has taken over.

epochs/00003.json        run 3 owns the dataset from here on (created once: two runs cannot both be run 3)
epochs/00003.alive       its heartbeat, while it runs
epochs/00003.ended       it came to its end
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

import psutil

from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.failpoints import failpoint
from facebatch.storage import Storage, StorageError

BEAT = 10.0
"""Seconds between heartbeats."""
EXPIRY = 60.0
"""A heartbeat that has not changed for so long belongs to a dead run."""
_LOOK = 2.0
"""Seconds between looks at the heartbeat of another host's run."""
_PATIENCE = 5
"""Seconds for writing one heartbeat. With a run's own retries, minutes would pass before a dead storage is noticed."""
_WAKE = signal.SIGUSR1
"""Ends a run that lost its heart. Not SIGINT: shells start background jobs of scripts with SIGINT ignored."""
_STOPS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers send before they kill (`ray job stop` three seconds later)."""


Tell = Callable[[str], object]
"""Takes one line for whoever waits."""


class Superseded(FacebatchError):
    """Another run has taken this dataset over; this one must not write any more."""


class Guard(Protocol):
    """What a writer asks before each PUT."""

    epoch: int

    def check(self) -> None: ...


class EpochGuard:
    """Raises Superseded once a later epoch exists. Travels to the workers that write."""

    def __init__(self, dataset: Dataset, epoch: int) -> None:
        self._dataset, self.epoch = dataset, epoch

    def check(self) -> None:
        if self._dataset.storage.stat(epoch_path(self._dataset, self.epoch + 1, "json")) is not None:
            raise Superseded(f"run {self.epoch + 1} has taken over {self._dataset.root}; run {self.epoch} stops")


class Epoch:
    """The right to write to a dataset, until `end`. Beats in a thread of its own."""

    def __init__(self, dataset: Dataset, number: int) -> None:
        self._dataset, self.number = dataset, number
        self._storage = Storage(
            replace(dataset.storage.options, timeout=_PATIENCE, retries=0), dataset.storage.credentials
        )
        self._stop = threading.Event()
        self._stopped, self._ended = False, False
        self.lost: str | None = None
        """Why the heart has stopped, if it has. The run is interrupted then, well before another may take over."""
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    @property
    def guard(self) -> EpochGuard:
        return EpochGuard(self._dataset, self.number)

    def stop(self) -> None:
        """Have it said at once that this run is over, by the heart, while its workers are still being stopped.

        What these write counts until the next run has settled, and never after.
        """
        self._stopped = True
        self._stop.set()

    def end(self) -> None:
        """Say that this run is over, so that the next one need not wait."""
        self._stop.set()
        self._thread.join()
        if self.lost:
            with suppress(StorageError):  # it is said already that the storage fails
                self._storage.put(epoch_path(self._dataset, self.number, "ended"), b"")
        elif not self._ended:
            self._dataset.storage.put(epoch_path(self._dataset, self.number, "ended"), b"")

    def _beat(self) -> None:
        count, last = 0, time.monotonic()
        while not self._stop.is_set():
            try:
                self._storage.put(epoch_path(self._dataset, self.number, "alive"), str(count).encode())
                count, last = count + 1, time.monotonic()
            except StorageError as error:
                if time.monotonic() - last > EXPIRY / 2:
                    self.lost = f"the heartbeat could not be written for {EXPIRY / 2:.0f} s: {error}"
                    signal.pthread_kill(threading.main_thread().ident or 0, _WAKE)
                    return
            self._stop.wait(BEAT)
        if not self._stopped:
            return
        with suppress(StorageError):  # then `end` tries, with all its retries, and says what is wrong
            self._storage.put(epoch_path(self._dataset, self.number, "ended"), b"")
            self._ended = True


def _nobody(told: str) -> None:
    """Hears it, where nobody waits."""


@contextmanager
def taken(dataset: Dataset, wait: float = EXPIRY, tell: Callable[[str], object] = lambda said: None) -> Iterator[Epoch]:
    """Be the next run of this dataset while the block lasts.

    Waits for a run on another host to be found dead, and tells so.

    For the main thread: a run whose heartbeat cannot be written any more is interrupted there, as one that gets SIGINT
    or SIGTERM is (KeyboardInterrupt), which becomes a FacebatchError that says so. Raises FacebatchError, too, while
    another run is alive.
    """
    before = {_WAKE: signal.signal(_WAKE, signal.default_int_handler)}
    try:
        epoch = _take(dataset, wait, tell)

        def stop(number: int, frame: FrameType | None) -> NoReturn:
            epoch.stop()
            raise KeyboardInterrupt

        for number in _STOPS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as shells have it for the background jobs of scripts
                before[number] = signal.signal(number, stop)
        try:
            yield epoch
        except KeyboardInterrupt:
            if epoch.lost:
                raise FacebatchError(f"{epoch.lost}; run the same command again") from None
            raise
        finally:
            epoch.end()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take(dataset: Dataset, wait: float, tell: Tell = _nobody) -> Epoch:
    while True:
        last = last_epoch(dataset)
        if last and dataset.storage.stat(epoch_path(dataset, last, "ended")) is None:
            _wait_for_death(dataset, last, wait, tell)
        claim = json.dumps({**_whoami(), "token": uuid.uuid4().hex}).encode()
        if dataset.storage.create(epoch_path(dataset, last + 1, "json"), claim):
            failpoint("takeover")
            return Epoch(dataset, last + 1)


def last_epoch(dataset: Dataset) -> int:
    """The number of the last run that began; 0 if there was none."""
    names = (found.uri.rpartition("/")[2] for found in dataset.storage.objects(dataset.internal("epochs/")))
    numbers = (name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith("."))
    return max(map(int, numbers), default=0)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a dataset's last run, without waiting for it.

    alive: None where only its heartbeat could tell, because it ran on another host. quiet: seconds since that, by this
    machine's clock and the storage's.
    """

    epoch: int
    who: str
    ended: bool
    alive: bool | None
    quiet: float | None


def standing(dataset: Dataset) -> Standing | None:
    """How the last run stands; None if there was none."""
    last = last_epoch(dataset)
    if not last:
        return None
    owner = json.loads(dataset.storage.read(epoch_path(dataset, last, "json"))[0])
    ended = dataset.storage.stat(epoch_path(dataset, last, "ended")) is not None
    beat = dataset.storage.stat(epoch_path(dataset, last, "alive"))
    quiet = time.time() - beat.mtime_ns / 1e9 if beat and beat.mtime_ns else None
    alive = _lives(owner["pid"], owner["started"]) if _is_here(owner) else None
    return Standing(last, f"process {owner['pid']} on {owner['host']}", ended, alive and not ended, quiet)


def _wait_for_death(dataset: Dataset, epoch: int, wait: float, tell: Tell) -> None:
    owner = json.loads(dataset.storage.read(epoch_path(dataset, epoch, "json"))[0])
    who = f"run {epoch} of {dataset.root} (process {owner['pid']} on {owner['host']})"
    running = FacebatchError(f"{who} is still running; wait for it or stop it, then run the same command again")
    if _is_here(owner):
        if _lives(owner["pid"], owner["started"]):
            raise running
        return
    tell(f"{who} has not said that it ended; waiting {wait:.0f} s for a sign of life")
    beat, until = _heartbeat(dataset, epoch), time.monotonic() + wait
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(_LOOK, left))
        if _heartbeat(dataset, epoch) != beat:
            raise running


def _heartbeat(dataset: Dataset, epoch: int) -> bytes | None:
    path = epoch_path(dataset, epoch, "alive")
    return dataset.storage.read(path)[0] if dataset.storage.stat(path) else None


def _whoami() -> dict[str, Any]:
    return {"host": _host(), "boot": _boot(), "pid": os.getpid(), "started": _started(os.getpid())}


def _is_here(owner: dict[str, Any]) -> bool:
    """Whether the owner's process number means something on this machine."""
    return (owner["host"], owner["boot"]) == (_host(), _boot())


def _lives(pid: int, started: float) -> bool:
    try:
        return _started(pid) == started and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _started(pid: int) -> float:
    """When a process began, so that its number given again means another one. In ticks since the boot: the time of day
    at which it began moves when somebody sets the clock, and a run that is alive would look dead."""
    if sys.platform != "linux":
        return psutil.Process(pid).create_time()
    try:
        facts = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        raise psutil.NoSuchProcess(pid) from None
    return float(facts.rpartition(")")[2].split()[19])


def _host() -> str:
    return socket.gethostname()


def _boot() -> str:
    """Changes with each boot and differs between containers: within one of it a process number means one process."""
    file, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    boot = file.read_text().strip() if file.exists() else str(int(psutil.boot_time()))
    return f"{boot} {os.readlink(space)}" if space.exists() else boot


def epoch_path(dataset: Dataset, number: int, suffix: str) -> str:
    """Where something about a run is noted."""
    return dataset.internal("epochs", f"{number:05d}.{suffix}")
