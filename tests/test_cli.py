"""The command line: help, exit codes, and mistakes in one sentence without a trace."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NoReturn

import pytest

import facebatch
from facebatch import cli, config, demo, epochs, ledger, resources
from facebatch.audit import Audit
from facebatch.cli import base
from facebatch.dataset import Dataset
from facebatch.sink import Writer
from facebatch.storage import Storage
from tests.test_sink import FACTS
from tests.test_verdict import faultless, write_tables
from tests.test_verify import dataset as dataset


def run(*words: str) -> int:
    try:
        return cli.main(words)
    except SystemExit as leave:  # argparse's way out
        return int(leave.code or 0)


def test_help_names_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    for word in (
        "index",
        "verify",
        "erase",
        "models",
        "demo",
        "exit codes: 0 done, 1 failed",
        "2 bad usage",
        "3 the sums",
    ):
        assert word in text


@pytest.mark.parametrize("command", ["index", "plan", "verify", "status", "erase", "models", "demo"])
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert f"facebatch {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"facebatch {facebatch.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["index"], "there is nothing to index: name photos with --input"),
        (["index", "--input", "."], "there is nowhere to write to: name a folder or URI with --output"),
        (
            ["index", "--input", ".", "--output", "o", "run.layot=split"],
            "there is no setting run.layot; the nearest is",
        ),
        (["index", "--input", ".", "--output", "o", "--config", "none.yaml"], "none.yaml cannot be read"),
        (["index", "--input", __file__, "--output", "o", "detect.pack=none"], "there is no detector pack 'none'"),
        (["index", "--input", "/no/such/place", "--output", "o"], "names nothing"),
        (
            ["index", "--input", __file__, "--output", "o", "--retry", "CORRUPT,NOT_FOUND"],
            "'NOT_FOUND' cannot be retried: every run tries it again by itself. What can is NOT_AN_IMAGE, EMPTY",
        ),
        (["plan", "--input", __file__, "--retry", "no"], "'no' cannot be retried: it is no reason. What can is"),
        (["plan"], "there is nothing to index: name photos with --input"),
        (["plan", "--gpus", "64"], "--gpus is for a run on paper: say of how many images with --images"),
        (["plan", "--images", "1e9", "--input", "."], "--input is for a run over what is there, and --images for one"),
        (["plan", "--images", "1e9", "--costs", "/no/such/place"], "is no facebatch dataset"),
        (["verify", "/no/such/place"], "is no facebatch dataset"),
        (["verify", "/no/such/place", "--deep"], "is no facebatch dataset"),
        (["status", "/no/such/place"], "is no facebatch dataset"),
        (["erase", "/no/such/place", "--image", "/photos/1.jpg"], "is no facebatch dataset"),
        (["erase", "/no/such/place"], "there is nothing to erase: name images with --image or --list"),
        (["erase", "/no/such/place", "--list", "none.txt"], "none.txt cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("facebatch: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "nothing was written"


def test_reasons_to_retry_are_named_with_commas_or_one_by_one() -> None:
    words = ["index", "--input", "photos", "--retry", "CORRUPT,EMPTY", "--retry", "TRUNCATED", "run.retry=[EMPTY]"]
    settings = base.indexing(cli._parser().parse_args(words))
    assert settings.run.retry == ("CORRUPT", "EMPTY", "TRUNCATED"), "the option wins over the setting"


@pytest.fixture
def empty(tmp_path: Path) -> Dataset:
    """A dataset without images."""
    made = Dataset.at(Storage(), str(tmp_path / "out"))
    made.open({**FACTS, "contract": {}})
    with epochs.taken(made) as epoch:
        ledger.settle(made, epoch.number)
        Writer(made, epoch.guard, FACTS).write_empty()
    return made


def test_settings_may_stand_behind_options(empty: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", empty.root, "--config", str(resources.folder("conf") / "local.yaml"), "storage.retries=1") == 0
    assert run("verify", empty.root, "--config", str(resources.folder("conf") / "local.yaml"), "storage.retires=1") == 2
    assert "there is no setting storage.retires; the nearest is storage.retries" in capsys.readouterr().err


def test_images_to_erase_are_named_by_options_in_files_and_on_stdin(
    dataset: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = tmp_path_factory.mktemp("names") / "list.txt"
    names.write_text("/photos/1.jpg\n\n/photos/2.jpg\n")
    assert run("erase", dataset.root, "--image", "/photos/4.jpg", "--list", str(names)) == 0
    assert capsys.readouterr().out == "3 images and their 4 faces are erased\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("/photos/1.jpg\n/photos/5.jpg\n"))
    assert run("erase", dataset.root, "--list", "-", "storage.retries=1") == 0
    assert capsys.readouterr().out == "1 images and their 2 faces are erased\n1 images had been before\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("/p/a\x85b.jpg\r\n"))
    assert run("erase", dataset.root, "--list", "-", "--image", "/photos/\udcff.jpg") == 2
    assert "2 of 2 names" in capsys.readouterr().err, "no line break but one ends a name"
    assert run("erase", dataset.root, "--image", "/photos/none.jpg") == 2
    assert "nothing was erased" in capsys.readouterr().err
    assert run("verify", dataset.root) == 0
    assert "4 skipped" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--depe"], ["--sample", "x"], ["--sample", "-1"], ["--seed", "1.5"]])
def test_what_verify_does_not_understand_is_bad_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", "out", *words) == 2
    assert words[0] in capsys.readouterr().err
    assert run("models", "list", "a=b") == 2, "and so is a setting where there are none"


def test_verify_deep_tells_what_was_compared_how_and_what_was_not(
    empty: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Audit(
        images=1000,
        drawn=100,
        seed=5,
        compared=86,
        left_out=Counter(TIMEOUT=2),
        unread=Counter(NOT_FOUND=11, SOURCE_CHANGED=1),
        example="/photos/a.jpg: there is no such file",
        tolerances={"run 1 computed on cuda, this on cpu": "boxes from IoU 0.95 on"},
    )
    asked: list[object] = []

    def audited(*words: object) -> Audit:
        asked.append(words[-2:])
        return found

    monkeypatch.setattr("facebatch.audit.models", lambda *_: None)
    monkeypatch.setattr("facebatch.audit.audit", audited)
    assert run("verify", empty.root, "--deep", "--sample", "100", "--seed", "5") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "86 of 100 drawn images (--seed 5) were computed again and compared",
        "  boxes from IoU 0.95 on: run 1 computed on cuda, this on cpu",
        "  2 of 100 were not computed again: TIMEOUT",
        "  12 of 100 sources could not be compared: NOT_FOUND 11, SOURCE_CHANGED 1, e.g. /photos/a.jpg: there is no "
        "such file",
        "the dataset is whole",
    ]
    found.problems.append("/photos/b.jpg: n_faces was 2 and is now 1")
    assert run("verify", empty.root, "--deep") == 3
    assert "PROBLEM /photos/b.jpg: n_faces was 2 and is now 1\n1 problems" in capsys.readouterr().out
    assert asked[0] == (100, 5)
    assert run("verify", empty.root, "--deep") == 3
    assert asked[1] != asked[2], "another seed each time, unless one is given"


def test_decoders_are_not_heard_while_images_are_computed_again(capfd: pytest.CaptureFixture[str]) -> None:
    with base.quiet():
        os.write(2, b"libtiff: Bad code word\n")
    os.write(2, b"said afterwards\n")
    assert capfd.readouterr().err == "said afterwards\n"


def test_an_unknown_command_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("idnex") == 2
    assert "idnex" in capsys.readouterr().err


def test_being_interrupted_is_said_calmly(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_verify", interrupted)
    assert run("verify", "out") == 1
    assert "stopped; what was committed stays" in capsys.readouterr().err


def test_models_lists_packs_with_licence_and_where_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models") == 0
    text = capsys.readouterr().out
    for word in ("yunet-n", "edgeface-xs", "Apache-2.0", "MIT", "non-commercial"):
        assert word in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["--version"], 0, "facebatch "), (["models", "show", "none"], 2, ""), (["models", "list"], 0, "yunet-n")],
)
def test_the_process_ends_with_the_commands_exit_code_and_all_its_output(
    words: list[str], code: int, said: str
) -> None:
    """Through a pipe, where output waits in a buffer."""
    done = subprocess.run([sys.executable, "-m", "facebatch", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stdout


def test_a_reader_that_has_seen_enough_is_no_trace() -> None:
    words = [sys.executable, "-m", "facebatch", "models", "list"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait() == 1


@pytest.mark.needs_models
def test_detectors_are_measured_on_annotated_photographs(
    tmp_path: Path, astronaut: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(astronaut)
    (tmp_path / "ground_truth.jsonl").write_text('{"file": "a.png", "boxes": [[177, 56, 275, 178]]}')
    words = ["eval", "detection", "--data", str(tmp_path), "--detector", "slim-320", "--output", str(tmp_path / "out")]
    assert cli.main(words) == 0
    said = capfd.readouterr()
    assert said.out.split()[:4] == ["detector", "AP", "published", "AP"]
    assert "ultra-lightweight-face-detection-slim-320" in said.out
    assert f"written: {tmp_path / 'out' / 'detection.json'}" in said.err
    assert cli.main([*words, "--protocol", "best"]) == 2
    assert "no protocol 'best'; there are plain, slim-320, ssh-mxnet" in capfd.readouterr().err


@pytest.mark.needs_models
def test_landmarks_are_held_against_a_stronger_detectors(
    tmp_path: Path, astronaut: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(astronaut)
    (tmp_path / "ground_truth.jsonl").write_text('{"file": "a.png", "boxes": []}')
    assert cli.main(["eval", "landmarks", "--data", str(tmp_path)]) == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert " ".join(lines[0]) == "detector yunet-n's faces all faces from 16 pixels from 32 pixels from 64 pixels"
    assert [line[:3] for line in lines[1:]] == [
        ["yunet-n", "one", "look"],
        ["yunet-n", "mean", "1"],
        ["facebatch-detector", "one", "look"],
        ["facebatch-detector", "mean", "1"],
    ]
    assert lines[1][3:6] == ["1", "0.0", "%"]


@pytest.mark.needs_models
def test_embedders_and_alignments_are_measured_on_people(
    tmp_path: Path, astronaut: bytes, hopper: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, data in (("a", astronaut), ("b", hopper)):
        (tmp_path / "people" / name).mkdir(parents=True)
        for copy in range(2):
            (tmp_path / "people" / name / f"{copy}.png").write_bytes(data)
    everyone = ["--data", str(tmp_path / "people")]
    words = ["eval", "verification", *everyone, "--all-pairs", "--embedder", "edgeface-xs"]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    said = capfd.readouterr()
    assert "edgeface-xs +flip" in said.out
    assert "2 + 4" in said.out
    assert (tmp_path / "out" / "verification.json").exists()
    assert cli.main(["eval", "alignment", *everyone, "--detector", "slim-320", "--pad", "0"]) == 0
    ways = [line.split()[1] for line in capfd.readouterr().out.splitlines()[1:]]
    assert ways == ["box", "landmarks-regression-retail-0009", "onet"]
    assert cli.main(["eval", "verification", "--data", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("lost", [False, True])
def test_the_demo_judges_its_run_and_a_lost_face_is_exit_code_one(
    lost: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_index(settings: config.Config) -> int:
        works = faultless(demo.archive())
        if lost:
            works["photos/group.jpg"].faces.pop()
        write_tables(Path(settings.output), works)
        return 0

    monkeypatch.setattr(cli, "_run_index", run_index)
    assert run("demo", "--output", str(tmp_path)) == (1 if lost else 0)
    said = capsys.readouterr().out
    problems = [line.split(maxsplit=1)[1] for line in said.splitlines() if line.startswith("PROBLEM")]
    assert problems == ["the face of Grace Hopper was not found in photos/group.jpg"] * lost
    assert ("every face is found, none is invented" in said) != lost
    assert str(tmp_path / "faces.png") in said
    assert (tmp_path / "faces.png").read_bytes().startswith(b"\x89PNG")


def test_a_demo_with_a_mistake_in_its_settings_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("demo", "--output", str(tmp_path / "demo"), "detect.sc=1") == 2
    assert "there is no setting detect.sc" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_errors_of_a_run_are_objects_where_its_logs_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("index", "--input", str(tmp_path / "none"), "--output", str(tmp_path / "out"))
    assert run(*words, "run.logs=json") == 2
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert (told[-1]["level"], told[-1]["event"], told[-1]["run"]) == ("error", "stderr", None)
    said = told[-1]["message"]
    assert run(*words) == 2
    assert capfd.readouterr().err.splitlines()[-1] == said, "the same sentence"


def test_a_mistake_of_ours_is_an_object_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> NoReturn:
        raise RuntimeError("odd")

    monkeypatch.setattr("facebatch.pipeline.index.index", broken)
    words = ("index", "--input", str(tmp_path), "--output", str(tmp_path / "out"), "run.logs=json")
    with pytest.raises(SystemExit, match="1"):
        cli.main(words)
    (told,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert (told["level"], told["message"]) == ("error", "RuntimeError: odd")
    assert 'raise RuntimeError("odd")' in told["trace"]
