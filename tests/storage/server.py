"""A server of files over HTTP/1.1 that can be told to go wrong, and that remembers what it was asked."""

from __future__ import annotations

import hashlib
import http.server
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

DATE = "Wed, 21 Oct 2020 07:28:00 GMT"


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    headers: dict[str, str]


Fault = Callable[["Handler", bytes], None]


@dataclass
class Server:
    """Files by path, query included, and what is wrong with the server."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    """What the next requests meet, in this order, instead of an answer."""
    always: Fault | None = None
    """What all requests after those meet."""
    ranges: bool = True
    etags: bool = True
    lengths: bool = True
    head: int = 200
    log: list[Request] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Callable[[], None]:
        """Serve, until the function that this gives is called."""
        server = _Quiet(("127.0.0.1", 0), type("Bound", (Handler,), {"state": self}))
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

        def stop() -> None:
            self.ended.set()
            server.shutdown()
            server.server_close()

        return stop


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        state = self.state
        state.log.append(Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        data = state.files.get(self.path)
        fault = state.faults.pop(0) if state.faults else state.always
        if fault is not None:
            fault(self, data or b"")
        elif self.command == "HEAD" and state.head != 200:
            self.answer(state.head)
        elif data is None:
            self.answer(404)
        else:
            self.serve(data)

    do_HEAD = do_GET  # noqa: N815 - http.server wants it so

    def serve(self, data: bytes, only: int | None = None) -> None:
        """The file, or the range of it that is asked for; of that the first `only` bytes, and then nothing more."""
        headers = {"ETag": self.etag(data)} if self.state.etags else {}
        headers["Last-Modified"] = DATE
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, headers.get("ETag"))
        status, body = 200, data
        if wanted and self.state.ranges and same:
            start, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            if start >= len(data):
                self.answer(416, {**headers, "Content-Range": f"bytes */{len(data)}"})
                return
            status, body = 206, data[start : end + 1]
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        self.answer(status, headers, body, only)

    def etag(self, data: bytes) -> str:
        return f'"{hashlib.md5(data).hexdigest()}"'

    def answer(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", only: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header(*(("Content-Length", str(len(body))) if self.state.lengths else ("Connection", "close")))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:only])
        self.close_connection = only is not None or not self.state.lengths


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Fault:
    """An answer with this status."""
    return lambda handler, _: handler.answer(code, headers, body)


def cut(after: int) -> Fault:
    """The body ends early, and the connection with it."""
    return lambda handler, data: handler.serve(data, after)


def reset(handler: Handler, _: bytes) -> None:
    """The connection is reset before there is an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def silence(handler: Handler, _: bytes) -> None:
    """No answer, for longer than anyone waits."""
    handler.state.ended.wait(30)
    handler.close_connection = True


def drip(handler: Handler, data: bytes) -> None:
    """A byte every tenth of a second: never silent, never done."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    for n in range(len(data)):
        handler.wfile.write(data[n : n + 1])
        if handler.state.ended.wait(0.1):
            break
    handler.close_connection = True


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are what these tests are about."""
