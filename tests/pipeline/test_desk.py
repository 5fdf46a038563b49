"""What the progress display counts."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import ray
import ray.exceptions

from facebatch.pipeline.desk import Desk, counted
from facebatch.reasons import Reason
from tests.test_sink import work


def test_a_batch_is_counted_by_outcome() -> None:
    assert counted([work(0, 2), work(1), work(2, reason=Reason.CORRUPT), work(3, 1)]) == {
        "ok": 2,
        "no_face": 1,
        "failed": 1,
        "images": 4,
        "faces": 3,
        "bytes": 40,
    }


def test_what_gate_and_detector_took_is_counted_of_those_that_they_saw() -> None:
    works = [work(0, 2), work(1), work(2, reason=Reason.CORRUPT)]
    works[0].glance_seconds, works[0].detect_seconds, works[1].glance_seconds = 0.002, 0.02, 0.003
    counts = counted(works)
    assert (counts["gate"], counts["gate_micros"]) == (2, 5000)
    assert (counts["detector"], counts["detector_micros"]) == (1, 20_000)


class Answers:
    """What the desk's process answers, one after the other; None: it is being started again."""

    def __init__(self, *answers: dict[str, int] | None) -> None:
        self._answers = iter(answers)

    def get(self, reference: object, timeout: float) -> dict[str, int]:
        answer = next(self._answers)
        if answer is None:
            raise ray.exceptions.ActorUnavailableError("restarting", None)
        return answer


@pytest.fixture
def desk() -> Desk:
    asked = SimpleNamespace(remote=lambda: object())
    made = Desk.__new__(Desk)
    made.handle = SimpleNamespace(read=asked, seats=asked, slowest=asked)
    made._before, made._last = Counter(), Counter()
    return made


def test_counts_stand_still_while_the_desk_is_away_and_go_on_when_it_is_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers({"images": 7, "faces": 2}, None, {"images": 3}, {"images": 5, "faces": 1}, None)
    monkeypatch.setattr(ray, "get", answers.get)
    assert [desk.read()["images"] for _ in range(5)] == [7, 7, 10, 12, 12]
    assert desk._before + desk._last == {"images": 12, "faces": 3}


def test_the_slowest_that_cannot_be_asked_for_are_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", Answers(None).get)
    assert desk.slowest() == []


def test_seats_that_cannot_be_asked_for_are_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", Answers(None).get)
    assert desk.seats() == {}
