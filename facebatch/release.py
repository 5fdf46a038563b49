"""Releasing: rows that ended for good are given another try, because the user asks for it (`--retry`).

What is final stays, or every run would compute again what no run can mend. But the world changes: a package that was
absent is installed, a decoder that refused a file has a newer version. Then the rows of a reason are released: every
record that holds some of them is replaced by one of the present run, whose images file lacks them, and the run computes
them like whatever else is missing.

How a record is written anew, see `facebatch.rewrite`. Rows with a reason have no faces, so the faces stay as they are.
Records of which nothing is left need no new one: the first new record names them, too. Where nothing is left of any,
that record has no rows.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facebatch import ledger
from facebatch.dataset import Dataset
from facebatch.epochs import Guard
from facebatch.errors import UsageError
from facebatch.ledger import ABSENT, Record, State
from facebatch.plugins import is_installed
from facebatch.reasons import Reason
from facebatch.rewrite import carried, rewrite

RELEASABLE = tuple(
    r for r in Reason if not r.retryable and r not in (Reason.SOURCE_CHANGED, Reason.GATED, Reason.ERASED)
)
"""The reasons whose rows may become others although their source is the one that was planned."""


def chosen(words: Iterable[str]) -> frozenset[Reason]:
    """The reasons that the user names. Raises UsageError for one that cannot be retried, naming those that can."""
    wanted = set()
    for word in words:
        if word not in RELEASABLE:
            raise UsageError(f"{word!r} cannot be retried: {_objection(word)}. What can is {', '.join(RELEASABLE)}")
        wanted.add(Reason(word))
    return frozenset(wanted)


def counts(state: State, reasons: Collection[Reason]) -> dict[str, int]:
    """How many rows ended for each of these reasons; those that have none are left out."""
    totals = state.totals()
    return {str(reason): n for reason in sorted(reasons) if (n := totals.get(_key(reason), 0))}


def stale(state: State, reasons: Collection[Reason]) -> list[Record]:
    """The records that hold rows of these reasons."""
    return [record for record in state.records if any(record.counts.get(_key(reason)) for reason in reasons)]


def curable(state: State) -> dict[str, int]:
    """How many rows by format failed because a package was absent that is installed here now."""
    absent = {key.removeprefix(ABSENT): n for key, n in sorted(state.totals().items()) if key.startswith(ABSENT) and n}
    return {format: n for format, n in absent.items() if is_installed(format)}


def release(dataset: Dataset, guard: Guard, state: State, reasons: Collection[Reason]) -> State:
    """Replace every record that holds rows of these reasons by one without them. Returns what counts then.

    One record is in memory at a time. Raises Superseded when another run has taken over, FacebatchError where a file is
    not the one that its record names; the records before that one are replaced then, the others stay.
    """
    if not (old := stale(state, reasons)):
        return state
    kept = [record for record in old if _left(record, reasons)] or old[:1]
    void = [r.name for r in state.records if r not in kept and not _left(r, reasons)]
    for record in kept:
        _replace(dataset, guard, record, [record.name, *void], reasons)
        void = []
    state = ledger.state(dataset)
    ledger.sweep(dataset, guard, state)  # now, or readers would see the old rows beside the new ones for a whole run
    return state


def _replace(dataset: Dataset, guard: Guard, old: Record, replaces: list[str], reasons: Collection[Reason]) -> None:
    table = pq.ParquetFile(io.BytesIO(carried(dataset, old.images))).read()
    kept = table.filter(pc.invert(pc.is_in(table["reason"], pa.array(sorted(reasons)))))
    rewrite(dataset, guard, old, replaces, kept, None, _without(old.counts, reasons))


def _left(record: Record, reasons: Collection[Reason]) -> int:
    """How many rows a record has of other reasons, or of none."""
    return record.images.rows - sum(record.counts.get(_key(reason), 0) for reason in reasons)


def _without(counts: dict[str, int], reasons: Collection[Reason]) -> dict[str, int]:
    left = dict(counts)
    for reason in reasons:
        left[reason.status] -= left.pop(_key(reason), 0)
    if Reason.UNSUPPORTED_FORMAT in reasons:
        left = {key: n for key, n in left.items() if not key.startswith(ABSENT)}
    return left


def _key(reason: Reason) -> str:
    return f"{reason.status}/{reason}"


def _objection(word: str) -> str:
    if word == Reason.SOURCE_CHANGED:
        return (
            "the plan holds the version that was listed, and another one is another source; "
            "index the new version into a dataset of its own"
        )
    if word == Reason.GATED:
        return "the same gate would see the same again; another gate is another dataset"
    if word == Reason.ERASED:
        return "its faces were erased because somebody asked for it; only a new dataset can hold them again"
    if word in set(Reason):
        return "every run tries it again by itself"
    return "it is no reason"
