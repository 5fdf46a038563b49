"""Damaged and hostile tars: what is whole is read, and one row says what is not."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from facebatch.reasons import Reason
from facebatch.sources.tar import End
from tests.sources.test_tar import MEMBERS, read, tar_bytes, written


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_junk_behind_the_end_is_said(tmp_path: Path, mode: str) -> None:
    """It may be the rest of an archive into which a hole was torn: nothing is dropped silently."""
    items, end = read(written(tmp_path, tar_bytes(MEMBERS[:3], mode) + b"junk" * 1000))
    assert [i.data for i in items[:3]] == [m[1] for m in MEMBERS[:3]]
    assert [(i.index, i.reason) for i in items[3:]] == [(3, Reason.BROKEN_CONTAINER)]
    assert end.count == 4


@pytest.mark.parametrize("hole", [1024, 4096, 3 << 20])
def test_a_hole_of_zeros_is_not_taken_for_the_end(tmp_path: Path, hole: int) -> None:
    whole = tar_bytes([(f"{i}.jpg", bytes([65 + i]) * 1500) for i in range(5)])
    torn = whole[:2048] + bytes(hole) + whole[2048 + 512 :]
    items, end = read(written(tmp_path, torn))
    assert (items[0].member, len(items[0].data or b"")) == ("0.jpg", 1500)
    assert (items[-1].member, items[-1].reason) == ("", Reason.BROKEN_CONTAINER)
    assert "zeros" in (items[-1].detail or "")
    assert end.count == len(items)


def test_a_file_that_was_never_filled_is_one_failed_row(tmp_path: Path) -> None:
    items, _ = read(written(tmp_path, bytes(3 << 20)))
    assert [i.reason for i in items] == [Reason.BROKEN_CONTAINER]
    assert "zeros and no member" in (items[0].detail or "")


def _headers(**pax: str) -> bytes:
    """A tar of three members, the second with these pax records."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for i in range(3):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size, info.pax_headers = 3, pax if i == 1 else {}
            tar.addfile(info, io.BytesIO(b"abc"))
    return file.getvalue()


@pytest.mark.parametrize("mtime", ["99999999999", "-99999999999999", "nan", "inf", "1e300"])
def test_a_time_that_no_column_holds_costs_the_time_and_nothing_else(tmp_path: Path, mtime: str) -> None:
    items, end = read(written(tmp_path, _headers(mtime=mtime)))
    assert [i.data for i in items] == [b"abc"] * 3
    assert items[1].mtime_ns is None
    assert end == End(3, [])


@pytest.mark.parametrize("size", ["-5", str(2**66), str(10**40)])
def test_a_size_that_cannot_be_is_damage(tmp_path: Path, size: str) -> None:
    items, _ = read(written(tmp_path, _headers(size=size)))
    assert [i.reason for i in items] == [None, Reason.BROKEN_CONTAINER]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_asks_for_terabytes_is_damage_and_is_not_tried_again(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 32 << 40
    items, end = read(written(tmp_path, tar_bytes(MEMBERS[:1])[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
    assert [i.reason for i in items] == [None, Reason.BROKEN_CONTAINER]
    assert end.count == 2


def test_a_chain_of_headers_without_end_is_damage(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4
    chain = (info.tobuf(tarfile.GNU_FORMAT) + b"abc\0".ljust(512, b"\0")) * 1500
    items, _ = read(written(tmp_path, chain + bytes(1024)))
    assert [i.reason for i in items] == [Reason.BROKEN_CONTAINER]


@pytest.mark.parametrize("content", [b"", b"this is no tar at all" * 100, gzip.compress(b"nor is this" * 100)])
def test_what_is_no_tar_is_one_failed_row(tmp_path: Path, content: bytes) -> None:
    planned = written(tmp_path, content)
    items, end = read(planned)
    assert [(i.index, i.member, i.reason) for i in items] == [(0, "", Reason.BROKEN_CONTAINER)]
    assert end == End(1, [])
    assert read(planned, done=[(0, 1)]) == ([], End(1, []))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_tar_gives_what_is_whole_and_one_failed_row(tmp_path: Path, mode: str) -> None:
    noise = [(f"{i}.jpg", bytes((i * k * k) % 251 for k in range(3000))) for i in range(1, 30)]
    data = tar_bytes(noise, mode)
    items, end = read(written(tmp_path, data[: len(data) // 2]))
    assert items[-1].member == ""
    assert items[-1].reason is Reason.BROKEN_CONTAINER
    assert "after" in (items[-1].detail or "")
    whole = [i for i in items[:-1] if i.data == dict(noise)[i.member]]
    assert len(whole) >= len(items) - 2  # the member that the cut goes through may come with the part there is
    assert end == End(len(items), [])


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_tar_is_found_out_also_when_all_members_are_skipped(tmp_path: Path, mode: str) -> None:
    data = tar_bytes([(f"{i}.jpg", bytes((i * k) % 251 for k in range(3000))) for i in range(1, 30)], mode)
    planned = written(tmp_path, data[: len(data) // 2])
    whole, whole_end = read(planned)
    rest, rest_end = read(planned, done=[(0, len(whole) - 1)])
    assert (rest, rest_end) == (whole[-1:], whole_end)


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    data = bytearray(tar_bytes(MEMBERS[:4]))
    second = data.index(b"IMG.5678")
    data[second : second + 200] = b"\xff" * 200
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as standard:
        assert len(standard.getnames()) == 1, "the standard library ends here without a word"
    items, end = read(written(tmp_path, bytes(data)))
    assert [(i.member, i.reason) for i in items] == [("IMG.1234.jpg", None), ("", Reason.BROKEN_CONTAINER)]
    assert end == End(2, [])
