"""Suspects: the images that were being computed when a worker died, and what the next worker does about them.

A worker that dies takes its block with it, and Ray gives that block to another, for ever if need be. A journal outside
the workers lets the next one know better:

    first attempt      as always
    second attempt     each image is decoded in a process of its own first (`facebatch.trial`); what crashes, hangs or
                       eats up the memory there gets its reason
    from the third on  one image at a time, because no decoder is to blame; one that ends a worker once more gets
                       INTERNAL_ERROR, and is tried again by the next run

Images are known by their place (shard and index), because nothing else is the same in each attempt: Ray's task ids are
not, and blocks may be cut elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from logging import WARNING
from typing import Protocol

from facebatch import logs, tally
from facebatch.reasons import Reason
from facebatch.stages import Stage
from facebatch.trial import Rules, Trial, Verdict
from facebatch.work import Work

Key = tuple[str, int]
"""The place of an image: its shard and its index there."""


class Journal:
    """What is being computed, and what is known of the guilty. Forgets all with its process: then images are suspected
    too late, never wrongly."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[str, Key]] = Counter()
        self._verdicts: dict[Key, Verdict] = {}

    def begin(self, stage: str, keys: list[Key]) -> tuple[int, dict[Key, Verdict]]:
        """Note that a stage begins with these images. Returns how often that was said before of one of them without an
        end, and the verdicts on them."""
        before = max((self._begun[stage, key] for key in keys), default=0)
        self._begun.update((stage, key) for key in keys)
        return before, {key: self._verdicts[key] for key in keys if key in self._verdicts}

    def end(self, stage: str, keys: list[Key]) -> None:
        """Note that the stage is through with them."""
        for key in keys:
            self._begun.pop((stage, key), None)

    def blame(self, verdicts: dict[Key, Verdict]) -> None:
        """Remember for this run what these images do to a worker."""
        self._verdicts |= verdicts


class Notes(Protocol):
    """A journal as a worker reaches it. `begin` and `blame` are kept when they return, whatever then happens here."""

    def begin(self, stage: str, keys: list[Key]) -> tuple[int, dict[Key, Verdict]]: ...
    def end(self, stage: str, keys: list[Key]) -> None: ...
    def blame(self, verdicts: dict[Key, Verdict]) -> None: ...


class Cautious:
    """A stage that learns from the deaths of earlier attempts at the same images."""

    def __init__(self, name: str, stage: Stage, journal: Notes, rules: Rules) -> None:
        self._name, self._stage, self._journal, self._rules = name, stage, journal, rules

    def block(self, batches: Iterable[list[Work]]) -> Iterator[list[Work]]:
        """The batches of a block, computed. Behind a batch that ended a worker the others of its block are tried as
        well: where one bad file lies, there are often more."""
        alarmed = False
        for works in batches:
            keys = list(map(_key, works))
            before, verdicts = self._journal.begin(self._name, keys)
            _condemn(works, verdicts)
            alarmed = alarmed or before > 0
            if alarmed:
                tally.add("retries/suspect", len(works))
                says = "images are tried apart: a worker died of them or beside them"
                logs.event("tried_apart", says, WARNING, stage=self._name, images=len(works), deaths=before)
                self._try(works)
            yield [done for work in works for done in self._alone(work)] if before > 1 else self._stage(works)
            self._journal.end(self._name, keys)

    def _try(self, works: list[Work]) -> None:
        with Trial(self._rules) as trial:
            for work in works:
                if work.data is not None and (verdict := trial.of(work)):
                    self._blame(work, verdict)

    def _alone(self, work: Work) -> list[Work]:
        name, keys = f"{self._name} alone", [_key(work)]
        before, _ = self._journal.begin(name, keys)
        if before:
            self._blame(work, Verdict(Reason.INTERNAL_ERROR, f"three workers of {self._name} died of it or beside it"))
        done = self._stage([work])
        self._journal.end(name, keys)
        return done

    def _blame(self, work: Work, verdict: Verdict) -> None:
        self._journal.blame({_key(work): verdict})
        _condemn([work], {_key(work): verdict})


def _key(work: Work) -> Key:
    return work.shard_id, work.index


def _condemn(works: list[Work], verdicts: dict[Key, Verdict]) -> None:
    for work in works:
        if verdict := verdicts.get(_key(work)):
            work.end(verdict.reason, verdict.detail)
