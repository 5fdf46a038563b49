"""HTTP: plain servers, poor ones, and what goes wrong between here and there."""

from __future__ import annotations

import os
import time

import pytest

from facebatch import config, tally
from facebatch.errors import UsageError
from facebatch.storage import UNSIZED, AccessDenied, Changed, NotFound, Storage, StorageError, TooLarge
from tests.storage.server import Fault, Handler, Server, cut, drip, reset, silence, status

DATA = os.urandom(100_000)
RETRIES = 2


@pytest.fixture
def uri(server: Server) -> str:
    server.files["/photos/a.jpg"] = DATA
    return f"{server.url}/photos/a.jpg"


@pytest.fixture
def storage() -> Storage:
    return Storage(config.Storage(retries=RETRIES, timeout=1))


def test_an_object_has_a_size_and_a_version_that_are_the_same_in_all_answers(storage: Storage, uri: str) -> None:
    found = storage.stat(uri)
    data, now = storage.read(uri)
    assert found is not None
    assert (data, now) == (DATA, found)
    assert (found.uri, found.size) == (uri, len(DATA))
    assert found.version.startswith('"')


def test_without_an_etag_the_date_is_the_version(storage: Storage, server: Server, uri: str) -> None:
    server.etags = False
    assert storage.read(uri)[1].version == "1603265280000000000"


@pytest.mark.parametrize("refusal", [403, 405, 501])
def test_a_server_that_refuses_head_is_asked_for_the_first_byte(
    storage: Storage, server: Server, uri: str, refusal: int
) -> None:
    expected = storage.stat(uri)
    server.head = refusal
    server.log.clear()
    assert storage.stat(uri) == expected
    assert [(r.method, r.headers.get("range")) for r in server.log] == [("HEAD", None), ("GET", "bytes=0-0")]


@pytest.mark.parametrize("refusal", [405, 200])
def test_an_empty_object_is_an_object(storage: Storage, server: Server, refusal: int) -> None:
    server.files["/empty"] = b""
    server.head = refusal
    found = storage.stat(f"{server.url}/empty")
    assert found is not None
    assert found.size == 0
    assert storage.read(f"{server.url}/empty")[0] == b""
    with storage.open(f"{server.url}/empty") as stream:
        assert stream.read() == b""


def test_a_server_that_does_not_tell_sizes_is_read_to_the_end(storage: Storage, server: Server, uri: str) -> None:
    """And asking for an object does not read it: it may be a tar of gigabytes."""
    server.lengths = server.ranges = False
    found = storage.stat(uri)
    assert found is not None
    assert found.size == UNSIZED
    with storage.open(uri) as stream:
        assert stream.read() == DATA
    assert storage.read(uri)[0] == DATA
    with pytest.raises(TooLarge):
        storage.read(uri, most=10)


@pytest.mark.parametrize("code", [404, 410])
def test_what_is_not_there_is_not_asked_for_again(storage: Storage, server: Server, uri: str, code: int) -> None:
    server.always = status(code)
    assert storage.stat(uri) is None
    for read in (storage.read, storage.open):
        server.log.clear()
        with pytest.raises(NotFound, match="a.jpg"):
            read(uri)
        assert len(server.log) == 1


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusal_is_denied_at_once(storage: Storage, server: Server, uri: str, code: int) -> None:
    server.always = status(code)
    for read in (storage.read, storage.open):
        server.log.clear()
        with pytest.raises(AccessDenied, match=str(code)):
            read(uri)
        assert len(server.log) == 1
    with pytest.raises(AccessDenied):
        storage.stat(uri)


def test_a_mistake_of_ours_is_not_repeated(storage: Storage, server: Server, uri: str) -> None:
    server.always = status(400)
    with pytest.raises(StorageError, match="400"):
        storage.read(uri)
    assert len(server.log) == 1


@pytest.mark.parametrize(
    "fault",
    [status(503), status(500), status(502), status(504), status(429), reset, silence, cut(30_000), cut(0), drip],
    ids=["503", "500", "502", "504", "429", "reset", "silence", "cut", "cut at once", "drip"],
)
def test_what_passes_is_tried_again(storage: Storage, server: Server, uri: str, fault: Fault) -> None:
    server.faults = [fault] * RETRIES
    tally.taken()
    assert storage.read(uri)[0] == DATA
    assert len(server.log) == RETRIES + 1
    assert tally.taken() == {"retries/request": RETRIES}


@pytest.mark.parametrize("fault", [status(503), reset, silence, cut(0)], ids=["503", "reset", "silence", "cut"])
def test_what_does_not_pass_is_an_error_after_all_retries(
    storage: Storage, server: Server, uri: str, fault: Fault
) -> None:
    server.always = fault
    tally.taken()
    began = time.monotonic()
    with pytest.raises(StorageError, match="photos/a.jpg") as error:
        storage.read(uri)
    assert type(error.value) is StorageError
    assert tally.taken() == {"retries/request": RETRIES}
    assert len(server.log) == RETRIES + 1
    assert time.monotonic() - began < (RETRIES + 1) * 1 + 2


def test_retries_of_bodies_and_of_answers_count_together(storage: Storage, server: Server, uri: str) -> None:
    server.faults = [cut(0), status(503), cut(0)]
    with pytest.raises(StorageError, match=r"IncompleteRead\(0 bytes read, 100000 more expected\)"):
        storage.read(uri)
    assert len(server.log) == RETRIES + 1


def test_a_server_says_when_to_come_back(storage: Storage, server: Server, uri: str) -> None:
    server.faults = [status(503, {"Retry-After": "1"})]
    began = time.monotonic()
    assert storage.read(uri)[0] == DATA
    assert time.monotonic() - began >= 1


def test_a_body_goes_on_where_it_broke_off(storage: Storage, server: Server, uri: str) -> None:
    server.faults = [cut(60_000)]
    assert storage.read(uri)[0] == DATA
    assert server.log[1].headers["range"] == "bytes=60000-"
    assert server.log[1].headers["if-range"] == storage.read(uri)[1].etag


def test_a_body_that_was_replaced_in_the_middle_starts_over(storage: Storage, server: Server, uri: str) -> None:
    def cut_and_replace(handler: Handler, data: bytes) -> None:
        handler.serve(data, 60_000)
        server.files["/photos/a.jpg"] = b"new" * 50_000

    server.faults = [cut_and_replace]
    assert storage.read(uri)[0] == b"new" * 50_000


def test_a_stream_reads_ranges_and_survives_their_faults(storage: Storage, server: Server, uri: str) -> None:
    with storage.open(uri) as stream:
        server.faults = [cut(10), status(503)]
        assert stream.read() == DATA
        stream.seek(-10, os.SEEK_END)
        assert stream.read() == DATA[-10:]
    assert all("range" in request.headers for request in server.log)


@pytest.mark.parametrize("etags", [True, False])
def test_a_stream_notices_that_its_object_was_replaced(storage: Storage, server: Server, uri: str, etags: bool) -> None:
    server.etags = etags
    with storage.open(uri) as stream:
        server.files["/photos/a.jpg"] = DATA + b"more"
        with pytest.raises(Changed, match="a.jpg was replaced"):
            stream.read()


def test_a_stream_from_a_server_without_ranges_is_one_copy(storage: Storage, server: Server, uri: str) -> None:
    server.ranges = False
    with storage.open(uri) as stream:
        server.log.clear()
        assert stream.seek(50_000) == 50_000
        assert stream.read() == DATA[50_000:]
        assert stream.seek(0) == 0
        assert stream.read(3) == DATA[:3]
    assert server.log == []


def test_a_copy_that_broke_off_is_made_again_and_never_taken_for_whole(
    storage: Storage, server: Server, uri: str
) -> None:
    server.ranges = False
    server.faults = [cut(1), cut(10), cut(50_000)]
    with storage.open(uri) as stream:
        assert stream.read() == DATA
    server.always = cut(50_000)
    with pytest.raises(StorageError):
        storage.open(uri)


def test_too_large_is_known_before_the_body_is_read(storage: Storage, server: Server, uri: str) -> None:
    server.always = cut(0)
    with pytest.raises(TooLarge, match="has 100000 bytes, at most 99999") as error:
        storage.read(uri, most=99_999)
    assert error.value.size == 100_000
    server.always = None
    assert storage.read(uri, most=100_000)[0] == DATA


def test_queries_are_part_of_the_address_and_of_no_message(storage: Storage, server: Server) -> None:
    server.files["/a.jpg?signature=s3cret%2Fx&n=1"] = b"a"
    uri = f"{server.url}/a.jpg?signature=s3cret%2Fx&n=1"
    assert storage.read(uri)[0] == b"a"
    for fault in (status(403), status(404), status(400), status(503), reset, silence, cut(0)):
        server.always = fault
        with pytest.raises(StorageError, match=r"a.jpg\?\.\.\.") as error:
            storage.read(uri)
        assert "s3cret" not in f"{error.value}{error.value!r}{error.value.__cause__}"


def test_redirects_are_followed(storage: Storage, server: Server, uri: str) -> None:
    def redirect(handler: Handler, _: bytes) -> None:
        handler.answer(302, {"Location": "/photos/a.jpg"})

    for read in (storage.read, storage.stat, storage.open):
        server.faults = [redirect]
        assert read(f"{server.url}/elsewhere")


def test_http_has_no_folders(storage: Storage, server: Server) -> None:
    for listing in (storage.objects, storage.folder):
        with pytest.raises(UsageError, match="manifest"):
            listing(f"{server.url}/photos/")


def test_http_is_for_reading_only(storage: Storage, uri: str) -> None:
    with pytest.raises(UsageError, match="reading only"):
        storage.put(uri, b"")
    with pytest.raises(UsageError, match="no conditional create"):
        storage.check_writable(uri)


def test_an_address_that_is_none_is_an_error(storage: Storage) -> None:
    for uri in ("http://", "http://[::1", "http://127.0.0.1:9/a"):
        with pytest.raises(StorageError, match="http://"):
            storage.read(uri)
