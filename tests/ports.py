"""Ports for servers that are told theirs in words before they start."""

from __future__ import annotations

import random
import socket

# Below the ports that the system hands out by itself (Linux: from 32768), which Ray takes for all that it is not told,
# and above those of its workers (10002 to 19999).
_PORTS = iter(random.Random().sample(range(20000, 32768), 12768))


def free_port() -> int:
    """One that nothing listens on and that was never given before in this process.

    A port that the system chose is free again before its server starts, and may be chosen a second time: two of one
    node's would be the same.
    """
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port between 20000 and 32768 is free")
