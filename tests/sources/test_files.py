"""Loose files: one item for each planned object."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from facebatch import config, plan
from facebatch.errors import UsageError
from facebatch.reasons import Reason
from facebatch.seen import Seen
from facebatch.sources import Item, Kind, Source
from facebatch.sources.files import read_files
from facebatch.sources.inputs import expand
from facebatch.storage import UNSIZED, AccessDenied, Object, Storage, StorageError, join
from tests.s3 import S3


def _items(storage: Storage, root: str, done: list[tuple[int, int]] | None = None) -> list[Item]:
    return list(read_files(storage, _sources(storage, root), done or [], 100))


def _sources(storage: Storage, root: str) -> list[Source]:
    return [_source(found) for found in sorted(storage.objects(root + "/"), key=lambda o: o.uri)]


def _source(found: Object) -> Source:
    return Source(Kind.FILES, found, bytes=found.size)


def test_items_come_in_the_planned_order_with_their_index(s3: S3, tmp_path: Path) -> None:
    for storage, root in ((Storage(), str(tmp_path)), (Storage(s3.options), f"s3://{s3.bucket}/p")):
        for i in range(30):
            storage.put(join(root, f"{i:02d}"), f"{i}".encode())
        items = _items(storage, root)
        assert [(i.index, i.uri, i.data) for i in items] == [
            (k, join(root, f"{k:02d}"), f"{k}".encode()) for k in range(30)
        ]
        assert _items(storage, root, done=[(0, 10), (12, 30)]) == items[10:12]
        assert _items(storage, root, done=[(0, 30)]) == []


def test_a_large_file_is_refused_without_being_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 101)
    (item,) = _items(Storage(), str(tmp_path))
    assert (item.reason, item.data, item.size) == (Reason.TOO_MANY_BYTES, None, 101)


def test_a_file_that_changed_since_it_was_planned_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    planned = _sources(Storage(), str(tmp_path))
    (tmp_path / "a").write_bytes(b"two, longer")
    (item,) = read_files(Storage(), planned, [], 100)
    assert (item.reason, item.data) == (Reason.SOURCE_CHANGED, None)
    assert "planned with 3 bytes" in (item.detail or "")


def test_a_file_that_is_gone_is_to_be_tried_again(tmp_path: Path) -> None:
    (item,) = read_files(Storage(), [_source(Object(str(tmp_path / "gone"), 3, None, 1))], [], 100)
    assert item.reason is Reason.NOT_FOUND
    assert item.reason.retryable


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AccessDenied("a: 403"), Reason.ACCESS_DENIED),
        (StorageError("a: 503"), Reason.STORAGE_ERROR),
        (MemoryError(), Reason.OUT_OF_MEMORY),
    ],
)
def test_what_is_not_the_files_fault_is_retryable(
    error: Exception, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Callable[[], None]:
        raise error

    monkeypatch.setattr(Storage, "read", fail)
    (item,) = read_files(Storage(), [_source(Object("/a", 3, None, 1))], [], 100)
    assert item.reason is reason
    assert item.reason.retryable
    assert item.detail


def test_a_link_to_nothing_is_taken_once_it_leads_somewhere(tmp_path: Path) -> None:
    """Photos on a disk that was not mounted: tried again, and not refused as changed."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a").symlink_to(tmp_path / "disk" / "a")
    planned = _sources(Storage(), str(tmp_path / "photos"))
    assert [i.reason for i in read_files(Storage(), planned, [], 100)] == [Reason.NOT_FOUND]
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a").write_bytes(b"here")
    assert [i.data for i in read_files(Storage(), planned, [], 100)] == [b"here"]
    settings = config.Config(inputs=(str(tmp_path / "photos"),), output=str(tmp_path / "out"))
    listing, seen = plan.Listing(), Seen()
    assert [s.object for s in plan.compare(planned, seen, listing)] == [s.object for s in planned]
    assert list(plan.compare(expand(Storage(), settings), seen, listing)) == []
    assert listing.changed == 0


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    """A manifest may name anything: a pipe would never end, nor would a device."""
    os.mkfifo(tmp_path / "pipe")
    for uri in (str(tmp_path / "pipe"), "/dev/zero", str(tmp_path)):
        (item,) = read_files(Storage(), [_source(Object(uri, UNSIZED))], [], 100)
        assert item.reason in (Reason.NOT_FOUND, Reason.STORAGE_ERROR), uri


def test_whatever_a_storage_raises_costs_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, reason in (
        (UsageError("sftp:// needs paramiko"), Reason.STORAGE_ERROR),
        (AttributeError("x"), Reason.INTERNAL_ERROR),
        (OSError(5, "I/O error"), Reason.STORAGE_ERROR),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(Storage, "read", fail)
        (item,) = read_files(Storage(), [_source(Object("/a", 3))], [], 100)
        assert item.reason is reason


def test_a_size_that_a_manifest_tells_is_checked_also_without_a_version(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    sizes = {3: None, 99: Reason.SOURCE_CHANGED, UNSIZED: None}
    for size, reason in sizes.items():
        (item,) = read_files(Storage(), [_source(Object(str(tmp_path / "a"), size))], [], 100)
        assert (item.reason, item.size) == (reason, 99 if reason else 3)
