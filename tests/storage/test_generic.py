"""File systems of fsspec that fail: what is tried again, and what becomes of what is not."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from facebatch import config, tally
from facebatch.errors import UsageError
from facebatch.storage import AccessDenied, NotFound, Storage, StorageError, TooLarge
from facebatch.storage.credentials import Credentials

RETRIES = 3
URI = "flaky://photos/a.jpg"


class OfItsOwnKind(Exception):
    """As aiohttp's and paramiko's: of no family that anyone knows."""


class WithStatus(OfItsOwnKind):
    """As those of clients that speak HTTP underneath."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """Files in memory, whose calls fail in a given way first."""

    protocol = ("flaky",)
    store: dict[str, Any] = {}  # noqa: RUF012 - as in its base class
    pseudo_dirs = [""]  # noqa: RUF012
    cachable = False
    faults: list[BaseException] = []  # noqa: RUF012
    calls = 0
    host: str | None = None

    def __init__(self, host: str | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        type(self).host = host

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.replace("flaky://", "memory://"))
        return stripped

    @classmethod
    def _fail(cls) -> None:
        cls.calls += 1
        if cls.faults:
            raise cls.faults.pop(0)

    def ls(self, path: str, detail: bool = True, **settings: Any) -> Any:
        self._fail()
        return super().ls(path, detail, **settings)

    def info(self, path: str, **settings: Any) -> Any:
        self._fail()
        return super().info(path, **settings)

    def cat_file(self, path: str, *words: Any, **settings: Any) -> Any:
        self._fail()
        with MemoryFileSystem._open(self, self._strip_protocol(path)) as file:
            return file.read()

    def _open(self, path: str, *words: Any, **settings: Any) -> Any:
        self._fail()
        return _Reader(super()._open(path, *words, **settings), self._fail)


class _Reader:
    def __init__(self, file: Any, fail: Any) -> None:
        self._file, self._fail = file, fail

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self._fail()  # after it has moved on, which is the harder case
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.fixture
def flaky() -> type[Flaky]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.faults, Flaky.calls, Flaky.store, Flaky.pseudo_dirs = [], 0, {}, [""]
    MemoryFileSystem.pipe_file(Flaky(), "/photos/a.jpg", b"photo")
    MemoryFileSystem.pipe_file(Flaky(), "/photos/2020/b.jpg", b"b")
    Flaky.calls = 0
    return Flaky


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr("facebatch.storage.generic._LONGEST_WAIT", 0.01)
    return Storage(config.Storage(retries=RETRIES))


PASSING = [
    OSError("connection lost"),
    OSError(errno.EIO, "Input/output error"),
    TimeoutError("no answer"),
    ConnectionResetError("reset by peer"),
    OfItsOwnKind("server disconnected"),
    WithStatus(503),
    WithStatus(429),
    EOFError(),
]
LASTING = [
    (FileNotFoundError("a.jpg"), NotFound),
    (WithStatus(404), NotFound),
    (PermissionError("no"), AccessDenied),
    (WithStatus(403), AccessDenied),
    (WithStatus(400), StorageError),
    (OSError(errno.EINVAL, "Invalid argument"), StorageError),
    (TypeError("a mistake in a program"), StorageError),
    (KeyError("a mistake in a program"), StorageError),
    (NotImplementedError(), StorageError),
]


@pytest.mark.parametrize("fault", PASSING, ids=repr)
def test_what_passes_is_tried_again(storage: Storage, flaky: type[Flaky], fault: Exception) -> None:
    calls: list[Callable[[], bool]] = [
        lambda: storage.read(URI)[0] == b"photo",
        lambda: storage.stat(URI) is not None,
        lambda: storage.open(URI).read() == b"photo",
        lambda: len(list(storage.objects("flaky://photos/"))) == 2,
    ]
    for again in calls:
        flaky.faults = [fault] * RETRIES
        tally.taken()
        assert again()
        assert flaky.faults == []
        assert tally.taken() == {"retries/request": RETRIES}


@pytest.mark.parametrize("fault", PASSING, ids=repr)
def test_what_does_not_pass_is_an_error_after_all_retries(
    storage: Storage, flaky: type[Flaky], fault: Exception
) -> None:
    flaky.faults = [fault] * 100
    with pytest.raises(StorageError, match=URI) as error:
        storage.read(URI)
    assert type(error.value) is StorageError
    assert flaky.calls == RETRIES + 1


@pytest.mark.parametrize(("fault", "kind"), LASTING, ids=repr)
def test_what_stays_wrong_is_not_tried_again(
    storage: Storage, flaky: type[Flaky], fault: Exception, kind: type[StorageError]
) -> None:
    flaky.faults = [fault]
    with pytest.raises(StorageError) as error:
        storage.read(URI)
    assert type(error.value) is kind
    assert flaky.calls == 1


def test_a_stream_goes_on_where_its_read_failed(storage: Storage, flaky: type[Flaky]) -> None:
    with storage.open(URI) as stream:
        stream.seek(2)
        flaky.faults = [OSError("connection lost")] * RETRIES
        assert stream.read() == b"oto"
        stream.seek(0)
        flaky.faults = [OSError("connection lost")] * 100
        with pytest.raises(StorageError, match=URI):
            stream.read()


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(storage: Storage, flaky: type[Flaky]) -> None:
    """fsspec's own walk leaves it out."""
    flaky.faults = [OSError("connection lost")] * 100
    with pytest.raises(StorageError, match="flaky://photos"):
        list(storage.objects("flaky://photos/"))


def test_too_large_is_known_before_it_is_read(storage: Storage, flaky: type[Flaky]) -> None:
    with pytest.raises(TooLarge, match="has 5 bytes, at most 4") as error:
        storage.read(URI, most=4)
    assert error.value.size == 5
    assert flaky.calls == 1
    assert storage.read(URI, most=5)[0] == b"photo"


def test_settings_of_fsspec_travel(flaky: type[Flaky]) -> None:
    """As in FSSPEC_SFTP_USERNAME; fsspec itself reads them once, in the process that they are set for."""
    Storage(credentials=Credentials({"fsspec": {"FSSPEC_FLAKY_HOST": "nas"}})).stat(URI)
    assert flaky.host == "nas"


def test_a_host_that_cannot_be_reached_is_an_error() -> None:
    with pytest.raises((StorageError, UsageError), match="ftp://127.0.0.1:9"):
        Storage().stat("ftp://127.0.0.1:9/a.jpg")
