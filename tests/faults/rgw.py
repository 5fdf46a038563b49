"""A real S3 server: Ceph's RADOS gateway over a store in memory, with all its daemons. Up in about 13 s.

moto answers as S3 is documented to answer; this one is a store that people run, with conditional writes, listings and
etags of its own make. Nothing of it outlives the session: its folder is temporary, its ports are free ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from tests.ports import free_port
from tests.s3 import S3, S3_CREDENTIALS, with_bucket

PACKAGES = "radosgw ceph-mon ceph-osd ceph-common ceph-mgr"
_PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-mgr", "ceph-osd", "ceph-authtool", "monmaptool")
_KEYS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "mgr.x": {"mon": "allow profile mgr", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
    "client.rgw": {"mon": "allow rw", "osd": "allow rwx", "mgr": "allow rw"},
}
_CONF = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon}
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
keyring = {folder}/keyring
admin_socket =
run_dir = {folder}
log_file = {folder}/$name.log
mon_data = {folder}/mon
osd_data = {folder}/osd
mgr_data = {folder}/mgr
rgw_data = {folder}/rgw
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_class_load_list = *
osd_class_default_list = *
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
"""
_PATIENCE = 120
"""Seconds for one step of the start. All of it takes 13 s on an idle machine with two cores."""


class CannotStart(Exception):
    """The server cannot run here; the message says what is missing or what it said."""


@dataclass
class Gateway:
    """The daemons of one server, in a folder of its own, until `stop`."""

    folder: Path
    port: int
    _daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start a monitor, a manager, a store and the gateway, and make the user whose keys the tests have.

        Raises CannotStart. What has been started by then runs until `stop`.
        """
        if missing := [name for name in (*_PROGRAMS, "setpriv") if not shutil.which(name)]:
            raise CannotStart(f"there is no {', '.join(missing)}; apt-get install --no-install-recommends {PACKAGES}")
        fsid, mon = str(uuid.uuid4()), free_port()
        for name in ("mon", "osd", "mgr", "rgw"):
            (self.folder / name).mkdir(parents=True)
        self._conf.write_text(_CONF.format(fsid=fsid, mon=mon, folder=self.folder, port=self.port), encoding="utf-8")
        for number, (name, rights) in enumerate(_KEYS.items()):
            caps = [word for part, right in rights.items() for word in ("--cap", part, right)]
            create = [] if number else ["--create-keyring"]
            self._call("ceph-authtool", *create, str(self.folder / "keyring"), "--gen-key", "-n", name, *caps)
        monmap = str(self.folder / "monmap")
        self._call("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{mon}]", "--fsid", fsid, monmap)
        self._ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._spawn("ceph-mon", "-i", "a")
        self._ceph("ceph", "-s")
        self._spawn("ceph-mgr", "-i", "x")
        osd = str(uuid.uuid4())
        self._ceph("ceph", "osd", "new", osd)
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._spawn("ceph-osd", "-i", "0")
        self._until("the store is up", lambda: "1 up" in self._ceph("ceph", "osd", "stat"))
        self._ceph("ceph", "config", "set", "mon", "mon_allow_pool_size_one", "true")
        self._spawn("radosgw", "-n", "client.rgw")
        self._until("the gateway answers", self._answers)
        keys = (
            "--access-key",
            S3_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "--secret",
            S3_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        self._ceph("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=t", "--display-name=t", *keys)

    def stop(self) -> None:
        """End every daemon at once: nothing of theirs is kept."""
        for daemon in reversed(self._daemons):
            daemon.kill()
        for daemon in self._daemons:
            daemon.wait()

    @property
    def _conf(self) -> Path:
        return self.folder / "ceph.conf"

    def _ceph(self, program: str, *words: str) -> str:
        return self._call(program, "-c", str(self._conf), *words)

    def _call(self, *words: str) -> str:
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            raise CannotStart(f"`{' '.join(words)}` gave no answer within {_PATIENCE} s{self._ended()}") from None
        if done.returncode:
            raise CannotStart(f"`{' '.join(words)}` failed: {done.stderr.strip()[-500:]}")
        return done.stdout

    def _spawn(self, program: str, *words: str) -> None:
        """A daemon in the foreground, so that it is our child; it ends with us, also when we are killed."""
        command = ["setpriv", "--pdeathsig", "KILL", program, "-f", "-c", str(self._conf), *words]
        with (self.folder / f"{program}.out").open("wb") as out:
            self._daemons.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT))

    def _answers(self) -> bool:
        try:
            return requests.get(self.endpoint, timeout=5).status_code < 500
        except requests.RequestException:
            return False

    def _until(self, what: str, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not true():
            if time.monotonic() > deadline or self._ended():
                raise CannotStart(f"waited in vain until {what}{self._ended()}")
            time.sleep(0.2)

    def _ended(self) -> str:
        """Which daemon is gone, and its last words."""
        gone = [str(d.args[3]) for d in self._daemons if d.poll() is not None]  # type: ignore[index]
        return "".join(f"; {name} ended: {(self.folder / f'{name}.out').read_text()[-500:]}" for name in gone)


@pytest.fixture(scope="session")
def rgw_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway until the session ends, by its endpoint. Where none can run, tests are skipped; in CI they fail."""
    os.environ.update(S3_CREDENTIALS)
    gateway = Gateway(tmp_path_factory.mktemp("rgw"), free_port())
    try:
        try:
            gateway.start()
        except CannotStart as error:
            reason = f"needs Ceph's gateway, which cannot be started: {error}"
            pytest.fail(reason, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip(reason)
        yield gateway.endpoint
    finally:
        gateway.stop()


@pytest.fixture
def rgw(rgw_server: str, request: pytest.FixtureRequest) -> S3:
    """The gateway, and a bucket of the test's own."""
    return with_bucket(rgw_server, request)
