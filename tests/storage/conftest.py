"""A server that can be told to go wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.storage.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    stop = server.start()
    yield server
    stop()
