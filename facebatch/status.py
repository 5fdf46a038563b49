"""`facebatch status`: how far a dataset is, from its records alone, while a run is at work and after one was killed.

Reads `_facebatch/` only, so it costs the same for large tables, and disturbs nobody.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from facebatch import epochs, ledger, plan, release
from facebatch.config import words
from facebatch.dataset import Dataset
from facebatch.epochs import EXPIRY, Standing
from facebatch.progress import clock
from facebatch.reasons import Reason, Status
from facebatch.summary import Row, accounted


def status(dataset: Dataset) -> Iterator[Row]:
    """The rows of the table. Raises UsageError where there is no dataset."""
    facts = dataset.facts()
    shards = plan.shards(dataset)
    state = ledger.state(dataset)
    counts = [state.count(shard) for shard in shards]
    unread = counts.count(None)
    known = sum(count or 0 for count in counts)
    yield from accounted(state.totals(), f"{known} and those of {unread} unread containers" if unread else str(known))
    todo = [shard for shard in shards if state.missing(shard)]
    left = sum(state.left(shard) or 0 for shard in shards)
    retried = sum(sum(r.counts.get(status, 0) for status in Status) for r in state.records if r.retryable)
    again = f"{retried} of them failed for reasons outside them and are tried again" if retried else ""
    more = f"and what {unread} unread containers hold" if unread else ""
    yield "left", str(left), "; ".join(filter(None, (more, again)))
    yield (
        "shards",
        str(len(shards) - len(todo)),
        f"of {len(shards)} done, {sum(s.bytes for s in todo) / 1e6:.1f} MB to do",
    )
    last = epochs.standing(dataset)
    if last:
        finished = bool(shards) and not todo
        noted = (dataset.run(epoch) for epoch in range(last.epoch, 0, -1))
        record = next((run for run in noted if run), None)  # erasing notes nothing
        yield "run", str(last.epoch), describe(last, finished)
        if record and not _at_work(last):
            if not finished:
                yield "next", "", _command(record)
            if curable := release.curable(state):
                formats = ", ".join(f"{format} {n}" for format, n in curable.items())
                why = f"{formats} failed when the package for them was absent, which is installed now"
                yield "retry", str(sum(curable.values())), f"{why}: {_command(record, Reason.UNSUPPORTED_FORMAT)}"
    yield "models", "", f"{facts['detector']}, {facts['embedder']}; contract {facts['contract_id']}"


def _command(record: dict[str, Any], retry: Reason | None = None) -> str:
    """What to type for another run like this one, or for one that retries a reason instead of those that it retried.

    Of how storage is reached a run notes only what was set.
    """
    settings = record["config"]
    if retry:
        settings = settings | {"run": settings["run"] | {"retry": []}}
    storage = "".join(f" storage.{name}=..." for name in record["storage"])
    return f"facebatch index {shlex.join(words(settings))}{storage}{f' --retry {retry}' if retry else ''}"


def describe(last: Standing, finished: bool) -> str:
    """How the last run stands, and what there is to do."""
    beat = f", last heartbeat {clock(last.quiet)} ago" if last.quiet is not None else ""
    go_on = "" if finished else "; run `facebatch index` again to go on"
    if last.ended:
        return f"came to its end{go_on}"
    if _at_work(last):
        return f"is{'' if last.alive else ' probably'} at work ({last.who}{beat})"
    return f"stopped without an end ({last.who}{beat}){go_on}"


def _at_work(last: Standing) -> bool:
    """Whether the last run goes on, as far as can be told from here."""
    if last.ended:
        return False
    return bool(last.alive) or (last.alive is None and last.quiet is not None and last.quiet < EXPIRY)
