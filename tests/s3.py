"""A real S3 protocol to talk to, from moto."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import boto3
import pytest
from moto.server import ThreadedMotoServer

from facebatch import config
from facebatch.storage import Storage

S3_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class S3:
    """A running server, and a bucket in it."""

    endpoint: str
    bucket: str

    @property
    def options(self) -> config.Storage:
        return config.Storage(endpoint=self.endpoint, region="us-east-1", retries=2, timeout=10)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    os.environ.update(S3_CREDENTIALS)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, request: pytest.FixtureRequest) -> S3:
    return with_bucket(s3_server, request)


def with_bucket(server: str, request: pytest.FixtureRequest) -> S3:
    """A server, and a bucket of the test's own."""
    bucket = f"bucket-{abs(hash(request.node.nodeid))}"
    boto3.client("s3", endpoint_url=server).create_bucket(Bucket=bucket)
    return S3(server, bucket)


PLACES = ["local", "s3", pytest.param("rgw", marks=pytest.mark.faults)]
"""The storages of which every promise is asked: a disk, moto, and Ceph's gateway (`tests.faults.rgw`)."""


def opened(request: pytest.FixtureRequest, kind: str) -> tuple[Storage, str]:
    """A storage of one of PLACES and an empty folder in it."""
    if kind == "local":
        return Storage(), str(request.getfixturevalue("tmp_path"))
    s3: S3 = request.getfixturevalue(kind)
    return Storage(s3.options), f"s3://{s3.bucket}/folder"


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> tuple[Storage, str]:
    """A storage and an empty folder in it."""
    return opened(request, request.param)
