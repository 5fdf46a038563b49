"""A proxy before an S3 server that lets requests through, or not, or halfway."""

from __future__ import annotations

import http.client
import http.server
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = tuple[int, list[tuple[str, str]], bytes]
Fault = Callable[["Handler"], None]
_HOP = {"connection", "transfer-encoding"}


@dataclass
class Rule:
    """What some requests meet. method: of these; part: of the path, or of the query, unquoted; after: so many of them
    pass before; times: so many are met, then it is over; None: all."""

    fault: Fault
    method: str = "GET"
    part: str = ""
    times: int | None = None
    after: int = 0

    def meets(self, method: str, path: str) -> bool:
        if method not in self.method.split() or self.part not in path or self.times == 0:
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class Proxy:
    """Runs until `stop`. met: how many requests met a rule."""

    target: str
    rules: list[Rule] = field(default_factory=list)
    met: int = 0
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        self._server = _Quiet(("127.0.0.1", 0), type("Bound", (Handler,), {"proxy": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, *_: Any) -> None:
        pass

    def handle_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.proxy.lock:
            path = unquote(self.path)
            rule = next((rule for rule in self.proxy.rules if rule.meets(self.command, path)), None)
            self.proxy.met += rule is not None
        if rule:
            rule.fault(self)
        else:
            self.answer(*self.forwarded())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - http.server wants it so

    def forwarded(self) -> Answer:
        """What the server says. The request is passed on as it is: its signature covers the proxy's own name."""
        connection = http.client.HTTPConnection(urlsplit(self.proxy.target).netloc, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(self.body or None)
            said = connection.getresponse()
            ours = _HOP if self.command == "HEAD" else {*_HOP, "content-length"}
            return said.status, [(k, v) for k, v in said.getheaders() if k.lower() not in ours], said.read()
        finally:
            connection.close()

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, only: int | None = None) -> None:
        """only: so many bytes of the body, and then nothing more."""
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD" and status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:only])
        self.close_connection = only is not None


def status(code: int, word: str) -> Fault:
    """A refusal as S3 words it."""
    body = f'<?xml version="1.0"?><Error><Code>{word}</Code><Message>{word}</Message></Error>'.encode()
    return lambda handler: handler.answer(code, [("Content-Type", "application/xml")], body)


def cut(handler: Handler) -> None:
    """The body ends in the middle, and the connection with it."""
    said = handler.forwarded()
    handler.answer(*said, only=len(said[2]) // 2)


def reset(handler: Handler) -> None:
    """The connection is reset before there is an answer, and before the server has heard of it."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def lost(handler: Handler) -> None:
    """The server does what it is told, and nobody hears its answer."""
    handler.forwarded()
    reset(handler)


def drip(handler: Handler) -> None:
    """A few bytes at a time: never silent, never done."""
    code, headers, body = handler.forwarded()
    handler.answer(code, headers, body, only=0)
    for n in range(0, len(body), 2):
        handler.wfile.write(body[n : n + 2])
        if handler.proxy.ended.wait(0.2):
            break


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are what these tests are about."""
