"""Epochs: of all runs of a dataset one may write, and it knows when it may no longer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from facebatch import epochs
from facebatch.dataset import Dataset
from facebatch.epochs import EpochGuard, taken
from facebatch.errors import FacebatchError
from facebatch.storage import Storage, StorageError


@pytest.fixture
def dataset(place: tuple[Storage, str]) -> Dataset:
    return Dataset.at(*place)


def test_a_second_run_is_refused_while_the_first_is_alive(dataset: Dataset) -> None:
    with (
        taken(dataset),
        pytest.raises(FacebatchError, match=rf"process {os.getpid()} on .*is still running; wait"),
        taken(dataset),
    ):
        pass
    with taken(dataset) as epoch:
        assert epoch.number == 2


def test_a_dead_owner_on_this_host_is_recognised_at_once(dataset: Dataset) -> None:
    killed_run(dataset)
    owned_by_a_dead_process(dataset, 1)
    started = time.monotonic()
    with taken(dataset, wait=30) as epoch:
        assert epoch.number == 2
    assert time.monotonic() - started < 10


def test_a_process_number_that_was_given_again_is_not_the_owner(dataset: Dataset) -> None:
    killed_run(dataset)
    _claim(dataset, 1, started=1.0)
    with taken(dataset, wait=30) as epoch:
        assert epoch.number == 2


@pytest.mark.parametrize("hours", [-24 * 365, -1, 1, 24 * 365])
def test_a_clock_that_jumps_makes_no_run_dead_or_alive(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Nothing here asks the time of day: this host's processes are known by ticks since its boot, others' by whether
    their heartbeat changes."""
    import psutil

    with taken(dataset):
        now, boot = time.time, psutil.boot_time
        monkeypatch.setattr(time, "time", lambda: now() + hours * 3600)
        monkeypatch.setattr(psutil, "boot_time", lambda: boot() + hours * 3600)
        monkeypatch.setattr("psutil._psplatform.boot_time", lambda: boot() + hours * 3600)
        with pytest.raises(FacebatchError, match="is still running"), taken(dataset):
            pass
        standing = epochs.standing(dataset)
        assert standing is not None
        assert standing.alive
    with taken(dataset) as epoch:
        assert epoch.number == 2


def test_a_container_with_process_numbers_of_its_own_is_another_host(dataset: Dataset) -> None:
    """Two containers on one machine: the owner's process number means nothing here."""
    killed_run(dataset)
    _claim(dataset, 1, boot="the same boot pid:[7]", pid=os.getpid())
    with taken(dataset, wait=0.1) as epoch:
        assert epoch.number == 2


def test_the_heart_has_a_storage_of_its_own_that_gives_up_soon(dataset: Dataset) -> None:
    with taken(dataset) as epoch:
        assert epoch._storage.options.retries == 0
        assert epoch._storage.options.timeout < epochs.EXPIRY / 4
        assert epoch._storage.options.endpoint == dataset.storage.options.endpoint


def test_an_owner_on_another_host_is_dead_when_its_heartbeat_stands_still(dataset: Dataset) -> None:
    killed_run(dataset)
    _claim(dataset, 1, host="elsewhere")
    told: list[str] = []
    with taken(dataset, wait=0.1, tell=told.append) as epoch:
        assert epoch.number == 2
    (line,) = told
    assert "on elsewhere) has not said that it ended; waiting 0 s for a sign of life" in line


def test_an_owner_on_another_host_that_beats_is_found_alive_before_the_wait_is_over(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_run(dataset)
    _claim(dataset, 1, host="elsewhere")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        dataset.storage.put(epochs.epoch_path(dataset, 1, "alive"), b"a beat")

    monkeypatch.setattr("facebatch.epochs.time.sleep", sleep)
    with pytest.raises(FacebatchError, match="is still running"), taken(dataset):
        pass
    assert sum(slept) < epochs.EXPIRY / 10


def test_an_owner_on_another_host_is_alive_when_its_heartbeat_changes(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_run(dataset)
    _claim(dataset, 1, host="elsewhere")
    look = epochs._heartbeat

    def beating(dataset: Dataset, epoch: int) -> bytes | None:
        """Whoever looks twice finds a beat in between: no clock decides this test."""
        seen = look(dataset, epoch)
        dataset.storage.put(epochs.epoch_path(dataset, epoch, "alive"), os.urandom(8))
        return seen

    monkeypatch.setattr(epochs, "_heartbeat", beating)
    with pytest.raises(FacebatchError, match="on elsewhere\\) is still running"), taken(dataset, wait=0.1):
        pass


def test_of_two_that_start_at_once_one_runs(dataset: Dataset) -> None:
    got: list[object] = []

    def start() -> None:
        try:
            got.append(epochs._take(dataset, 0).number)
        except FacebatchError as error:
            got.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [g for g in got if isinstance(g, int)] == [1]
    assert all("is still running" in str(g) for g in got if g != 1)


def test_a_heartbeat_that_cannot_be_written_stops_the_run(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "EXPIRY", 0.2)
    monkeypatch.setattr(epochs, "BEAT", 0.05)
    real = Storage.put

    def failing(storage: Storage, uri: str, data: bytes) -> None:
        if uri.endswith(".alive"):
            raise StorageError("503")
        real(storage, uri, data)

    monkeypatch.setattr(Storage, "put", failing)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a script's background job has it
    try:
        with taken(dataset) as epoch:
            with pytest.raises(KeyboardInterrupt):
                time.sleep(30)
            assert epoch.lost is not None
            assert "heartbeat could not be written" in epoch.lost
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_lost_its_heart_says_so_and_nothing_else(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is then, and although its end cannot be written either."""
    monkeypatch.setattr(epochs, "EXPIRY", 0.2)
    monkeypatch.setattr(epochs, "BEAT", 0.05)

    def run() -> None:
        with taken(dataset):
            monkeypatch.setattr(Storage, "put", lambda *_: (_ for _ in ()).throw(StorageError("503")))
            time.sleep(30)

    with pytest.raises(FacebatchError, match="heartbeat could not be written .*; run the same command again"):
        run()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_says_at_once_that_it_is_over(dataset: Dataset, stop: signal.Signals) -> None:
    """Its workers are stopped meanwhile, which can last longer than the three seconds until it is killed."""
    before = signal.getsignal(stop)
    with taken(dataset):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(stop)
        until = time.monotonic() + 30
        while dataset.storage.stat(epochs.epoch_path(dataset, 1, "ended")) is None:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert signal.getsignal(stop) == before


def test_a_signal_that_the_shell_has_its_background_jobs_ignore_is_ignored(dataset: Dataset) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with taken(dataset):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_heart_beats(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "BEAT", 0.02)
    with taken(dataset):
        seen: set[bytes | None] = set()
        deadline = time.monotonic() + 30
        while len(seen) < 3 and time.monotonic() < deadline:
            seen.add(epochs._heartbeat(dataset, 1))
            time.sleep(0.01)
        assert len(seen) == 3


class Blind(EpochGuard):
    """A guard that looked before the takeover, and not since."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def check(self) -> None:
        pass


def killed_run(dataset: Dataset) -> None:
    """A run that stopped without a word: its heart has beaten for the last time, and nothing says that it ended."""
    epoch = epochs._take(dataset, 0)
    epoch._stop.set()
    epoch._thread.join()


def _claim(dataset: Dataset, epoch: int, **changes: object) -> None:
    path = epochs.epoch_path(dataset, epoch, "json")
    claim = json.loads(dataset.storage.read(path)[0])
    dataset.storage.put(path, json.dumps({**claim, **changes}).encode())


def owned_by_a_dead_process(dataset: Dataset, epoch: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child.send_signal(signal.SIGKILL)
    child.wait()
    _claim(dataset, epoch, pid=child.pid)
