"""The commit protocol: the order in which a run writes, so that a kill at any moment loses nothing and doubles nothing.

Records alone say what is done. Every step below is one object, written whole or not at all; what a kill right behind it
leaves, and what the next run (the same command, run again) makes of that:

| step | writes | a kill right behind it leaves | the next run |
|---|---|---|---|
| take | `epochs/N.json`, if absent | a number without decisions | takes N+1; the decisions of run N-1 stand |
| settle | `epochs/N.accepted`: the records that count | files that do not count | finds the same decision, sweeps |
| sweep | deletes what no accepted record names | a part of that | deletes the rest |
| release | as data and record, a record in place of another | the one or the other counts | releases the rest |
| erase | the same, by a command of its own | the same | is that command again, which erases the rest |
| plan | `plan/K.parquet`, if absent: new sources in shards | shards without rows | computes them; plans what is newer |
| data | `images/NAME-X.parquet`, then `faces/...` | files that no record names | sweeps them, computes their rows |
| record | `records/NAME.json`, if absent | a whole commit | has nothing to do for its rows |
| sweep, end | deletes; `epochs/N.ended` | a finished dataset | finds nothing to do |

NAME is the run's number and a hash of the rows' places, so that two attempts at the same rows (Ray repeats a task whose
worker died, and both may live) want the same record, and one gets it. X is of the attempt alone: what an attempt has
put, no other record can name, so whoever loses may remove its own.

Before each step the run's right to write is checked. A run that was taken over and does not know it yet (a zombie) can
be one write late. A late file is removed by the zombie itself at its next check, or swept. A late record is void,
because a run settles before it writes and settling is final; the zombie looks once more behind its record and removes
what it finds void. What remains is a zombie that sleeps through its successor's whole run, wakes, writes one object and
is killed before its next check: `facebatch verify` names that object, and the next run sweeps it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from facebatch.dataset import Dataset
from facebatch.epochs import Guard, Superseded
from facebatch.failpoints import failpoint
from facebatch.ledger import File, Record, is_void, record_path


def commit(dataset: Dataset, guard: Guard, record: Record, files: Sequence[tuple[File, bytes]]) -> bool:
    """Write the files and the record that names them. False if another attempt at the same rows was first.

    Raises Superseded when another run has taken over, StorageError when the storage fails. Behind either the commit
    counts whole or not at all: an answer that was lost may have been a yes.
    """
    path = record_path(dataset, record.name)
    if dataset.storage.stat(path) is not None:
        return False
    written: list[str] = []
    failpoint("data")
    try:
        for file, data in files:
            guard.check()
            written.append(dataset.path(file.path))
            dataset.storage.put(written[-1], data)
            failpoint(file.path.partition("/")[0])
        guard.check()
        failpoint("record")
    except Superseded:
        _remove(dataset, written)
        raise
    if not dataset.storage.create(path, json.dumps(asdict(record)).encode()):
        _remove(dataset, written)
        return False
    failpoint("committed")
    try:
        guard.check()
    except Superseded:
        if is_void(dataset, record):
            _remove(dataset, [*written, path])
        raise
    return True


def _remove(dataset: Dataset, uris: Sequence[str]) -> None:
    for uri in uris:
        dataset.storage.delete(uri)
