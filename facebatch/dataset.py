"""A dataset: a folder or prefix with two tables, and `_facebatch/` with what a run has to know.

images/*.parquet  faces/*.parquet     the tables
_facebatch/dataset.json               what the dataset is: format, contract, models, licences (created once)
_facebatch/plan/                      facebatch.plan
_facebatch/epochs/                    facebatch.epochs
_facebatch/records/ ends/             facebatch.ledger
_facebatch/runs/00003.json            how run 3 was configured and what it cost
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from facebatch.contract import differences
from facebatch.errors import UsageError
from facebatch.schema import FORMAT
from facebatch.storage import Storage, absolute, join


@dataclass(frozen=True)
class Dataset:
    """Where a dataset lies and how it is reached. Small; travels to the workers."""

    storage: Storage
    root: str

    @classmethod
    def at(cls, storage: Storage, uri: str) -> Dataset:
        """The dataset at a folder or prefix, there or not yet."""
        return cls(storage, absolute(uri).rstrip("/"))

    def path(self, *parts: str) -> str:
        """The URI of something in the dataset."""
        return join(self.root, *parts)

    def internal(self, *parts: str) -> str:
        """The URI of something in `_facebatch/`."""
        return join(self.root, "_facebatch", *parts)

    def facts(self) -> dict[str, Any]:
        """What `dataset.json` holds. Raises UsageError where there is no dataset, or one of another format."""
        path = self.internal("dataset.json")
        if self.storage.stat(path) is None:
            raise UsageError(f"{self.root} is no facebatch dataset: there is no {path}")
        facts: dict[str, Any] = json.loads(self.storage.read(path)[0])
        if facts["format"] > FORMAT:
            raise UsageError(
                f"{self.root} has format {facts['format']}, this facebatch knows {FORMAT}: upgrade facebatch"
            )
        if facts["format"] < FORMAT:
            raise UsageError(
                f"{self.root} has format {facts['format']}, this facebatch writes {FORMAT}: go on with the facebatch "
                f"that made it, whose version {self.internal('runs')}/ tells, or index into a new output"
            )
        return facts

    def open(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Create the dataset with these facts, or check that they are its own. Returns its facts as they stand.

        Raises UsageError for a folder with other content, another format, or another contract, naming what differs.
        """
        self.storage.check_writable(self.root)
        path = self.internal("dataset.json")
        if self.storage.stat(path) is None:
            self._refuse_strangers()
            self.storage.create(path, json.dumps({"format": FORMAT, **facts}, indent=1, sort_keys=True).encode())
        found = self.facts()
        if found["contract_id"] != facts["contract_id"]:
            raise UsageError(
                f"{self.root} was made under another contract, and boxes and vectors of two contracts cannot be "
                f"compared: {_changes(found, facts)}, or write to a new output"
            )
        if found.get("relative", False) != facts.get("relative", False):
            raise UsageError(
                f"{self.root} holds URIs that are {'relative to a base' if found.get('relative') else 'absolute'}: "
                f"go on with{'' if found.get('relative') else 'out'} --base-uri, or each image would be indexed twice"
            )
        return found

    def note_run(self, epoch: int, record: dict[str, Any]) -> None:
        """Write down how a run was configured, and in the end what it cost. Later notes replace earlier ones."""
        self.storage.put(self._run(epoch), json.dumps(record, indent=1, sort_keys=True).encode())

    def run(self, epoch: int) -> dict[str, Any] | None:
        """What is noted of a run; None where it ended before it noted anything."""
        if self.storage.stat(self._run(epoch)) is None:
            return None
        record: dict[str, Any] = json.loads(self.storage.read(self._run(epoch))[0])
        return record

    def _run(self, epoch: int) -> str:
        return self.internal("runs", f"{epoch:05d}.json")

    def _refuse_strangers(self) -> None:
        for found in self.storage.objects(self.root + "/"):
            if not found.uri.startswith(self.internal() + "/"):
                raise UsageError(
                    f"{self.root} is not empty and is no facebatch dataset (it holds {found.uri}); name another output"
                )


_PACKS = {"detector": "detect.pack", "embedder": "embed.pack"}


def _changes(found: dict[str, Any], facts: dict[str, Any]) -> str:
    """What differs, and what to say to have it as it was. With another network hardly a term is the same: names do."""
    before, now = (
        {word: its[role] for role, word in _PACKS.items() if role in its and found.get(role) != facts.get(role)}
        for its in (found, facts)
    )
    if before and now:
        was, is_now = (" ".join(f"{word}={name}" for word, name in its.items()) for its in (before, now))
        return f"it was made with {was}, and this run has {is_now}. Say {was} to go on with it"
    return "; ".join(differences(found["contract"], facts["contract"])) + ". Take the old settings back"
