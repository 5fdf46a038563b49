"""The tar reader: every regular member once, in order, whatever the archive is like."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from facebatch import config
from facebatch.reasons import Reason
from facebatch.sources import Item, Kind, Ranges, Source
from facebatch.sources.tar import End, Incomplete, read_tar
from facebatch.storage import Object, Storage, StorageError
from tests.s3 import S3

Members = Iterable[tuple[str, bytes]]


def tar_bytes(members: Members, mode: str = "w", **options: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, **options) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_600_000_000
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def written(folder: Path, data: bytes, name: str = "0.tar") -> Object:
    (folder / name).write_bytes(data)
    found = Storage().stat(str(folder / name))
    assert found is not None
    return found


def as_tar(planned: Object) -> Source:
    return Source(Kind.TAR, planned, rows=None)


def read(
    planned: Object, done: Ranges | None = None, max_bytes: int = 1 << 20, storage: Storage | None = None
) -> tuple[list[Item], End]:
    items = []
    reader = read_tar(storage or Storage(), as_tar(planned), done or [], max_bytes)
    while True:
        try:
            items.append(next(reader))
        except StopIteration as end:
            return items, end.value


MEMBERS = [
    ("IMG.1234.jpg", b"first"),
    ("IMG.5678.jpg", b"second, another picture with the same first word"),
    ("a/photo.jpg", b"in folder a"),
    ("b/photo.jpg", b"in folder b"),
    ("b/photo.json", b"{}"),
    ("b/photo.xmp", b"<x/>"),
    ("odd.suffix.JPG~", b"odd"),
    ("no-suffix", b"none"),
    ("x" * 300 + ".jpg", b"long name"),
    ("émoji-😀.jpg", b"unicode"),
    ("empty.jpg", b""),
]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_member_is_read_once_under_its_own_name(tmp_path: Path, format: int) -> None:
    members = [m for m in MEMBERS if format != tarfile.USTAR_FORMAT or len(m[0]) < 100]
    planned = written(tmp_path, tar_bytes(members, format=format))
    items, end = read(planned)
    assert [(i.index, i.member, i.data) for i in items] == [(k, *m) for k, m in enumerate(members)]
    assert {i.uri for i in items} == {planned.uri}
    assert items[0].mtime_ns == 1_600_000_000 * 10**9
    assert end == End(len(members), [])


@pytest.mark.parametrize(
    ("mode", "name"), [("w:gz", "0.tar.gz"), ("w:bz2", "0.tar"), ("w:xz", "named-wrongly.tar.gz"), ("w", "0.tgz")]
)
def test_compression_is_told_by_the_bytes_and_not_by_the_name(tmp_path: Path, mode: str, name: str) -> None:
    items, end = read(written(tmp_path, tar_bytes(MEMBERS, mode), name))
    assert [(i.member, i.data) for i in items] == MEMBERS
    assert end.count == len(MEMBERS)


def test_repeated_names_stay_apart(tmp_path: Path) -> None:
    names = ["a.jpg", "a.jpg", "a.jpg#1", "a.jpg", "b.jpg"]
    items, _ = read(written(tmp_path, tar_bytes((n, str(i).encode()) for i, n in enumerate(names))))
    assert [i.member for i in items] == ["a.jpg", "a.jpg#1", "a.jpg#1#1", "a.jpg#2", "b.jpg"]
    assert [i.data for i in items] == [b"0", b"1", b"2", b"3", b"4"]


def test_what_is_done_is_skipped_by_position_and_keeps_the_names(tmp_path: Path) -> None:
    members = [("same.jpg", str(i).encode()) for i in range(10)]
    planned = written(tmp_path, tar_bytes(members))
    whole, _ = read(planned)
    rest, end = read(planned, done=[(0, 3), (5, 9)])
    assert rest == [whole[3], whole[4], whole[9]]
    assert end == End(10, [])


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_skipping_everything_still_finds_the_end(tmp_path: Path, mode: str) -> None:
    items, end = read(written(tmp_path, tar_bytes(MEMBERS, mode)), done=[(0, len(MEMBERS))])
    assert (items, end) == ([], End(len(MEMBERS), []))


def test_only_regular_members_count(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, type in (
            ("d", tarfile.DIRTYPE),
            ("l", tarfile.SYMTYPE),
            ("h", tarfile.LNKTYPE),
            ("p", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type, "a.jpg"
            tar.addfile(info)
        info = tarfile.TarInfo("a.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    items, end = read(written(tmp_path, file.getvalue()))
    assert [(i.index, i.member, i.data) for i in items] == [(0, "a.jpg", b"abc")]
    assert end.count == 1


def test_absolute_and_climbing_names_are_only_names(tmp_path: Path) -> None:
    items, _ = read(written(tmp_path, tar_bytes([("/etc/passwd", b"x"), ("../../up.jpg", b"y")])))
    assert [i.member for i in items] == ["/etc/passwd", "../../up.jpg"]


def test_a_large_member_is_refused_without_being_read(tmp_path: Path) -> None:
    items, end = read(written(tmp_path, tar_bytes([("big", b"x" * 5000), ("small", b"y")])), max_bytes=100)
    assert (items[0].reason, items[0].data, items[0].size) == (Reason.TOO_MANY_BYTES, None, 5000)
    assert items[1].data == b"y"
    assert end.count == 2


def test_two_tars_in_one_file_are_both_read(tmp_path: Path) -> None:
    items, end = read(written(tmp_path, tar_bytes(MEMBERS[:2]) + tar_bytes(MEMBERS[2:4])))
    assert [(i.member, i.data) for i in items] == MEMBERS[:4]
    assert end.count == 4


def test_a_missing_end_marker_is_no_damage(tmp_path: Path) -> None:
    data = tar_bytes(MEMBERS[:3]).rstrip(b"\0")
    items, end = read(written(tmp_path, data + b"\0" * (-len(data) % 512)))
    assert [(i.member, i.data) for i in items] == MEMBERS[:3]
    assert end.count == 3


def test_an_archive_far_behind_another_is_read_too(tmp_path: Path) -> None:
    both = tar_bytes(MEMBERS[:2]) + bytes(2 << 20) + tar_bytes(MEMBERS[2:4])
    items, end = read(written(tmp_path, both))
    assert [i.data for i in items] == [m[1] for m in MEMBERS[:4]]
    assert end == End(4, [])


def test_an_empty_tar_holds_nothing(tmp_path: Path) -> None:
    assert read(written(tmp_path, tar_bytes([]))) == ([], End(0, []))


def test_sparse_members_are_read_with_their_holes(tmp_path: Path) -> None:
    # GNU sparse 1.0 as `tar --sparse` writes it: a map of two chunks in 1 MiB, then the chunks.
    chunks = b"2\n0\n512\n1048064\n512\n".ljust(512, b"\0") + b"A" * 512 + b"B" * 512
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("GNUSparseFile.0/a.bin")
        info.size = len(chunks)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "a.bin",
            "GNU.sparse.realsize": "1048576",
        }
        tar.addfile(info, io.BytesIO(chunks))
        after = tarfile.TarInfo("after.jpg")
        after.size = 1
        tar.addfile(after, io.BytesIO(b"z"))
    items, _ = read(written(tmp_path, file.getvalue()), max_bytes=2 << 20)
    assert items[0].data == b"A" * 512 + b"\0" * (1048576 - 1024) + b"B" * 512
    assert (items[0].member, items[1].data) == ("a.bin", b"z")


def test_a_changed_tar_is_refused_and_the_rows_that_are_there_stay(tmp_path: Path) -> None:
    planned = written(tmp_path, tar_bytes(MEMBERS))
    written(tmp_path, tar_bytes(MEMBERS[:5]))
    items, end = read(planned, done=[(0, 2), (4, 6)])
    assert [(i.index, i.member, i.reason) for i in items] == [(6, "", Reason.SOURCE_CHANGED)]
    assert end == End(7, [(2, 4)])


class _Flaky(Storage):
    """A storage whose stream fails once at each of some positions, as a connection does."""

    def __init__(self, failures: set[int]) -> None:
        super().__init__()
        self.failures = failures

    def open(self, uri: str, raw: bytes | None = None) -> BinaryIO:
        inner, failures = super().open(uri, raw), self.failures

        class Stream(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def seekable(self) -> bool:
                return True

            def seek(self, offset: int, whence: int = 0) -> int:
                return inner.seek(offset, whence)

            def tell(self) -> int:
                return inner.tell()

            def readinto(self, buffer: Any) -> int:
                if any(inner.tell() >= position for position in failures):
                    raise StorageError("connection reset")
                data = inner.read(len(buffer))
                buffer[: len(data)] = data
                return len(data)

        return io.BufferedReader(Stream(), 512)


def _until_incomplete(storage: Storage, planned: Object) -> list[Item]:
    items: list[Item] = []
    try:
        for item in read_tar(storage, as_tar(planned), [], 1 << 20):
            items.append(item)  # noqa: PERF402 - the items before the exception are the point
    except Incomplete:
        return items
    raise AssertionError("the archive was read to its end")


def test_a_storage_that_fails_in_mid_archive_says_so_and_a_later_run_reads_on(tmp_path: Path) -> None:
    planned = written(tmp_path, tar_bytes([(f"{i}.jpg", b"x" * 2000) for i in range(20)]))
    broken = _until_incomplete(_Flaky({20_000}), planned)
    assert 5 < len(broken) < 12
    assert (broken[-1].member, broken[-1].reason) == ("", Reason.STORAGE_ERROR)
    assert "connection reset" in (broken[-1].detail or "")
    rest, end = read(planned, done=[(0, len(broken) - 1)])
    assert [i.member for i in broken[:-1] + rest] == [f"{i}.jpg" for i in range(20)]
    assert end == End(20, [])


def test_a_tar_that_is_gone_is_reported(tmp_path: Path) -> None:
    planned = written(tmp_path, tar_bytes(MEMBERS))
    (tmp_path / "0.tar").unlink()
    assert [i.reason for i in _until_incomplete(Storage(), planned)] == [Reason.NOT_FOUND]


def test_a_failure_stands_where_nothing_is_done_yet(tmp_path: Path) -> None:
    """Else its row would lie on a finished one, and be void."""
    planned = written(tmp_path, tar_bytes([(f"{i}.jpg", b"x" * 2000) for i in range(20)]))
    items: list[Item] = []
    with pytest.raises(Incomplete):
        items.extend(read_tar(_Flaky({5_000}), as_tar(planned), [(0, 5), (6, 9)], 1 << 20))
    assert [(i.index, i.reason) for i in items] == [(5, Reason.STORAGE_ERROR)]
    (tmp_path / "0.tar").unlink()
    items.clear()
    with pytest.raises(Incomplete):
        items.extend(read_tar(Storage(), as_tar(planned), [(0, 20)], 1 << 20))
    assert [(i.index, i.reason) for i in items] == [(20, Reason.NOT_FOUND)]


@pytest.mark.parametrize("error", [TimeoutError("slow"), ConnectionResetError("reset"), EOFError(), RuntimeError("x")])
def test_a_connection_that_breaks_is_not_taken_for_damage(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of fsspec raise errors of many kinds; none of them says anything about the archive."""
    import fsspec
    from fsspec.implementations.memory import MemoryFile

    fsspec.filesystem("memory").pipe("/broken/0.tar", tar_bytes([(f"{i}.jpg", b"x" * 200_000) for i in range(20)]))
    (planned,) = Storage().objects("memory://broken")
    whole = MemoryFile.read

    def breaks(file: MemoryFile, size: int = -1) -> bytes:
        if file.tell() > 2_000_000:
            raise error
        data: bytes = whole(file, size)
        return data

    monkeypatch.setattr(MemoryFile, "read", breaks)
    items: list[Item] = []
    with pytest.raises(Incomplete):
        items.extend(read_tar(Storage(config.Storage(retries=0)), as_tar(planned), [], 1 << 20))
    assert items[-1].reason is Reason.STORAGE_ERROR
    assert 5 < len(items) < 18


def test_a_tar_that_is_replaced_while_it_is_read_is_not_mixed(s3: S3) -> None:
    old, new = (tar_bytes([(f"{i}.jpg", letter * 3_000_000) for i in range(8)]) for letter in (b"A", b"B"))
    storage, uri = Storage(s3.options), f"s3://{s3.bucket}/0.tar"
    storage.put(uri, old)
    planned = storage.stat(uri)
    assert planned is not None
    reader = read_tar(storage, as_tar(planned), [], 1 << 30)
    items = [next(reader)]
    storage.put(uri, new)
    while True:
        try:
            items.append(next(reader))
        except StopIteration as stop:
            end = stop.value
            break
    assert {item.data[:1] for item in items if item.data} == {b"A"}
    assert (items[-1].reason, items[-1].index) == (Reason.SOURCE_CHANGED, len(items) - 1)
    assert end == End(len(items), [])


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    planned = written(tmp_path, tar_bytes((f"{i}.jpg", b"x" * 100_000) for i in range(300)))
    tracemalloc.start()
    count = sum(1 for _ in read_tar(Storage(), as_tar(planned), [], 1 << 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 300
    assert peak < 4_000_000, "the archive has 30 MB"
