"""Downloads: interrupted ones go on, wrong ones are thrown away, and without a network the user is told what to do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from facebatch import packs, pull
from facebatch.errors import FacebatchError
from facebatch.packs import File, Pack, Weights
from facebatch.resources import folder
from tests.test_cli import run

BODY = bytes(range(256)) * 2000


@dataclass
class Server:
    """Serves BODY, misbehaving as it is told to."""

    breaks: list[int] = field(default_factory=list)
    """After how many bytes the next answers break off."""
    statuses: list[int] = field(default_factory=list)
    """What the next answers are instead of the file."""
    ranges: bool = True
    body: bytes = BODY
    asked: list[str | None] = field(default_factory=list)
    """The Range header of each request."""
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "cache"))
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers["Range"])
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            start = 0
            if state.ranges and self.headers["Range"]:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                if start >= len(state.body):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(state.body) - start))
            self.end_headers()
            end = start + state.breaks.pop(0) if state.breaks else len(state.body)
            self.wfile.write(state.body[start:end])

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/model.onnx"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def _pack(url: str | None, sha256: str | None = None) -> Pack:
    file = File("some/model.onnx", sha256 or hashlib.sha256(BODY).hexdigest(), len(BODY), url)
    return replace(packs.pack("yunet-n"), weights=Weights((file,), origin="a friend"))


def _pulled(server: Server) -> tuple[bytes, list[int]]:
    seen: list[int] = []
    (path,) = pull.pull(_pack(server.url), lambda _, done: seen.append(done))
    assert path == packs.cache_folder() / "some" / "model.onnx"
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"], "nothing half-done lies about"
    return path.read_bytes(), seen


def test_a_file_is_put_into_the_cache_and_progress_is_told(server: Server) -> None:
    data, seen = _pulled(server)
    assert data == BODY
    assert seen[-1] == len(BODY)
    assert seen == sorted(seen)


def test_what_is_there_is_not_fetched_again(server: Server) -> None:
    _pulled(server)
    server.asked.clear()
    assert _pulled(server)[0] == BODY
    assert server.asked == []


def test_a_connection_that_breaks_is_gone_on_with(server: Server) -> None:
    server.breaks = [2 << 16, 1 << 16]
    assert _pulled(server)[0] == BODY
    assert server.asked == [None, f"bytes={2 << 16}-", f"bytes={3 << 16}-"]


def test_a_download_that_was_killed_is_gone_on_with(server: Server) -> None:
    part = packs.cache_folder() / "some" / "model.onnx.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY[:300_000])
    assert _pulled(server)[0] == BODY
    assert server.asked == ["bytes=300000-"]


def test_a_download_that_was_killed_at_its_very_end_is_finished(server: Server) -> None:
    part = packs.cache_folder() / "some" / "model.onnx.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY)
    assert _pulled(server)[0] == BODY


def test_a_server_without_ranges_starts_over(server: Server) -> None:
    server.ranges, server.breaks = False, [100_000]
    assert _pulled(server)[0] == BODY


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.statuses = [503, 429]
    assert _pulled(server)[0] == BODY
    assert len(server.asked) == 3


def test_another_file_is_thrown_away(server: Server) -> None:
    server.body = b"<html>404, but politely</html>"
    with pytest.raises(
        FacebatchError,
        match=r"is not the file that pack yunet-n describes: expected 512000 bytes .*received 30 bytes.*nothing was",
    ):
        pull.pull(_pack(server.url), lambda *_: None)
    assert list((packs.cache_folder() / "some").iterdir()) == []


def test_a_refusal_names_the_address_and_the_answer(server: Server) -> None:
    server.statuses = [404]
    with pytest.raises(FacebatchError, match=r"model.onnx was refused: 404 Not Found"):
        pull.pull(_pack(server.url), lambda *_: None)


def test_without_a_network_the_user_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path))
    monkeypatch.setattr(pull, "_TRIES", 1)
    with pytest.raises(FacebatchError) as error:
        pull.pull(_pack("http://127.0.0.1:9/model.onnx"), lambda *_: None)
    for words in (
        "127.0.0.1 cannot be reached",
        "Fetch http://127.0.0.1:9/model.onnx on a machine with a network",
        f"put it at {tmp_path}/some/model.onnx or set FACEBATCH_MODELS to the folder that holds some/model.onnx",
    ):
        assert words in str(error.value)


def test_a_file_without_a_public_address_is_to_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path))
    with pytest.raises(FacebatchError, match=r"has no public address \(a friend\).*models import yunet-n --from FILE"):
        pull.pull(_pack(None), lambda *_: None)


def test_a_full_disk_is_one_sentence(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pull, "_download", full)
    with pytest.raises(FacebatchError, match="cannot be written: .*No space left"):
        pull.pull(_pack(server.url), lambda *_: None)


@pytest.mark.needs_models
def test_the_command_shows_the_licence_first_and_proves_what_came(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = (place for place in packs.find(packs.pack("yunet-n")) if place)
    server.body = Path(source).read_bytes()
    address = str(packs.pack("yunet-n").weights.files[0].url)
    (tmp_path / "models").mkdir()
    for file in folder("models").glob("*.yaml"):
        (tmp_path / "models" / file.name).write_text(file.read_text().replace(address, server.url))
    monkeypatch.setattr(packs, "folder", lambda _: tmp_path / "models")
    monkeypatch.delenv("FACEBATCH_MODELS")
    assert run("models", "pull", "yunet-n") == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(packs.cache_folder() / "yunet" / "yunet_n_dynamic.onnx")
    assert said.err.startswith("yunet-n: licence Apache-2.0, https://")
    assert packs.load("yunet-n", "detector").path == said.out.strip()
    assert run("models", "pull", "edgeface-xs") == 1
    assert "NO COMMERCIAL USE" in capsys.readouterr().err
