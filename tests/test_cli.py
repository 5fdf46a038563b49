"""The command line: help, exit codes, and mistakes in one sentence without a trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import facebatch
from facebatch import cli


def run(*words: str) -> int:
    try:
        return cli.main(words)
    except SystemExit as leave:  # argparse's way out
        return int(leave.code or 0)


def test_help_names_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    for word in ("index", "verify", "models", "demo", "exit codes: 0 done, 1 failed", "2 bad usage", "3 the sums"):
        assert word in text


@pytest.mark.parametrize("command", ["index", "verify", "status", "models", "demo"])
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
        (["verify", "/no/such/place"], "is no facebatch dataset"),
        (["status", "/no/such/place"], "is no facebatch dataset"),
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
    settings = cli._settings(cli._parser().parse_args(words))
    assert settings.run.retry == ("CORRUPT", "EMPTY", "TRUNCATED"), "the option wins over the setting"


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
