"""A cluster that was there before: its workers have neither the driver's environment nor its files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from facebatch.dataset import Dataset
from facebatch.storage import Storage
from facebatch.verify import verify
from tests.e2e.conftest import command
from tests.ports import free_port
from tests.s3 import S3

SECRET = "a-secret-that-must-stand-nowhere-4711"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a Ray that knows no credentials, and where it writes its logs."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="fb"))  # short: Ray's sockets lie in it
    said = tmp_path / "ray.txt"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RAY_"))}
    arguments = [f"--port={port}", "--num-cpus=4", f"--temp-dir={folder}", "--include-dashboard=false"]
    head = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats", *arguments],
        stdout=said.open("wb"),
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    while "Ray runtime started" not in said.read_text():
        assert head.poll() is None, said.read_text()
        time.sleep(0.2)
    yield f"127.0.0.1:{port}", folder
    os.killpg(head.pid, signal.SIGTERM)
    try:
        head.wait(timeout=5)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
    shutil.rmtree(folder, ignore_errors=True)


def test_credentials_reach_the_workers_and_stand_nowhere(
    cluster: tuple[str, Path], s3: S3, astronaut: bytes, hopper: bytes, tmp_path: Path
) -> None:
    address, logs = cluster
    storage = Storage(s3.options)
    for i in range(6):
        storage.put(f"s3://{s3.bucket}/photos/{i}.jpg", hopper + bytes(i))
        storage.put(f"s3://{s3.bucket}/photos/{i}.png", astronaut + bytes(i))
    (tmp_path / "credentials").write_text(
        f"[archive]\naws_access_key_id = an-id\naws_secret_access_key = {SECRET}\nregion = us-east-1\n"
    )
    words = [f"storage.endpoint={s3.endpoint}", "storage.profile=archive", f"run.address={address}"]
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "RAY_ADDRESS": ""}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment[name] = ""
    output = f"s3://{s3.bucket}/out"
    done = command("index", "--input", f"s3://{s3.bucket}/photos/", "--output", output, *words, **environment)
    assert done.returncode == 0, done.stderr
    assert "ok       12" in done.stdout
    assert verify(Dataset.at(storage, output)).problems == []
    assert SECRET not in done.stdout + done.stderr
    for found in storage.objects(f"{output}/"):
        assert SECRET.encode() not in storage.read(found.uri)[0], found.uri
    written = [path for path in logs.rglob("*") if path.is_file()]
    assert len(written) > 10
    for path in written:
        assert SECRET.encode() not in path.read_bytes(), path


def test_without_any_credentials_the_storage_says_so_before_a_worker_starts(s3: S3, tmp_path: Path) -> None:
    environment = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    words = [f"storage.endpoint={s3.endpoint}", "storage.profile=nobody"]
    done = command("index", "--input", f"s3://{s3.bucket}/", "--output", str(tmp_path / "out"), *words, **environment)
    assert done.returncode == 2
    assert "nobody" in done.stderr
    assert not (tmp_path / "out").exists()
