"""Logs: one object in each line, with the run, without secrets, and not without end."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from facebatch import logs
from facebatch.logs import MOST, Lines, event, say


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    made = io.StringIO()
    logs.to(made)
    logs.begin(7)
    return made


def test_an_event_is_one_line_with_its_run(stream: io.StringIO) -> None:
    event("commit", "4 images are committed", record="00007-ab", images=4)
    (told,) = _lines(stream)
    assert list(told)[:5] == ["time", "level", "event", "run", "message"]
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "info",
        "event": "commit",
        "run": 7,
        "message": "4 images are committed",
        "record": "00007-ab",
        "images": 4,
    }


def test_what_would_break_a_line_or_move_a_cursor_is_escaped(stream: io.StringIO) -> None:
    event("odd", "a\nb\x1b[2J\u2028c", shard_id="s\r\n{}")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()
    (told,) = _lines(stream)
    assert (told["message"], told["shard_id"]) == ("a\nb\x1b[2J\u2028c", "s\r\n{}")


def test_secrets_stay_out_of_messages_and_fields(stream: io.StringIO) -> None:
    event(
        "read",
        "it failed at: (sftp://me:hunter2@host/a), https://b/c?X-Amz-Signature=beef",
        uri="sftp://me:hunter2@host/a",
    )
    assert "hunter2" not in stream.getvalue()
    assert "beef" not in stream.getvalue()
    assert _lines(stream)[0]["uri"] == "sftp://me:***@host/a"


def test_warnings_of_a_kind_have_an_end_which_is_said(stream: io.StringIO) -> None:
    for index in range(MOST + 50):
        event("image_failed", "an image failed", logging.WARNING, index=index)
        event("shard_read", "a shard is read to its end")
    event("worker_restarted", "another kind", logging.WARNING)
    found = [told["event"] for told in _lines(stream)]
    assert (found.count("image_failed"), found.count("silenced"), found.count("shard_read")) == (MOST, 1, MOST + 50)
    assert found[-1] == "worker_restarted"
    logs.begin(8)
    event("image_failed", "an image failed", logging.WARNING)
    assert _lines(stream)[-1]["run"] == 8, "a new run may warn again"


def test_nothing_is_written_where_nobody_has_asked_for_it() -> None:
    """In a process without pytest, whose own handlers keep Python from writing warnings to stderr."""
    code = "from facebatch.logs import event; event('image_failed', 'an image failed', 30)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_worker_writes_to_its_stderr_once_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    for run in (3, 3, 4):
        logs.from_worker(run)
        event("commit", "images are committed")
    assert [json.loads(line)["run"] for line in capsys.readouterr().err.splitlines()] == [3, 3, 4]


def test_an_error_of_python_is_a_line_too(stream: io.StringIO) -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("facebatch").exception("it failed")
    (told,) = _lines(stream)
    assert (told["level"], told["message"]) == ("error", "it failed")
    assert told["trace"].endswith("ValueError: odd")


def test_remarks_are_sentences_or_objects() -> None:
    plain, machine = io.StringIO(), io.StringIO()
    say(Console(file=plain, width=20), "a [remark] that is longer than 20", images=3)
    assert plain.getvalue() == "a [remark] that is longer than 20\n"
    say(Console(file=Lines(machine)), "a [remark]", "progress", images=3)  # type: ignore[arg-type]
    (told,) = _lines(machine)
    assert (told["event"], told["message"], told["images"], told["run"]) == ("progress", "a [remark]", 3, None)


def test_whatever_else_is_printed_becomes_one_object_a_line() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    print("facebatch: it", "failed\n\nbadly", file=lines)
    lines.write("half")
    assert [(told["level"], told["message"]) for told in _lines(stream)] == [
        ("error", "facebatch: it failed"),
        ("error", "badly"),
    ]
    lines.write(" a line\n")
    assert _lines(stream)[-1]["message"] == "half a line"
