"""Secrets that a run knows, or meets, are found nowhere afterwards: in no output, no message, no log."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.s3 import S3

pytestmark = pytest.mark.faults
KEY, SECRET, TOKEN = "AKIACANARYKEY0001", "canary+secret/of/the/environment", "canary-session-token-0002"
PASSWORD, SIGNATURE = "canary-password-0003", "canary-signature-0004"
SECRETS = (SECRET, TOKEN, PASSWORD, SIGNATURE)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where Ray puts its logs. Short, because sockets lie there too."""
    folder = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _manifest(file: Path, photo: str) -> None:
    """A table that names a sound photo, and others by URIs that no one should have written down."""
    uris = [
        photo,
        f"https://user:{PASSWORD}@127.0.0.1:9/photo.jpg",
        f"https://127.0.0.1:9/photo.jpg?X-Amz-Signature={SIGNATURE}&X-Amz-Date=20260101T000000Z",
        f"s3://AKIA:{PASSWORD}@bucket/photo.jpg",
    ]
    origins = [f"ftp://user:{PASSWORD}@example.org/{k}" for k in range(len(uris))]
    pq.write_table(pa.table({"uri": uris, "origin": origins}), file)


def _readable(data: bytes, name: str) -> bytes:
    """A file's bytes, and of a Parquet file what its compressed pages say."""
    if not name.endswith(".parquet"):
        return data
    return data + str(pq.read_table(pa.BufferReader(data)).to_pydict()).encode()


def test_no_secret_is_left_anywhere(s3: S3, hopper: bytes, tmp_path: Path, temporary: Path) -> None:
    bucket = boto3.resource("s3", endpoint_url=s3.endpoint, region_name="us-east-1").Bucket(s3.bucket)
    bucket.put_object(Key="photos/hopper.jpg", Body=hopper)
    _manifest(tmp_path / "manifest.parquet", f"s3://{s3.bucket}/photos/hopper.jpg")
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    words = [f"storage.endpoint={s3.endpoint}", "storage.region=us-east-1", "storage.retries=0", "storage.timeout=5"]
    given = ["--input", str(tmp_path / "manifest.parquet"), "--output", f"s3://{s3.bucket}/out"]
    done = subprocess.run(
        [sys.executable, "-m", "facebatch", "index", *given, *words],
        env={**os.environ, **keys, "RAY_TMPDIR": str(temporary)},
        capture_output=True,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    written = {found.key: found.get()["Body"].read() for found in bucket.objects.filter(Prefix="out/")}
    logs = {str(file): file.read_bytes() for file in temporary.rglob("*") if file.is_file() and not file.is_symlink()}
    assert b"images     4" in said, said
    assert any("_facebatch/runs/" in name for name in written)
    assert any(name.endswith("raylet.out") for name in logs), "Ray's logs are where they are looked for"
    assert any("worker-" in name for name in logs)

    places = {"what it said": said} | {name: _readable(data, name) for name, data in (written | logs).items()}
    found = [(secret, name) for secret in SECRETS for name, data in places.items() if secret.encode() in data]
    assert not found
