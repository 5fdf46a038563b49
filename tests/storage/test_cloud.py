"""Object storage that goes wrong: what obstore retries, what it does not, and what becomes of it here."""

from __future__ import annotations

import datetime as dt
import os
import time

import pytest
from obstore.exceptions import GenericError

from facebatch import config, tally
from facebatch.errors import UsageError
from facebatch.storage import AccessDenied, NotFound, Storage, StorageError, TooLarge
from facebatch.storage.credentials import Credentials
from tests.storage.server import DATE, Fault, Handler, Server, cut, reset, silence, status

DATA = os.urandom(100_000)
RETRIES = 2
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
KEYS = Credentials(
    {"s3": {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "s3cret-key", "session_token": "t0ken"}}
)
URI = "s3://bucket/photos/a.jpg"


def error(code: int, name: str) -> Fault:
    """An answer as S3 gives it."""
    return status(code, {"Content-Type": "application/xml"}, f"<Error><Code>{name}</Code></Error>".encode())


SLOW_DOWN, INTERNAL, TOO_MANY = error(503, "SlowDown"), error(500, "InternalError"), error(429, "TooManyRequests")


@pytest.fixture
def storage(server: Server) -> Storage:
    server.files["/bucket/photos/a.jpg"] = DATA
    return Storage(config.Storage(endpoint=server.url, region="here", retries=RETRIES, timeout=1), KEYS)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "fault",
    [SLOW_DOWN, INTERNAL, TOO_MANY, reset, silence, cut(30_000), cut(0)],
    ids=["503", "500", "429", "reset", "silence", "cut", "cut at once"],
)
def test_what_passes_is_tried_again(storage: Storage, server: Server, fault: Fault) -> None:
    server.faults = [fault] * RETRIES
    assert storage.read(URI)[0] == DATA
    assert len(server.log) == RETRIES + 1


@pytest.mark.parametrize(
    "fault", [SLOW_DOWN, INTERNAL, reset, silence, cut(0)], ids=["503", "500", "reset", "silence", "cut"]
)
def test_what_does_not_pass_is_an_error_after_all_retries(storage: Storage, server: Server, fault: Fault) -> None:
    server.always = fault
    began = time.monotonic()
    with pytest.raises(StorageError, match=URI) as error:
        storage.read(URI)
    assert type(error.value) is StorageError
    assert len(server.log) == RETRIES + 1
    assert time.monotonic() - began < (RETRIES + 1) * 1 + 2


def test_all_retries_are_made_however_long_each_attempt_takes(server: Server) -> None:
    """obstore also has a limit of its own to the time from the first attempt on."""
    server.always = silence
    storage = Storage(config.Storage(endpoint=server.url, region="here", retries=5, timeout=1), KEYS)
    with pytest.raises(StorageError):
        storage.read(URI)
    assert len(server.log) == 6


def test_a_stream_survives_the_same(storage: Storage, server: Server) -> None:
    with storage.open(URI) as stream:
        server.faults = [SLOW_DOWN, cut(10)]
        assert stream.read() == DATA


def test_a_refusal_is_denied_at_once(storage: Storage, server: Server) -> None:
    server.always = error(403, "AccessDenied")
    for read in (storage.read, storage.open, storage.stat):
        server.log.clear()
        with pytest.raises(AccessDenied, match=URI):
            read(URI)
        assert len(server.log) == 1


def test_what_is_not_there_is_not_asked_for_again(storage: Storage, server: Server) -> None:
    server.always = error(404, "NoSuchKey")
    with pytest.raises(NotFound, match=URI):
        storage.read(URI)
    assert storage.stat(URI) is None
    assert len(server.log) == 2


def test_too_large_is_known_before_the_body_is_read(storage: Storage, server: Server) -> None:
    server.always = cut(0)
    with pytest.raises(TooLarge, match="has 100000 bytes, at most 99999") as error:
        storage.read(URI, most=99_999)
    assert error.value.size == 100_000


def test_requests_are_signed_with_what_the_driver_gave_and_nothing_else(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of one place with the token of another are refused by S3."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another-token")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAANOTHER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setenv("AWS_REGION", "there")
    server.files["/bucket/a"] = b"a"
    keys = Credentials({"s3": {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "s3cret-key", "region": "here"}})
    Storage(config.Storage(endpoint=server.url, retries=0), keys).read("s3://bucket/a")
    (request,) = server.log
    assert "Credential=AKIAEXAMPLE/" in request.headers["authorization"]
    assert "/here/s3/" in request.headers["authorization"]
    assert "x-amz-security-token" not in request.headers


def test_anonymous_requests_carry_no_signature(server: Server) -> None:
    server.files["/bucket/a"] = b"a"
    Storage(config.Storage(endpoint=server.url, anonymous=True), KEYS).read("s3://bucket/a")
    (request,) = server.log
    assert not {"authorization", "x-amz-security-token"} & request.headers.keys()


def test_an_endpoint_of_the_environment_counts_unless_another_is_given(server: Server) -> None:
    server.files["/bucket/a"] = b"a"
    found = Credentials({"s3": {**KEYS.of("s3"), "endpoint": server.url}})
    assert Storage(config.Storage(region="here"), found).read("s3://bucket/a")[0] == b"a"
    with pytest.raises(StorageError):
        Storage(config.Storage(endpoint="http://127.0.0.1:9", retries=0), found).read("s3://bucket/a")


def test_a_variable_that_obstore_prefers_to_the_endpoint_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://user:s3cret@elsewhere")
    with pytest.raises(UsageError, match=r"AWS_ENDPOINT_URL_S3 is set to http://user:\*\*\*@elsewhere; unset it"):
        Storage(config.Storage(endpoint=server.url), KEYS).read("s3://bucket/a")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    server.files["/bucket/a"] = b"a"
    assert Storage(config.Storage(endpoint=server.url), KEYS).read("s3://bucket/a")[0] == b"a"


def test_an_endpoint_with_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match=r"http://user:\*\*\*@minio:9000") as error:
        Storage(config.Storage(endpoint="http://user:s3cret@minio:9000"), KEYS).read("s3://bucket/a")
    assert "s3cret" not in repr(error.value)


def test_google_and_azure_speak_to_emulators(server: Server) -> None:
    """Enough of both to see that requests arrive: fake-gcs-server and Azurite have addresses like these."""
    server.files["/b/a"] = server.files["/devstoreaccount1/b/a"] = b"a"
    google = Storage(config.Storage(endpoint=server.url, anonymous=True, retries=0), Credentials())
    assert google.read("gs://b/a")[0] == b"a"
    account = Credentials({"az": {"account_name": "devstoreaccount1"}})
    options = config.Storage(endpoint=f"{server.url}/devstoreaccount1", anonymous=True, retries=0)
    assert Storage(options, account).read("az://b/a")[0] == b"a"
    with pytest.raises(NotFound):
        google.read("gs://b/none")


class Listing:
    """obstore's stream of pages: one is given, then the body breaks off, and whoever asks on is told that was all."""

    def __init__(self, keys: list[str], breaks: bool) -> None:
        self._pages = [[{"path": key, "size": 1, "last_modified": NOW, "e_tag": "1"} for key in keys]]
        self._breaks = breaks

    def __iter__(self) -> Listing:
        return self

    def __next__(self) -> list[dict[str, object]]:
        if self._pages:
            return self._pages.pop()
        if self._breaks:
            self._breaks = False
            raise GenericError("Error getting list response body: HTTP error: request or response body error")
        raise StopIteration


def _listed(uri: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a listing of three keys gives that breaks off behind the second."""
    keys = ["a/1", "a/2", "a/3"]

    def pages(store: object, prefix: str | None, *, offset: str | None, chunk_size: int) -> Listing:
        return (
            Listing([key for key in keys if key > offset], breaks=False) if offset else Listing(keys[:2], breaks=True)
        )

    monkeypatch.setattr("facebatch.storage.cloud.obstore.list", pages)
    options = config.Storage(anonymous=True, retries=RETRIES)
    storage = Storage(options, Credentials({"az": {"account_name": "a"}}))
    return [found.uri for found in storage.objects(uri)]


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_a_listing_that_breaks_off_goes_on_behind_what_it_gave(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tally.taken()
    assert _listed(f"{kind}://b/a", monkeypatch) == [f"{kind}://b/a/{k}" for k in (1, 2, 3)]
    assert tally.taken() == {"retries/request": 1}


def test_a_listing_of_azure_that_breaks_off_is_an_error_and_never_taken_for_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its order is not known to be that of the keys, so it cannot go on behind one."""
    with pytest.raises(StorageError, match="az://b/a: .*body error"):
        _listed("az://b/a", monkeypatch)


@pytest.mark.parametrize(
    ("uri", "given"),
    [
        ("gs://b/a", {"gs": {"service_account_key": '{"private_key": "s3cret-key"}'}}),
        ("gs://b/a", {"gs": {"application_credentials": '{"type": "s3cret-key"}'}}),
        ("az://b/a", {"az": {"account_name": "a", "account_key": "s3cret-key!"}}),
        ("s3://b/a", {"s3": {"secret_access_key": "s3cret-key"}}),
    ],
)
def test_credentials_that_are_none_are_one_sentence_without_them(uri: str, given: dict[str, dict[str, str]]) -> None:
    with pytest.raises(UsageError, match="cannot be used with these storage settings") as error:
        Storage(credentials=Credentials(given)).read(uri)
    assert "s3cret" not in f"{error.value!r}{error.value.__cause__!r}"


def test_the_content_of_a_file_serves_where_the_file_is_not(server: Server) -> None:
    server.files["/b/a"] = b"a"
    account = '{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}'
    options = config.Storage(endpoint=server.url, retries=0, timeout=1)
    assert Storage(options, Credentials({"gs": {"service_account": account}})).read("gs://b/a")[0] == b"a"


def test_a_body_that_comes_too_slowly_is_cut_off_and_goes_on_where_it_was(storage: Storage, server: Server) -> None:
    def half(handler: Handler, data: bytes) -> None:
        handler.answer(200, {"ETag": handler.etag(data), "Last-Modified": DATE}, data, 50_000)
        handler.wfile.flush()
        server.ended.wait(5)

    server.faults = [half]
    began = time.monotonic()
    assert storage.read(URI)[0] == DATA
    assert time.monotonic() - began < 3
    assert server.log[1].headers["range"] == "bytes=50000-99999"


def test_without_any_credentials_the_error_says_how_to_give_some(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore then asks for the role of the machine, and what fails is a request to an address that no one knows."""
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", server.url)
    with pytest.raises(StorageError, match="s3://b/a: no credentials are set .*storage.profile, .*/latest/api/token"):
        Storage(config.Storage(region="here", retries=0), Credentials()).read("s3://b/a")
