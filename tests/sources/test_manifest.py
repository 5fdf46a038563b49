"""Manifests: tables that name files, in every form in which people have them."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facebatch import config
from facebatch.config import Config, Rows
from facebatch.errors import UsageError
from facebatch.reasons import Reason
from facebatch.sources import Kind, Source
from facebatch.sources.broken import read_broken
from facebatch.sources.inputs import check, expand
from facebatch.storage import UNSIZED, Object, Storage


def named(path: Path | str, rows: Rows | None = None, base_uri: str | None = None) -> list[Source]:
    settings = Config(inputs=(str(path),), output="/nowhere", rows=rows or Rows(), base_uri=base_uri)
    return list(expand(Storage(), settings))


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def manifest(folder: Path, kind: str) -> Path:
    """Three photos with a year each, in one of the forms."""
    rows = [("a.jpg", 1999), ("s3://bucket/b c.jpg", 2000), ("/far/away.png", 2001)]
    path = folder / f"list.{kind}"
    match kind.removesuffix(".gz"):
        case "csv":
            text = "uri,year\n" + "".join(f"{u},{y}\n" for u, y in rows)
        case "tsv":
            text = "year\turi\r\n" + "".join(f"{y}\t{u}\r\n" for u, y in rows)
        case "jsonl" | "ndjson":
            text = "".join(json.dumps({"uri": u, "year": y}) + "\n" for u, y in rows)
        case "parquet":
            pq.write_table(pa.table({"uri": [u for u, _ in rows], "year": [y for _, y in rows]}), path)
            return path
    return write(path, gzip.compress(text.encode()) if kind.endswith(".gz") else text)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "ndjson", "parquet", "csv.gz", "jsonl.gz"])
def test_entries_are_files_and_the_rest_is_carried(tmp_path: Path, kind: str) -> None:
    sources = named(manifest(tmp_path, kind))
    assert [s.object.uri for s in sources] == [f"{tmp_path}/a.jpg", "s3://bucket/b c.jpg", "/far/away.png"]
    assert {(s.kind, s.object.size) for s in sources} == {(Kind.FILES, UNSIZED)}
    assert [s.extra for s in sources] == [(("year", "1999"),), (("year", "2000"),), (("year", "2001"),)]


def test_a_plain_list_has_a_uri_on_each_line(tmp_path: Path) -> None:
    """As `find` and `aws s3 ls` give it; names may hold anything but the end of a line."""
    sources = named(write(tmp_path / "list.txt", "a.jpg\n\n/b, c.jpg\r\ns3://bucket/d\n"))
    assert [s.object.uri for s in sources] == [f"{tmp_path}/a.jpg", "/b, c.jpg", "s3://bucket/d"]


def test_one_file_has_one_uri_however_it_is_written(tmp_path: Path) -> None:
    lines = ["a.jpg", "./a.jpg", "x/../a.jpg", str(tmp_path / "a.jpg"), f"file://{tmp_path}/a.jpg", " a.jpg "]
    sources = named(write(tmp_path / "list.csv", "path\n" + "\n".join(lines)))
    assert {s.object.uri for s in sources} == {f"{tmp_path}/a.jpg"}


def test_relative_entries_begin_at_the_base_if_there_is_one(tmp_path: Path) -> None:
    path = write(tmp_path / "list.txt", "2020/a.jpg\ns3://archive/photos/b.jpg\n/c.jpg\n")
    sources = named(path, base_uri="s3://archive/photos")
    assert [s.object.uri for s in sources] == ["2020/a.jpg", "b.jpg", "/c.jpg"]


def test_blank_lines_and_a_byte_order_mark_are_no_entries(tmp_path: Path) -> None:
    sources = named(write(tmp_path / "list.csv", b"\xef\xbb\xbf\n\nuri\n\n/a\n , \n\n/b\n".replace(b" , ", b"  ")))
    assert [s.object.uri for s in sources] == ["/a", "/b"]


def test_quotes_commas_and_line_ends_inside_fields(tmp_path: Path) -> None:
    sources = named(write(tmp_path / "list.csv", 'uri,title\n"/a, b.jpg","two\nlines, ""quoted"""\n'))
    assert [(s.object.uri, s.extra) for s in sources] == [("/a, b.jpg", (("title", 'two\nlines, "quoted"'),))]


def test_names_that_are_no_utf8_reach_their_files(tmp_path: Path) -> None:
    (source,) = named(write(tmp_path / "list.txt", b"caf\xe9.jpg\n"))
    assert source.object.uri == f"{tmp_path}/caf\\xe9.jpg"
    assert source.object.raw == bytes(tmp_path) + b"/caf\xe9.jpg"


@pytest.mark.parametrize(
    ("name", "text", "line", "words"),
    [
        ("l.csv", "uri,year\n/a,1\n,2\n/c,3\n", 3, "names nothing"),
        ("l.csv", "uri,year\n/a,1\n/b\n/c,3\n", 3, "has 1 fields where the header has 2"),
        ("l.jsonl", '{"uri": "/a"}\n{"uri": \n{"uri": "/c"}\n', 2, "is no JSON"),
        ("l.jsonl", '{"uri": "/a"}\n[1]\n{"uri": "/c"}\n', 2, "but list"),
        ("l.jsonl", '{"uri": "/a"}\n{"year": 3}\n{"uri": "/c"}\n', 2, "has no text under uri, url"),
        ("l.jsonl", '"/a"\n"/b\\u0000"\n"/c"\n', 2, "there is a NUL in it"),
        ("l.jsonl", '"/a"\n"/b\\ud800"\n"/c"\n', 2, "names what cannot be a URI"),
    ],
)
def test_a_line_that_names_nothing_costs_its_own_row(
    tmp_path: Path, name: str, text: str, line: int, words: str
) -> None:
    path = write(tmp_path / name, text)
    one, broken, other = named(path)
    assert (one.object.uri, other.object.uri) == ("/a", "/c")
    assert (broken.kind, broken.part) == (Kind.BROKEN, line)
    (item,) = read_broken([broken], [])
    assert (item.uri, item.member, item.reason) == (str(path), f"line {line}", Reason.BROKEN_CONTAINER)
    assert words in (item.detail or "")


def test_what_a_parquet_manifest_knows_of_its_objects_is_checked_when_they_are_read(tmp_path: Path) -> None:
    table = pa.table({"uri": ["/a", "/b"], "size_bytes": [10, None], "etag": ["v1", None], "mtime_ns": [5, 6]})
    pq.write_table(table, tmp_path / "list.parquet")
    one, other = (s.object for s in named(tmp_path / "list.parquet"))
    assert (one.size, one.version, one.mtime_ns) == (10, "v1", 5)
    assert (other.size, other.version) == (UNSIZED, "6")
    assert {s.extra for s in named(tmp_path / "list.parquet")} == {()}


def test_a_tar_in_a_manifest_is_opened(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"x" * 100)
    sources = named(write(tmp_path / "list.txt", "0.tar\ngone.tar\n"))
    assert [(s.kind, s.rows, s.object.size) for s in sources] == [(Kind.TAR, None, 100), (Kind.TAR, None, UNSIZED)]


def test_a_tar_whose_version_a_manifest_tells_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand shards would be as many requests, one after the other."""
    table = pa.table({"uri": ["s3://bucket/0.tar"], "size_bytes": [10], "etag": ["v1"]})
    pq.write_table(table, tmp_path / "list.parquet")
    real = Storage.stat

    def local_only(storage: Storage, uri: str) -> Object | None:
        assert not uri.startswith("s3://")
        return real(storage, uri)

    monkeypatch.setattr(Storage, "stat", local_only)
    (tar,) = named(tmp_path / "list.parquet")
    assert (tar.kind, tar.rows, tar.object.version) == (Kind.TAR, None, "v1")


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "id,where,city\n1,/a,Oslo\n")
    with pytest.raises(UsageError, match=r"no column of URIs.*holds: id, where, city.*rows\.column"):
        check(Storage(), Config(inputs=(str(path),)))
    (source,) = named(path, Rows(column="where", extra=("city",)))
    assert (source.object.uri, source.extra) == ("/a", (("city", "Oslo"),))
    with pytest.raises(UsageError, match=r"no column 'town' \(rows\.extra\)"):
        check(Storage(), Config(inputs=(str(path),), rows=Rows(column="where", extra=("town",))))


def test_a_parquet_file_without_a_known_column_is_refused_with_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "blob": [b"x"]}), tmp_path / "l.parquet")
    with pytest.raises(UsageError, match=r"no column known to hold images; it has id \(int64\), blob \(binary\)"):
        check(Storage(), Config(inputs=(str(tmp_path / "l.parquet"),)))
    assert [s.kind for s in named(tmp_path / "l.parquet", Rows(column="blob"))] == [Kind.ROWS]


@pytest.mark.parametrize("name", ["torn.parquet", "torn.csv.gz", "other.csv"])
def test_among_many_tables_a_damaged_one_costs_one_row(tmp_path: Path, name: str) -> None:
    content = {"torn.parquet": b"PAR1 and no footer", "torn.csv.gz": b"\x1f\x8b torn", "other.csv": b"a,b\n1,2\n"}
    path = write(tmp_path / name, content[name])
    (broken,) = named(path)
    assert (broken.kind, broken.object.uri, broken.part) == (Kind.BROKEN, str(path), None)
    assert broken.trouble
    with pytest.raises(UsageError):
        check(Storage(), Config(inputs=(str(path),)))


def test_a_manifest_that_ends_early_gives_what_it_names_and_a_row_that_says_so(tmp_path: Path) -> None:
    whole = gzip.compress(b"uri\n" + b"".join(f"/photos/{i:06d}.jpg\n".encode() for i in range(20_000)))
    sources = named(write(tmp_path / "l.csv.gz", whole[: len(whole) // 2]))
    assert {s.kind for s in sources[:-1]} == {Kind.FILES}
    assert len(sources) > 5000
    assert sources[-1].kind is Kind.BROKEN


def test_tables_below_a_prefix_are_files_like_any_other(tmp_path: Path) -> None:
    """Tables of metadata lie beside many photos; whoever means them names them."""
    manifest(tmp_path, "csv")
    manifest(tmp_path, "parquet")
    assert {s.kind for s in named(tmp_path)} == {Kind.FILES}
    assert [s.kind for s in named(f"{tmp_path}/*.parquet")] == [Kind.FILES] * 3
    assert len(named(f"{tmp_path}/*.parquet")) == 3


@pytest.mark.parametrize(
    "uri", ["https://b.s3.amazonaws.com/a.jpg?X-Amz-Date=1&X-Amz-Signature=s3cr3t", "https://user:s3cr3t@host/a.jpg"]
)
def test_a_uri_with_a_secret_in_it_is_refused_and_stands_nowhere(tmp_path: Path, uri: str) -> None:
    """It would be the identity of its image, in every output."""
    _, broken = named(write(tmp_path / "list.txt", f"/a.jpg\n{uri}\n"))
    assert broken.kind is Kind.BROKEN
    assert "***" in (broken.trouble or "")
    assert "s3cr3t" not in repr(broken)
    with pytest.raises(UsageError, match=r"\*\*\*") as error:
        named(uri)
    assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize("uri", ["htp://example.com/b.jpg", "s3:///a.jpg", "://x/a.jpg", "https://token@host/a.jpg"])
def test_what_nothing_can_read_is_broken_when_it_is_planned(tmp_path: Path, uri: str) -> None:
    """A plan is frozen: what a worker could only stumble over would stop every run from then on."""
    one, broken = named(write(tmp_path / "list.txt", f"/a.jpg\n{uri}\n"))
    assert (one.kind, broken.kind, broken.part) == (Kind.FILES, Kind.BROKEN, 2)


def test_a_quote_that_is_not_closed_costs_its_own_line(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", 'uri,title\n/a,one\n/b,"two\n/c,three\n/d,"four\nlines"\n/e,five\n')
    sources = named(path)
    assert [(s.object.uri, dict(s.extra).get("title")) for s in sources if s.kind is Kind.FILES] == [
        ("/a", "one"),
        ("/c", "three"),
        ("/d", "four\nlines"),
        ("/e", "five"),
    ]
    assert [(s.part, s.trouble) for s in sources if s.kind is Kind.BROKEN] == [
        (3, "line 3 has a quote that is not closed, or holds lines that are no part of it")
    ]


@pytest.mark.parametrize("name", ["l.txt.gz", "l.csv.gz", "l.jsonl.gz"])
def test_a_gigantic_line_costs_its_own_row_and_no_memory(tmp_path: Path, name: str) -> None:
    head = {"csv": b"uri,x\n", "txt": b"", "jsonl": b""}[name.split(".")[1]]
    entry = b'"/%s"\n' if "jsonl" in name else b"/%s,1\n" if "csv" in name else b"/%s\n"
    path = write(tmp_path / name, gzip.compress(head + entry % b"a" + b"x" * 60_000_000 + b"\n" + entry % b"b", 1))
    tracemalloc.start()
    one, broken, other = named(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (one.object.uri, other.object.uri) == ("/a", "/b")
    assert (broken.kind, broken.part) == (Kind.BROKEN, 2 + bool(head))
    assert "is longer than" in (broken.trouble or "")
    assert peak < 30e6


def test_headers_and_values_that_are_no_utf8_are_shown_escaped(tmp_path: Path) -> None:
    (source,) = named(write(tmp_path / "l.csv", b"uri,Stra\xdfe\n/a,\xc4\n"))
    assert source.extra == (("Stra\\xdfe", "\\xc4"),)
    (source,) = named(write(tmp_path / "l.jsonl", b'{"uri": "/a", "x": ["\xc4"], "y": "\\ud800"}\n'))
    assert source.extra == (("x", '["\\xc4"]'), ("y", "\\ud800"))


def test_uris_of_a_parquet_manifest_are_taken_as_they_are(tmp_path: Path) -> None:
    """Names may end in blanks; `--list-to` writes them so."""
    pq.write_table(pa.table({"uri": ["/x.jpg ", " /y.jpg"]}), tmp_path / "l.parquet")
    assert [s.object.uri for s in named(tmp_path / "l.parquet")] == ["/x.jpg ", f"{tmp_path}/ /y.jpg"]


def test_a_tar_that_cannot_be_asked_for_is_planned_all_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "l.txt", "/a.jpg\nhttp://127.0.0.1:1/a.tar\n/b.jpg\n")
    settings = Config(inputs=(str(path),), output="/nowhere")
    sources = list(expand(Storage(config.Storage(retries=0)), settings))
    assert [s.kind for s in sources] == [Kind.FILES, Kind.TAR, Kind.FILES]


def test_a_folder_of_parquet_parts_is_read_and_its_markers_are_files(tmp_path: Path) -> None:
    """As Spark writes them."""
    (tmp_path / "rows.parquet").mkdir()
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "rows.parquet" / "part-0.parquet")
    (tmp_path / "rows.parquet" / "_SUCCESS").touch()
    for given in ("rows.parquet", "rows.parquet/"):
        check(Storage(), Config(inputs=(f"{tmp_path}/{given}",)))
        kinds = {s.object.uri.rpartition("/")[2]: s.kind for s in named(f"{tmp_path}/{given}")}
        assert kinds == {"_SUCCESS": Kind.FILES, "part-0.parquet": Kind.ROWS}
