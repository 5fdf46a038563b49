"""Suspects: which image costs a worker its life is found out, and the others lose nothing."""

from __future__ import annotations

import pytest

from facebatch import suspects, tally
from facebatch.config import Config
from facebatch.detect import Settings
from facebatch.reasons import Reason, Status
from facebatch.suspects import Cautious, Journal
from facebatch.trial import Rules, Verdict
from facebatch.work import Work

CRASH = Verdict(Reason.WORKER_CRASH, "it crashed")


class Died(BaseException):
    """The worker is gone; nothing behind this line runs."""


class Lab:
    """Workers that die of chosen images, and what they did until then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoders: set[int] = set()
        """Images that end a worker in the decoder, and so in a trial."""
        self.others: set[int] = set()
        """Images that end a worker elsewhere."""
        self.journal, self.deaths, self.tried = Journal(), 0, [0][:0]
        lab = self

        class Trial:
            def __init__(self, rules: Rules) -> None:
                pass

            def __enter__(self) -> Trial:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def of(self, work: Work) -> Verdict | None:
                lab.tried.append(work.index)
                return CRASH if work.index in lab.decoders else None

        monkeypatch.setattr(suspects, "Trial", Trial)

    def run(self, *batches: list[int]) -> dict[int, Work]:
        """A block, by as many workers as it takes."""
        for _ in range(100):
            stage = Cautious("index", self._stage, self.journal, RULES)
            try:
                made = [[Work("s1", i, f"/{i}.jpg", "", 1, data=b"x") for i in batch] for batch in batches]
                return {work.index: work for works in stage.block(made) for work in works}
            except Died:
                self.deaths += 1
        raise AssertionError("it never ended")

    def _stage(self, works: list[Work]) -> list[Work]:
        for work in works:
            if work.status is None and work.index in self.decoders | self.others:
                raise Died
            work.status = work.status or Status.OK
        return works


RULES = Rules(Config().decode, Settings.__new__(Settings), 5.0)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(monkeypatch)


def _bad(done: dict[int, Work]) -> dict[int, Reason | None]:
    return {index: work.reason for index, work in done.items() if work.status is not Status.OK}


def test_without_a_death_nothing_is_tried(lab: Lab) -> None:
    assert _bad(lab.run([0, 1], [2, 3])) == {}
    assert (lab.deaths, lab.tried) == (0, [])


def test_an_image_that_crashes_the_decoder_costs_one_worker_and_its_own_row(lab: Lab) -> None:
    lab.decoders = {5}
    done = lab.run([0, 1, 2], [3, 4, 5], [6, 7])
    assert list(done) == list(range(8))
    assert _bad(done) == {5: Reason.WORKER_CRASH}
    assert done[5].detail == "it crashed"
    assert lab.deaths == 1


def test_what_came_before_the_guilty_batch_is_not_tried(lab: Lab) -> None:
    lab.decoders = {5}
    tally.taken()
    lab.run([0, 1, 2], [3, 4, 5], [6, 7])
    assert lab.tried == [3, 4, 5, 6, 7]
    assert tally.taken() == {"retries/suspect": 5}


def test_a_block_full_of_bad_files_costs_one_worker(lab: Lab) -> None:
    lab.decoders = {0, 2, 3, 5, 7}
    assert _bad(lab.run([0, 1, 2], [3, 4, 5], [6, 7])) == dict.fromkeys(lab.decoders, Reason.WORKER_CRASH)
    assert lab.deaths == 1


def test_the_guilty_are_known_for_the_whole_run(lab: Lab) -> None:
    """A block is computed again from its start when a later batch of it ends a worker, or when its result is lost."""
    lab.decoders = {1}
    lab.run([0, 1], [2, 3])
    lab.tried.clear()
    assert _bad(lab.run([0, 1], [2, 3])) == {1: Reason.WORKER_CRASH}
    assert (lab.deaths, lab.tried) == (1, [])


def test_a_worker_that_died_of_something_else_makes_nobody_guilty(lab: Lab) -> None:
    lab.others = {1}
    stage = Cautious("index", lab._stage, lab.journal, RULES)
    with pytest.raises(Died):
        list(stage.block([[Work("s1", 1, "/1.jpg", "", 1, data=b"x")]]))
    lab.others = set()  # it was the node
    assert _bad(lab.run([0, 1])) == {}
    assert lab.tried == [0, 1]


def test_what_kills_outside_the_decoder_is_found_one_by_one_and_tried_again_by_the_next_run(lab: Lab) -> None:
    lab.others = {4}
    done = lab.run([0, 1], [2, 3, 4, 5])
    assert _bad(done) == {4: Reason.INTERNAL_ERROR}
    assert Reason.INTERNAL_ERROR.retryable
    assert lab.deaths == 3


def test_both_kinds_in_one_batch(lab: Lab) -> None:
    lab.decoders, lab.others = {1}, {3, 4}
    assert _bad(lab.run([0, 1, 2, 3, 4])) == {
        1: Reason.WORKER_CRASH,
        3: Reason.INTERNAL_ERROR,
        4: Reason.INTERNAL_ERROR,
    }


def test_images_are_known_however_blocks_are_cut(lab: Lab) -> None:
    lab.decoders = {3}
    stage = Cautious("index", lab._stage, lab.journal, RULES)
    with pytest.raises(Died):
        list(stage.block([[Work("s1", i, f"/{i}.jpg", "", 1, data=b"x") for i in range(4)]]))
    assert _bad(lab.run([2, 3], [0, 1])) == {3: Reason.WORKER_CRASH}
    assert lab.deaths == 0


def test_stages_are_told_apart(lab: Lab) -> None:
    """An image that is begun by the detector is no suspect of the decoder's."""
    lab.journal.begin("detect", [("s1", 0)])
    assert _bad(lab.run([0, 1])) == {}
    assert lab.tried == []


def test_an_image_without_bytes_is_not_tried(lab: Lab) -> None:
    lab.journal.begin("index", [("s1", 0)])
    stage = Cautious("index", lab._stage, lab.journal, RULES)
    ended = Work("s1", 0, "/0.jpg", "", 1)
    ended.end(Reason.EMPTY, "the file has no bytes")
    (works,) = stage.block([[ended]])
    assert works[0].reason is Reason.EMPTY
    assert lab.tried == []
