"""Folders one level at a time, and all of them at once: the same objects as a listing gives, on every storage."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path

import boto3
import fsspec
import pytest

from facebatch.storage import Object, Storage, StorageError, join
from facebatch.storage.walk import walk
from tests.s3 import PLACES, S3, opened

Place = tuple[Storage, str]
KEYS = ("a.jpg", "photos/b.jpg", "photos/2020/c.jpg", "photos/2020/05/d.jpg", "photos-old/e.jpg", "photos/2021/f.jpg")


@pytest.fixture(params=[*PLACES, "memory"])
def tree(request: pytest.FixtureRequest) -> Place:
    """Objects at many depths."""
    if request.param == "memory":
        files = fsspec.filesystem("memory")
        folder = f"/walk-{abs(hash(request.node.nodeid))}"
        for key in KEYS:
            files.pipe(f"{folder}/{key}", key.encode())
        return Storage(), f"memory:/{folder}"
    storage, folder = opened(request, request.param)
    for key in KEYS:
        storage.put(join(folder, key), key.encode())
    return storage, folder


def test_a_folder_is_one_level(tree: Place) -> None:
    storage, folder = tree
    for uri in (folder, f"{folder}/"):
        objects, folders = storage.folder(uri)
        assert [o.uri for o in objects] == [join(folder, "a.jpg")]
        assert sorted(folders) == [join(folder, "photos-old") + "/", join(folder, "photos") + "/"]
    objects, folders = storage.folder(join(folder, "photos") + "/")
    assert objects == [storage.stat(join(folder, "photos", "b.jpg"))]
    assert folders == [join(folder, "photos", "2020") + "/", join(folder, "photos", "2021") + "/"]


def test_a_folder_that_is_not_there_has_nothing_in_it(tree: Place) -> None:
    storage, folder = tree
    assert storage.folder(join(folder, "nowhere") + "/") == ([], [])
    assert storage.folder(join(folder, "a.jpg") + "/") == ([], [])
    assert list(walk(storage, join(folder, "nowhere") + "/")) == []


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_a_walk_finds_what_a_listing_finds(tree: Place, threads: int) -> None:
    storage, folder = tree
    for uri in (folder, f"{folder}/", join(folder, "photos") + "/"):
        assert Counter(walk(storage, uri, threads)) == Counter(storage.objects(uri))
    assert sum(1 for _ in walk(storage, folder, threads)) == len(KEYS)


def test_folders_that_a_console_made_are_walked_and_are_no_objects(s3: S3) -> None:
    client = boto3.client("s3", endpoint_url=s3.endpoint)
    for key in ("photos/", "photos/2020/", "photos/none/", "photos/none/2020/"):
        client.put_object(Bucket=s3.bucket, Key=key, Body=b"")
    client.put_object(Bucket=s3.bucket, Key="photos/2020/a.jpg", Body=b"a")
    client.put_object(Bucket=s3.bucket, Key="photos/2020/empty.jpg", Body=b"")
    storage, root = Storage(s3.options), f"s3://{s3.bucket}"
    for uri in (root, f"{root}/", f"{root}/photos/", f"{root}/photos/2020", f"{root}/photos/none/"):
        assert Counter(walk(storage, uri)) == Counter(storage.objects(uri))
    assert len(list(walk(storage, root))) == 2
    assert storage.folder(f"{root}/photos/") == ([], [f"{root}/photos/2020/", f"{root}/photos/none/"])


def test_a_disk_is_walked_by_the_rules_of_its_listing(tmp_path: Path) -> None:
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / name).mkdir()
    (tmp_path / name / (name + ".jpg")).write_bytes(b"x")
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    storage = Storage()
    found = Counter(walk(storage, str(tmp_path)))
    assert found == Counter(storage.objects(str(tmp_path)))
    assert len(found) == 4
    assert [f.rstrip("/") for f in storage.folder(str(tmp_path))[1]] == [str(tmp_path / name), str(tmp_path / "empty")]


class Endless(Storage):
    """Each folder has a thousand objects and two folders."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = 0

    def folder(self, uri: str) -> tuple[list[Object], list[str]]:
        self.listed += 1
        return [Object(f"{uri}{n}", 1) for n in range(1000)], [f"{uri}a/", f"{uri}b/"]


def test_a_walk_stays_only_a_little_ahead_of_its_reader() -> None:
    storage = Endless()
    objects = walk(storage, "x/", threads=4)
    next(objects)
    time.sleep(0.3)
    assert storage.listed <= 2 * 4 + 4 + 2
    objects.close()  # type: ignore[attr-defined]


def test_a_walk_that_is_left_early_leaves_no_threads() -> None:
    before = threading.active_count()
    for _ in walk(Endless(), "x/"):
        break
    objects = walk(Endless(), "x/")
    next(objects)
    assert threading.active_count() > before
    objects.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_listing_that_fails_ends_the_walk_with_its_error() -> None:
    class Failing(Endless):
        def folder(self, uri: str) -> tuple[list[Object], list[str]]:
            if uri.count("/") > 3:
                raise StorageError(f"{uri}: no")
            return super().folder(uri)

    before = threading.active_count()
    with pytest.raises(StorageError, match="x/.*: no"):
        list(walk(Failing(), "x/"))
    assert threading.active_count() == before
