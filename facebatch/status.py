"""`facebatch status`: how far a dataset is, from its records alone, while a run is at work and after one was killed.

Reads `_facebatch/` only, so it costs the same for large tables, and disturbs nobody.
"""

from __future__ import annotations

from collections.abc import Iterator

from facebatch import epochs, ledger, plan
from facebatch.dataset import Dataset
from facebatch.epochs import EXPIRY, Standing
from facebatch.progress import clock
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
    yield (
        "shards",
        str(len(shards) - len(todo)),
        f"of {len(shards)} done, {sum(s.bytes for s in todo) / 1e6:.1f} MB to do",
    )
    last = epochs.standing(dataset)
    if last:
        yield "run", str(last.epoch), describe(last, finished=bool(shards) and not todo)
    yield "models", "", f"{facts['detector']}, {facts['embedder']}; contract {facts['contract_id']}"


def describe(last: Standing, finished: bool) -> str:
    """How the last run stands, and what there is to do."""
    beat = f", last heartbeat {clock(last.quiet)} ago" if last.quiet is not None else ""
    go_on = "" if finished else "; run `facebatch index` again to go on"
    if last.ended:
        return f"came to its end{go_on}"
    if last.alive:
        return f"is at work ({last.who}{beat})"
    if last.alive is None and last.quiet is not None and last.quiet < EXPIRY:
        return f"is probably at work ({last.who}{beat})"
    return f"stopped without an end ({last.who}{beat}){go_on}"
