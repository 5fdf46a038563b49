"""The command line as a user runs it: the real archive, readers without facebatch, kills at any moment."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

from facebatch.schema import FACES, IMAGES
from tests.e2e.conftest import PUBLISHED, assert_same_faces, command, table, vectors

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def indexed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output = tmp_path_factory.mktemp("archive") / "out"
    return output, command("index", "--input", str(archive), "--output", str(output), *PUBLISHED)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, astronaut: bytes, hopper: bytes) -> Path:
    """A dataset of two faces."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "photos").mkdir()
    (folder / "photos" / "a.png").write_bytes(astronaut)
    (folder / "photos" / "b.jpg").write_bytes(hopper)
    (folder / "photos" / "c.jpg").write_bytes(hopper + b"\0")
    done = command("index", "--input", str(folder / "photos"), "--output", str(folder / "out"))
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.mark.needs_models
def test_the_archive_is_indexed_without_noise(
    archive: Path, indexed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    output, done = indexed
    assert done.returncode == 0, done.stderr
    files = sorted(str(p.absolute()) for p in archive.rglob("*") if p.is_file())
    assert sorted(table(output, "images")["uri"].to_pylist()) == [os.path.abspath(f) for f in files]
    for stream in (done.stdout, done.stderr):
        assert "Traceback" not in stream
        assert "ray" not in re.sub(r"Ray sees|gray", "", stream).lower(), stream
    assert re.search(r"rate +\d+\.\d +images/s", done.stdout)
    assert re.search(r"memory +\d+\.\d\d +GiB", done.stdout)


@pytest.mark.needs_models
def test_the_archives_statuses_agree_with_pillow_but_for_what_it_does_not_read(
    indexed: tuple[Path, subprocess.CompletedProcess[str]], archive: Path, manifest: list[dict[str, str]]
) -> None:
    rows = {row["uri"]: row for row in table(indexed[0], "images").to_pylist()}
    judged = [row for row in manifest if row["pillow13"]]
    rules: Counter[str] = Counter()
    for row in judged:
        ours = rows[os.path.abspath(archive / row["path"])]
        if (row["pillow13"] == "ok") != (ours["status"] in ("ok", "no_face")):
            rules[f"{ours['reason']}: {ours['format'] or ours['detail'].split()[0]}"] += 1
    assert dict(rules) == {"None: HEIF": 1}, "what a package beside Pillow decodes"
    assert sum(rules.values()) <= 0.05 * len(judged)


@pytest.mark.needs_models
def test_faces_are_counted_right_and_few_are_invented(
    indexed: tuple[Path, subprocess.CompletedProcess[str]], archive: Path, manifest: list[dict[str, str]]
) -> None:
    rows = {row["uri"]: row["n_faces"] for row in table(indexed[0], "images").to_pylist()}
    invented = 0
    counted = {}
    for row in manifest:
        found = rows[os.path.abspath(archive / row["path"])]
        if row["cls"] == "photo_faces_counted":
            counted[row["path"]] = (found, int(row["note"].split()[0]))
        elif row["cls"] == "photo_noface":
            invented += found
    assert len(counted) == 12
    assert {path: pair for path, pair in counted.items() if pair[0] != pair[1]} == {}
    assert invented <= 2


@pytest.mark.needs_models
def test_the_archive_verifies_and_a_second_run_has_nothing_to_do(
    archive: Path, indexed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    output, _ = indexed
    verified = command("verify", str(output))
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (0, "the dataset is whole")
    started = time.monotonic()
    again = command("index", "--input", str(archive), "--output", str(output), *PUBLISHED)
    assert again.returncode == 0
    assert "nothing to do: all 849 images are indexed already" in again.stderr
    assert time.monotonic() - started < 60, "it does not start Ray"


def test_verify_says_what_is_wrong_and_exits_with_three(small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(small), str(copy)], check=True)
    next((copy / "faces").glob("*.parquet")).unlink()
    verified = command("verify", str(copy))
    assert verified.returncode == 3
    assert "PROBLEM" in verified.stdout
    assert "is missing" in verified.stdout


def test_a_report_tells_what_the_run_has_written_and_shows_its_faces(small: Path, tmp_path: Path) -> None:
    page, facts = tmp_path / "report.html", tmp_path / "report.json"
    done = command("report", str(small), "--html", str(page), "--json", str(facts), "--faces", "2")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    told = json.loads(facts.read_text())["tables"]
    assert told["faces"]["faces"] == table(small, "faces").num_rows == 3
    assert told["cost"]["images"] == told["images"][-1]["images"] == table(small, "images").num_rows
    assert told["throughput"][-1]["images"] == 3
    assert {row["uri"] for row in told["slowest"]} == set(table(small, "images")["uri"].to_pylist())
    assert {row["stage"] for row in told["stages"]} >= {"read", "decode", "detect", "chip", "embed", "write"}
    assert page.read_text(encoding="utf-8").count("data:image/jpeg;base64,") == 2


def test_a_missing_model_is_one_clear_sentence(small: Path, tmp_path: Path) -> None:
    done = command(
        "index",
        "--input",
        str(small),
        "--output",
        str(tmp_path / "out"),
        "detect.pack=yunet-n",
        FACEBATCH_MODELS=str(tmp_path / "none"),
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path}/none/yunet/yunet_n_dynamic.onnx" in done.stderr
    assert "set FACEBATCH_MODELS" in done.stderr


def test_the_readme_query_lists_nearest_faces_as_printed(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (query,) = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(small.parent)
    _, [(some,)] = _duckdb("SELECT face_id FROM 'out/faces/*.parquet' WHERE uri LIKE '%b.jpg'")
    given = re.search(r"'([0-9a-f]{32}-\d+)'", query)
    assert given is not None
    _, rows = _duckdb(query.replace(given[1], some))
    assert [Path(row[0]).name for row in rows] == ["c.jpg", "a.png"]
    assert rows[0][-1] > 0.99 > 0.3 > rows[1][-1]


def _duckdb(query: str) -> tuple[list[str], list[Any]]:
    """Columns and rows."""
    answer = duckdb.connect().execute(query)
    return [column[0] for column in answer.description or []], answer.fetchall()


def _by_glob(output: Path, name: str) -> Iterator[tuple[str, list[str], int, np.ndarray | None]]:
    """Reader, columns, rows, vectors: each reader as its users call it."""
    pattern = f"{output}/{name}/*.parquet"
    columns, ducks = _duckdb(f"SELECT * FROM '{pattern}'")
    bears = pl.read_parquet(pattern)
    pandas = pd.concat([pd.read_parquet(file) for file in sorted(output.glob(f"{name}/*.parquet"))])
    found: list[np.ndarray | None] = [None] * 3
    if name == "faces":
        vector = columns.index("embedding")
        found = [np.array([r[vector] for r in ducks]), bears["embedding"].to_numpy(), np.array([*pandas["embedding"]])]
    yield "duckdb", columns, len(ducks), found[0]
    yield "polars", bears.columns, len(bears), found[1]
    yield "pandas", list(pandas.columns), len(pandas), found[2]


def test_duckdb_polars_and_pandas_read_both_tables_by_a_plain_glob(small: Path) -> None:
    for reader, columns, rows, _ in _by_glob(small, "images"):
        assert (columns, rows) == (IMAGES.names, 3), reader
    expected = np.sort(vectors(table(small, "faces")), axis=0)
    for reader, columns, rows, found in _by_glob(small, "faces"):
        assert (columns, rows) == (FACES.names, 3), reader
        assert found is not None
        assert np.array_equal(np.sort(found.astype(np.float32), axis=0), expected), reader


def test_they_also_read_them_when_no_image_had_a_face(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("x")
    assert command("index", "--input", str(tmp_path / "photos"), "--output", str(tmp_path / "out")).returncode == 0
    for reader, columns, rows, _ in _by_glob(tmp_path / "out", "faces"):
        assert (columns, rows) == (FACES.names, 0), reader
    for reader, columns, rows, _ in _by_glob(tmp_path / "out", "images"):
        assert (columns, rows) == (IMAGES.names, 1), reader


def test_the_demo_finds_every_face_invents_none_and_tells_the_people_apart(tmp_path: Path) -> None:
    words = ["demo", "--output", str(tmp_path / "demo")]
    done = command(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Eileen Collins +10 +10 +0\.\d\d +-?0\.\d\d +10 of 10", done.stdout)
    assert re.search(r"Grace Hopper +9 +9 +0\.\d\d +-?0\.\d\d +9 of 9", done.stdout)
    assert re.search(r"verdict +every face is found, none is invented", done.stdout)
    with Image.open(tmp_path / "demo" / "faces.png") as sheet:
        assert sheet.width > 10 * 160
    again = command(*words)
    assert "nothing to do: all 20 images are indexed already" in again.stderr
    assert again.returncode == 0
    assert re.search(r"verdict +every face is found, none is invented", again.stdout)
    images, faces = table(tmp_path / "demo" / "index", "images"), table(tmp_path / "demo" / "index", "faces")
    assert Counter(images["status"].to_pylist()) == {"ok": 16, "no_face": 1, "failed": 1, "skipped": 2}
    faces = faces.filter([not uri.endswith("group.jpg") for uri in faces["uri"].to_pylist()])
    hopper = np.array(["hopper" in row["uri"] + row["member"] for row in faces.to_pylist()])
    assert (hopper.sum(), len(hopper)) == (7, 15)
    cosines, own = vectors(faces) @ vectors(faces).T, hopper[:, None] == hopper[None]
    assert cosines[own].min() > cosines[~own].max()


@pytest.mark.needs_models
def test_kill_the_driver_anywhere_and_run_again_gives_the_same_rows_each_once(
    archive: Path, tmp_path: Path, indexed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    """SIGKILL at random moments between the start and the end of a run; then one run to the end. Many more of them are
    in `tests/faults/test_chaos.py`."""
    dice = random.Random(1)
    output = tmp_path / "out"
    words = ["index", "--input", str(archive), "--output", str(output), "run.commit_images=30", *PUBLISHED]
    records = output / "_facebatch" / "records"
    for final in (False, False, False, True):
        running = subprocess.Popen([sys.executable, "-m", "facebatch", *words], stdout=-3, stderr=-3)
        time.sleep(dice.uniform(2, 20))
        while final and not list(records.glob("*.json")) and running.poll() is None:
            time.sleep(0.1)  # on a busy machine no run might come far enough to commit anything
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert list(records.glob("*.json")), "nothing was committed"
    last = command(*words)
    assert last.returncode == 0, last.stderr
    assert command("verify", str(output)).returncode == 0
    for name in ("images", "faces"):
        key = name.removesuffix("s") + "_id"
        ids = table(output, name)[key].to_pylist()
        assert len(set(ids)) == len(ids)
    one, other = (table(o, "images").sort_by("image_id").to_pylist() for o in (indexed[0], output))
    assert one == other
    assert_same_faces(table(indexed[0], "faces"), table(output, "faces"), key=["uri"])


def test_status_of_a_killed_run_tells_what_is_done_what_is_left_and_what_to_type(archive: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ["index", "--input", str(archive), "--output", str(output), "run.commit_images=30"]
    with subprocess.Popen([sys.executable, "-m", "facebatch", *words], stdout=-3, stderr=-3) as running:
        while len(list(output.glob("_facebatch/records/*.json"))) < 3:
            assert running.poll() is None
            time.sleep(0.05)
        running.kill()
    told = command("status", str(output))
    assert told.returncode == 0
    lines = {line.split()[0]: line.split(maxsplit=1)[1].rstrip() for line in told.stdout.splitlines()}
    done, left = int(lines["images"].split()[0]), int(lines["left"])
    assert 90 <= done < 849
    assert done + left == 849
    assert re.fullmatch(r"\d+ +([A-Z_]+ \d+(, )?)+", lines["failed"]), "by reason"
    assert re.match(r"1 +stopped without an end \(process ", lines["run"])
    again = command(*shlex.split(lines["next"])[1:])
    assert (again.returncode, shlex.split(lines["next"])[0]) == (0, "facebatch")
    assert table(output, "images").num_rows == 849
    finished = command("status", str(output)).stdout
    assert "next" not in finished
    assert re.search(r"left +0", finished)


def test_an_interrupted_run_says_how_to_go_on(archive: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "facebatch", "index", "--input", str(archive), "--output", str(tmp_path / "out")]
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # also where these tests run in the background
    pipe = subprocess.PIPE
    with subprocess.Popen(words, preexec_fn=listening, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stderr
        for line in running.stderr:
            if "parcels of" in line:
                break
        time.sleep(4)
        running.send_signal(signal.SIGINT)
        _, error = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "stopped; what was committed stays, and the same command goes on from there" in error
    assert "Traceback" not in error
