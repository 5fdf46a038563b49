"""Logs for machines: one JSON object in each line, with the run it belongs to.

Workers always write so, to the stderr that Ray keeps in its logs: shards, commits, and what went wrong. What a user
sees of a run on stderr is text, or such objects (`run.logs=json`). Names of photos stand in no event of a worker,
because they are personal: an image is known by its shard and index.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from facebatch.storage import without_secrets

if TYPE_CHECKING:  # a worker need not load it
    from rich.console import Console

_LOG = logging.getLogger("facebatch")
_LOG.addHandler(logging.NullHandler())  # or Python would print warnings where nobody asked for logs
MOST = 100
"""Warnings of one kind that a process writes in a run: a million broken images are no million lines."""


class _Context:
    """What this process works for, how often it has warned there, and where it writes to."""

    run: int | None = None
    warnings: Counter[str] = Counter()  # noqa: RUF012 - replaced for each run
    handler: logging.Handler = logging.NullHandler()


def begin(run: int | None) -> None:
    """What is logged from here on belongs to this run, by its number; to none yet for None."""
    _Context.run, _Context.warnings = run, Counter()


def to(stream: TextIO) -> None:
    """Write the events of this process to a stream from here on."""
    stop()
    _Context.handler = logging.StreamHandler(stream)
    _Context.handler.setFormatter(Formatter())
    _LOG.addHandler(_Context.handler)
    _LOG.setLevel(logging.INFO)


def stop() -> None:
    """Write them nowhere any more."""
    _LOG.removeHandler(_Context.handler)
    _LOG.setLevel(logging.NOTSET)


def from_worker(run: int) -> None:
    """In a worker, for each task: write to its stderr, which Ray keeps."""
    if _Context.run != run:
        begin(run)
        to(sys.stderr)


def event(name: str, message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log something that happened. Of warnings of one name no more than MOST are written for a run, and then that there
    are more."""
    if level >= logging.WARNING:
        _Context.warnings[name] += 1
        if _Context.warnings[name] > MOST:
            return
    _LOG.log(level, message, extra={"event": name, "fields": fields})
    if level >= logging.WARNING and _Context.warnings[name] == MOST:
        _LOG.log(level, f"no more of {name} are written by this process for this run", extra={"event": "silenced"})


def line(level: str, name: str, message: str, fields: dict[str, Any]) -> str:
    """One event as JSON, whose strings escape whatever would end a line or move a cursor."""
    head = {"time": _now(), "level": level, "event": name, "run": _Context.run, "message": _clean(message)}
    return json.dumps(head | {key: _clean(value) for key, value in fields.items()}, default=str)


class Formatter(logging.Formatter):
    """Python's records, of facebatch and others, as such lines."""

    def format(self, record: logging.LogRecord) -> str:
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        name = getattr(record, "event", record.name)
        return line(record.levelname.lower(), name, record.getMessage(), fields)


class Lines(io.TextIOBase):
    """A text stream that makes such an object of each line that is written to it: of errors, and traces if there are
    any. Remarks come through `say`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._rest = stream, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for words in filter(str.strip, lines):
            self.put("error", "stderr", words, {})
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def put(self, level: str, name: str, message: str, fields: dict[str, Any]) -> None:
        self._stream.write(line(level, name, message, fields) + "\n")


def say(console: Console, text: str, name: str = "remark", **fields: Any) -> None:
    """One plain line, whatever is in it; on a console of `Lines` an object with the fields as well."""
    if isinstance(console.file, Lines):
        console.file.put("info", name, text, fields)
    else:
        console.print(text, highlight=False, soft_wrap=True, markup=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clean(value: Any) -> Any:
    return _WORD.sub(lambda word: without_secrets(word[0]), value) if isinstance(value, str) else value


_WORD = re.compile(r"[^\s'\"<>(]+")
"""What may be a URI in a sentence."""
