"""One archive in every form that people have it in: the same faces from all of them."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.storage import Storage, join
from facebatch.verify import verify
from tests.conftest import encode
from tests.e2e.conftest import Run, assert_same_faces, run
from tests.s3 import S3

pytestmark = pytest.mark.usefixtures("a_ray")


@pytest.fixture(scope="module")
def sixty(group: np.ndarray, astronaut: bytes, hopper: bytes) -> dict[str, bytes]:
    """Sixty photos by name, with up to eight faces, in several formats; one is broken, one is none."""
    random = np.random.default_rng(4)
    formats: list[tuple[str, dict[str, Any]]] = [("JPEG", {"quality": 90}), ("PNG", {}), ("WEBP", {"quality": 90})]
    files = {"a/astronaut.png": astronaut, "a/hopper.jpg": hopper, "cut.jpg": hopper[:20_000], "notes.txt": b"none"}
    for i in range(56):
        format, options = formats[i % 3]
        moved = np.roll(group, random.integers(0, 600, 2), axis=(0, 1))
        files[f"b/{i:02d} é.{format.lower()}"] = encode(moved, format, **options)
    return files


def as_prefix(storage: Storage, root: str, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        storage.put(join(root, name), data)
    return root + "/"


def as_tars(storage: Storage, root: str, files: dict[str, bytes]) -> str:
    names = list(files)
    for k in range(3):
        shard = io.BytesIO()
        with tarfile.open(fileobj=shard, mode="w") as tar:
            for name in names[k::3]:
                info = tarfile.TarInfo(name)
                info.size = len(files[name])
                tar.addfile(info, io.BytesIO(files[name]))
        storage.put(join(root, f"{k}.tar"), shard.getvalue())
    return join(root, "*.tar")


def as_parquet_bytes(storage: Storage, root: str, files: dict[str, bytes]) -> str:
    names = list(files)
    for k in range(2):
        table = pa.table({"image": [files[n] for n in names[k::2]], "name": names[k::2]})
        storage.put(join(root, f"{k}.parquet"), parquet(table, row_group_size=16))
    return join(root, "*.parquet")


def as_parquet_uris(storage: Storage, root: str, files: dict[str, bytes]) -> str:
    prefix = as_prefix(storage, join(root, "files"), files)
    names = list(files)
    table = pa.table({"url": [prefix + n for n in names], "name": names, "year": [2000 + len(n) for n in names]})
    storage.put(join(root, "list.parquet"), parquet(table))
    return join(root, "list.parquet")


def as_manifest(storage: Storage, root: str, files: dict[str, bytes]) -> str:
    as_prefix(storage, join(root, "files"), files)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["name", "uri"])
    writer.writerows([name, f"files/{name}"] for name in files)
    storage.put(join(root, "list.csv"), text.getvalue().encode())
    return join(root, "list.csv")


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


Form = Callable[[Storage, str, dict[str, bytes]], str]
FORMS: list[Form] = [as_prefix, as_tars, as_parquet_bytes, as_parquet_uris, as_manifest]


def named(result: Run) -> tuple[list[tuple[Any, ...]], pa.Table]:
    """What became of each photo, and its faces, by the photo's own name in every form."""

    def name(row: dict[str, Any]) -> str:
        carried = dict(row["extra"] or ())
        return str(carried.get("name") or row["member"] or row["uri"].rpartition("/files/")[2])

    rows = result.images()
    names = {row["image_id"]: name(row) for row in rows}
    outcomes = sorted((names[r["image_id"]], r["status"], r["reason"], r["n_faces"], r["content_sha256"]) for r in rows)
    faces = result.faces()
    photos = pa.array([names[i] for i in faces["image_id"].to_pylist()], pa.string())
    return outcomes, faces.set_column(faces.schema.get_field_index("member"), "member", [photos])


def test_the_same_faces_from_ten_forms_of_an_archive(
    sixty: dict[str, bytes], s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefix, tars, Parquet with bytes, Parquet with URIs, CSV manifest; each on a local disk and on S3."""
    places = {
        "local": (Storage(), str(tmp_path / "in"), []),
        "s3": (
            Storage(s3.options),
            f"s3://{s3.bucket}/in",
            [f"storage.endpoint={s3.endpoint}", "storage.region=us-east-1"],
        ),
    }
    first: tuple[list[tuple[Any, ...]], pa.Table] | None = None
    for where, (storage, root, words) in places.items():
        for form in FORMS:
            files = {f"files/{n}": d for n, d in sixty.items()} if form is as_prefix else sixty
            given = form(storage, f"{root}/{form.__name__}", files)
            output = tmp_path / f"out-{where}-{form.__name__}"
            outcomes, faces = named(run([given], output, *words))
            assert verify(Dataset.at(Storage(), str(output))).problems == []
            if first is None:
                first = outcomes, faces
                assert len(outcomes) == 60
                assert faces.num_rows > 150
                continue
            assert outcomes == first[0], (where, form.__name__)
            assert_same_faces(first[1], faces, key=["member"])


def test_all_kinds_in_one_run_and_each_photo_once(sixty: dict[str, bytes], tmp_path: Path) -> None:
    storage, root = Storage(), str(tmp_path / "in")
    few = dict(list(sixty.items())[:12])
    inputs = [form(storage, f"{root}/{form.__name__}", few) for form in FORMS]
    result = run([*inputs, inputs[0], inputs[4]], tmp_path / "out")
    rows = result.images()
    assert len(rows) == 5 * 12
    assert verify(Dataset.at(Storage(), str(tmp_path / "out"))).problems == []
    carried = {row["uri"]: dict(row["extra"] or ()) for row in rows}
    assert carried[f"{root}/as_parquet_uris/files/cut.jpg"] == {"name": "cut.jpg", "year": "2007"}
    assert carried[f"{root}/as_prefix/cut.jpg"] == {}
    assert run([*inputs], tmp_path / "out").summary.new_images == 0


def test_an_archive_that_moved_is_gone_on_with(sixty: dict[str, bytes], tmp_path: Path) -> None:
    """With a base URI nothing in the dataset says where the archive lies."""
    few = list(sixty.items())[:8]
    as_prefix(Storage(), str(tmp_path / "here"), dict(few[:5]))
    base = f"base_uri={tmp_path / 'here'}"
    before = run([tmp_path / "here"], tmp_path / "out", base).images()
    assert sorted(row["uri"] for row in before) == sorted(name for name, _ in few[:5])
    (tmp_path / "here").rename(tmp_path / "there")
    as_prefix(Storage(), str(tmp_path / "there"), dict(few[5:]))
    moved = run([tmp_path / "there"], tmp_path / "out", f"base_uri={tmp_path / 'there'}")
    assert moved.summary.new_images == 3
    assert [row for row in moved.images() if row["uri"] in dict(few[:5])] == before
    with pytest.raises(Exception, match=r"holds URIs that are relative to a base: go on with --base-uri"):
        run([tmp_path / "there"], tmp_path / "out")


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """The address of a web server for a folder, of the simplest kind: it knows no ranges."""
    (tmp_path / "site").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site"))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_manifest_of_a_website_and_the_photos_and_tars_on_it(
    sixty: dict[str, bytes], website: str, tmp_path: Path
) -> None:
    few = {name.replace(" ", "_").replace("é", "e"): data for name, data in list(sixty.items())[:8]}
    site = Storage(), str(tmp_path / "site")
    as_prefix(*site, few)
    as_tars(*site, few)
    site[0].put(f"{site[1]}/list.csv", "".join(f"{n}\n" for n in ["url", *few, "0.tar", "gone.jpg"]).encode())
    with pytest.raises(FacebatchError, match=r"1 images failed for reasons outside them \(NOT_FOUND 1\)"):
        run([f"{website}/list.csv"], tmp_path / "out", "storage.retries=1")
    site[0].put(f"{site[1]}/gone.jpg", few["a/hopper.jpg"])
    done = run([f"{website}/list.csv"], tmp_path / "out")
    assert done.summary.new_images == 1
    by_uri = {(row["uri"], row["member"]): row["content_sha256"] for row in done.images()}
    assert len(by_uri) == 8 + 3 + 1
    assert by_uri[f"{website}/a/hopper.jpg", ""] == by_uri[f"{website}/gone.jpg", ""]
    assert verify(Dataset.at(Storage(), str(tmp_path / "out"))).problems == []
