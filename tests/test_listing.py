"""A manifest made of a listing: a run that is given it knows what the listing knew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from facebatch.config import Config
from facebatch.errors import UsageError
from facebatch.listing import ManifestWriter
from facebatch.sources import Kind, Source
from facebatch.sources.base import Base
from facebatch.sources.inputs import expand
from facebatch.storage import UNSIZED, Object, Storage, join


def test_what_is_listed_and_what_its_manifest_names_is_the_same(place: tuple[Storage, str]) -> None:
    storage, folder = place
    for name in ("a.jpg", "b é/c.jpg", "0.tar"):
        storage.put(join(folder, "photos", name), name.encode())
    prefix = Config(inputs=(join(folder, "photos"),), output="/nowhere")
    listed = list(expand(storage, prefix))
    writer = ManifestWriter(storage, join(folder, "list.parquet"), Base())
    assert list(writer.passing(listed)) == listed
    assert writer.close() == 3
    manifest = replace(prefix, inputs=(join(folder, "list.parquet"),))
    assert list(expand(storage, manifest)) == listed


def test_below_a_base_a_manifest_names_where_things_are(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    settings = Config(inputs=(str(tmp_path / "photos"),), output="/nowhere", base_uri=str(tmp_path / "photos"))
    writer = ManifestWriter(Storage(), str(tmp_path / "l.parquet"), Base.at(settings.base_uri))
    assert [s.object.uri for s in writer.passing(expand(Storage(), settings))] == ["a.jpg"]
    writer.close()
    (named,) = expand(Storage(), Config(inputs=(str(tmp_path / "l.parquet"),), output="/nowhere"))
    assert named.object.uri == str(tmp_path / "photos" / "a.jpg")


def test_many_files_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facebatch.listing._ROWS", 7)
    writer = ManifestWriter(Storage(), str(tmp_path / "l.parquet"), Base())
    sources = [Source(Kind.FILES, Object(f"/{k}.jpg", k, None, k), bytes=k) for k in range(30)]
    list(writer.passing(sources))
    assert writer.close() == 30
    assert list(expand(Storage(), Config(inputs=(str(tmp_path / "l.parquet"),), output="/nowhere"))) == sources


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    writer = ManifestWriter(Storage(), str(tmp_path / "l.parquet"), Base())
    list(writer.passing([Source(Kind.ROWS, Object("/a.parquet", 5), 0, 9), Source(Kind.FILES, Object("/b", UNSIZED))]))
    assert writer.close() == 1
    assert "1 row groups or broken entries of tables are none" in writer.remark()


def test_nothing_appears_before_it_is_whole_and_the_name_says_what_it_is(tmp_path: Path) -> None:
    writer = ManifestWriter(Storage(), str(tmp_path / "l.parquet"), Base())
    list(writer.passing([Source(Kind.FILES, Object("/b", 1, None, 1))]))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"give it the ending \.parquet"):
        ManifestWriter(Storage(), str(tmp_path / "l.csv"), Base())
