"""What every storage promises, said once and checked on a disk and on S3."""

from __future__ import annotations

import datetime
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import fsspec
import pytest

from facebatch.errors import UsageError
from facebatch.storage import UNKNOWN, AccessDenied, NotFound, Storage, StorageError, TooLarge, absolute, join
from facebatch.storage.credentials import Credentials
from tests.s3 import S3

Place = tuple[Storage, str]


def test_what_is_put_can_be_read_listed_and_deleted(place: Place) -> None:
    storage, folder = place
    uri = join(folder, "a", "b.bin")
    storage.put(uri, b"one")
    data, found = storage.read(uri)
    assert (data, found.uri, found.size) == (b"one", uri, 3)
    assert [o.uri for o in storage.objects(folder + "/")] == [uri]
    assert storage.stat(uri) == next(storage.objects(folder + "/"))
    storage.delete(uri)
    assert storage.stat(uri) is None
    storage.delete(uri)


def test_the_version_changes_with_the_content(place: Place) -> None:
    storage, folder = place
    uri = join(folder, "a")
    storage.put(uri, b"one")
    before = storage.stat(uri)
    storage.put(uri, b"two")
    after = storage.stat(uri)
    assert before is not None
    assert after is not None
    assert before.version != after.version


def test_create_writes_only_what_is_not_there(place: Place) -> None:
    storage, folder = place
    uri = join(folder, "a")
    assert storage.create(uri, b"first")
    assert not storage.create(uri, b"second")
    assert storage.read(uri)[0] == b"first"


def test_a_create_that_is_sent_twice_succeeds_twice(place: Place) -> None:
    storage, folder = place
    assert storage.create(join(folder, "a"), b"mine")
    assert storage.create(join(folder, "a"), b"mine")


def test_of_many_creators_one_wins(place: Place) -> None:
    storage, folder = place
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda i: storage.create(join(folder, "a"), f"writer {i}".encode()), range(8)))
    assert sum(won) == 1
    assert storage.read(join(folder, "a"))[0] == f"writer {won.index(True)}".encode()


def test_a_stream_can_be_read_from_anywhere(place: Place) -> None:
    storage, folder = place
    data = os.urandom(3_000_000)
    storage.put(join(folder, "a"), data)
    with storage.open(join(folder, "a")) as stream:
        assert stream.read(10) == data[:10]
        assert stream.seek(2_500_000) == 2_500_000
        assert stream.read(100) == data[2_500_000:2_500_100]
        assert stream.seek(-5, os.SEEK_END) == len(data) - 5
        assert stream.read() == data[-5:]
        assert stream.read(1) == b""


def test_listing_a_folder_that_is_not_there_gives_nothing(place: Place) -> None:
    storage, folder = place
    assert list(storage.objects(join(folder, "nowhere") + "/")) == []


def test_a_folder_is_no_object(place: Place) -> None:
    storage, folder = place
    storage.put(join(folder, "a", "b"), b"x")
    assert storage.stat(join(folder, "a")) is None


def test_a_prefix_lists_only_below_itself(place: Place) -> None:
    storage, folder = place
    storage.put(join(folder, "photos", "a"), b"x")
    storage.put(join(folder, "photos-old", "b"), b"x")
    assert [o.uri for o in storage.objects(join(folder, "photos") + "/")] == [join(folder, "photos", "a")]


def test_listings_go_beyond_one_page(place: Place) -> None:
    storage, folder = place
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: storage.put(join(folder, f"{i:05d}"), b""), range(1100)))
    assert sum(1 for _ in storage.objects(folder + "/")) == 1100


def test_what_is_not_there_is_reported_by_name(place: Place) -> None:
    storage, folder = place
    for read in (storage.read, storage.open):
        with pytest.raises(NotFound, match="no-such-thing"):
            read(join(folder, "no-such-thing"))


def test_what_is_larger_than_wanted_is_not_read(place: Place) -> None:
    storage, folder = place
    storage.put(join(folder, "a"), b"12345")
    assert storage.read(join(folder, "a"), most=5)[0] == b"12345"
    with pytest.raises(TooLarge, match="a has 5 bytes, at most 4 are read") as error:
        storage.read(join(folder, "a"), most=4)
    assert error.value.size == 5
    assert pickle.loads(pickle.dumps(error.value)).size == 5, "it comes back from other processes"


def test_a_storage_travels_to_other_processes(place: Place) -> None:
    storage, folder = place
    storage.put(join(folder, "a"), b"x")
    assert pickle.loads(pickle.dumps(storage)).read(join(folder, "a"))[0] == b"x"


def test_a_bucket_that_is_not_there_is_an_error_and_not_an_empty_one(s3: S3) -> None:
    with pytest.raises(StorageError, match="no-such-bucket"):
        list(Storage(s3.options).objects("s3://no-such-bucket/x/"))


def test_an_unreachable_endpoint_is_an_error_that_names_the_object() -> None:
    from facebatch import config

    options = config.Storage(endpoint="http://127.0.0.1:9", region="us-east-1", retries=0, timeout=1)
    with pytest.raises(StorageError, match="s3://bucket/key"):
        Storage(options).read("s3://bucket/key")


def test_a_killed_write_leaves_the_old_file_and_nothing_that_a_glob_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, uri = Storage(), str(tmp_path / "a.parquet")
    storage.put(uri, b"old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        storage.put(uri, b"new")
    assert storage.read(uri)[0] == b"old"
    assert [p.name for p in tmp_path.glob("*.parquet")] == ["a.parquet"]


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    from facebatch.storage.local import _translated

    with pytest.raises(OSError, match="No space") as full, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert "the disk is full; free some space" in str(_translated(full.value, "out/a.parquet"))


def test_a_file_that_may_not_be_read_is_denied(tmp_path: Path) -> None:
    from facebatch.storage.local import _translated

    assert isinstance(_translated(PermissionError(13, "Permission denied"), "a"), AccessDenied)


def test_names_that_are_no_utf8_are_found_and_read(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    storage = Storage()
    (found,) = storage.objects(str(tmp_path))
    assert found.uri == str(tmp_path / "caf\\xe9.jpg")
    assert storage.read(found.uri, found.raw)[0] == b"x"
    with storage.open(found.uri, found.raw) as stream:
        assert stream.read() == b"x"


def test_a_disk_lists_links_to_files_but_neither_loops_nor_pipes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert [Path(o.uri).name for o in Storage().objects(str(tmp_path))] == ["a", "broken", "link"]


def test_any_scheme_that_fsspec_knows_can_be_read() -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/photos/2020/a.jpg", b"one")
    storage = Storage()
    (found,) = storage.objects("memory://photos/")
    assert found.uri == "memory://photos/2020/a.jpg"
    assert storage.read(found.uri)[0] == b"one"
    assert storage.stat("memory://photos/2020") is None
    with pytest.raises(NotFound):
        storage.read("memory://photos/none.jpg")


def test_a_scheme_without_conditional_create_is_refused_for_output() -> None:
    with pytest.raises(UsageError, match="memory://.*no conditional create"):
        Storage().check_writable("memory://out")
    with pytest.raises(UsageError, match="reading only"):
        Storage().put("memory://out/a", b"")


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(UsageError, match="nosuch://"):
        Storage().stat("nosuch://a/b")


def test_local_paths_become_absolute_and_uris_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("photos/") == f"{tmp_path}/photos/"
    assert absolute("file:///data/a.jpg") == "/data/a.jpg"
    assert absolute("s3://bucket/a") == "s3://bucket/a"


def test_folders_that_a_console_made_are_no_objects(s3: S3) -> None:
    client = boto3.client("s3", endpoint_url=s3.endpoint)
    for key in ("photos/", "photos/2020/", "photos/none/"):
        client.put_object(Bucket=s3.bucket, Key=key, Body=b"")
    client.put_object(Bucket=s3.bucket, Key="photos/2020/a.jpg", Body=b"a")
    client.put_object(Bucket=s3.bucket, Key="photos/2020/empty.jpg", Body=b"")
    storage = Storage(s3.options)
    listed = [found.uri.removeprefix(f"s3://{s3.bucket}/") for found in storage.objects(f"s3://{s3.bucket}/photos/")]
    assert listed == ["photos/2020/a.jpg", "photos/2020/empty.jpg"], "an empty file is a file"
    assert list(storage.objects(f"s3://{s3.bucket}/photos/none/")) == []


def test_settings_that_do_not_fit_the_kind_of_storage_are_one_sentence() -> None:
    with pytest.raises(UsageError, match="az://b cannot be used with these storage settings: .*Account must be"):
        next(Storage(credentials=Credentials()).objects("az://b/x"), None)


def test_an_etag_is_the_same_in_listings_and_answers(s3: S3) -> None:
    """Azure quotes it in answers only."""
    from facebatch.storage.cloud import Cloud

    cloud = Cloud(f"s3://{s3.bucket}", s3.options, Credentials())
    when = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    facts = {"path": "a", "size": 1, "last_modified": when}
    assert cloud._object({**facts, "e_tag": '"x"'}) == cloud._object({**facts, "e_tag": "x"})


def test_a_time_is_the_same_in_listings_and_answers(s3: S3) -> None:
    """Ceph and Google list milliseconds, and answer in seconds."""
    from facebatch.storage.cloud import Cloud

    cloud = Cloud(f"s3://{s3.bucket}", s3.options, Credentials())
    when = datetime.datetime(2020, 1, 1, 12, 0, 7, tzinfo=datetime.UTC)
    listed = cloud._object({"path": "a", "size": 1, "last_modified": when + datetime.timedelta(milliseconds=634)})
    assert listed == cloud._object({"path": "a", "size": 1, "last_modified": when})
    assert listed.mtime_ns == 1_577_880_007_000_000_000


def test_links_to_themselves_and_to_nothing_are_entries_of_unknown_version(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "unmounted" / "b.jpg")
    (tmp_path / "c").write_bytes(b"c")
    found = list(Storage().objects(str(tmp_path) + "/"))
    assert [(o.uri.rpartition("/")[2], o.version == UNKNOWN) for o in found] == [("a", True), ("b", True), ("c", False)]
    with pytest.raises(NotFound):
        Storage().read(found[1].uri)


def test_what_fsspec_lists_has_the_version_that_it_answers_with() -> None:
    """Its memory file system tells the time of creation as a number in listings and as a date in answers."""
    fsspec.filesystem("memory").pipe("/versions/a", b"a")
    storage = Storage()
    (listed,) = storage.objects("memory://versions")
    assert storage.stat(listed.uri) == listed
    assert storage.read(listed.uri) == (b"a", listed)
