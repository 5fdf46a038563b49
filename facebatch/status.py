"""`facebatch status`: how far a dataset is, from its records alone, while a run is at work and after one was killed.

Reads `_facebatch/` only, so it costs the same for large tables, and disturbs nobody.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from facebatch import epochs, ledger, plan
from facebatch.config import words
from facebatch.dataset import Dataset
from facebatch.epochs import EXPIRY, Standing
from facebatch.progress import clock
from facebatch.reasons import Status
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
        yield "run", str(last.epoch), describe(last, finished)
        record = dataset.run(last.epoch)
        if record and not finished and not _at_work(last):
            storage = "".join(f" storage.{name}=..." for name in record["storage"])
            yield "next", "", f"facebatch index {shlex.join(words(record['config']))}{storage}"
    yield "models", "", f"{facts['detector']}, {facts['embedder']}; contract {facts['contract_id']}"


def describe(last: Standing, finished: bool) -> str:
    """How the last run stands, and what there is to do."""
    beat = f", last heartbeat {clock(last.quiet)} ago" if last.quiet is not None else ""
    go_on = "" if finished else "; run the same command again to go on"
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
