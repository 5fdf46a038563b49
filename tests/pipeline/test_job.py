"""How a worker is given its images."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from ray.data import DataContext

from facebatch import config
from facebatch.pipeline import job
from facebatch.pipeline.job import batched
from facebatch.pipeline.watch import Watch
from facebatch.work import Work


def _works(*sizes: int) -> list[Work]:
    return [Work("shard", k, "a", "", size, data=b"x" * size) for k, size in enumerate(sizes)]


def test_a_worker_gets_so_many_images_at_once() -> None:
    assert [len(batch) for batch in batched(_works(*[1] * 7), 3)] == [3, 3, 1]
    assert list(batched([], 3)) == []


def test_and_no_more_than_so_many_bytes_or_a_larger_one_with_what_came_before() -> None:
    batches = list(batched(_works(4, 4, 4, 30, 4, 4), 32, most_bytes=10))
    assert [[work.index for work in batch] for batch in batches] == [[0, 1, 2], [3], [4, 5]]


def test_what_could_not_be_read_weighs_nothing() -> None:
    works = [Work("shard", k, "a", "", 100) for k in range(5)]
    assert [len(batch) for batch in batched(works, 32, most_bytes=10)] == [5]


def test_what_a_job_leaves_with_ray_data_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next job of this process may run on another Ray, which knows nothing of the desk."""
    context = DataContext.get_current()

    def ended(*_: object) -> NoReturn:
        assert context.get_config("facebatch.desk") == "the desk"
        assert context.get_config("facebatch.actors") == 2
        assert context.custom_execution_callback_classes == [Watch]
        raise RuntimeError("as when nodes are lost")

    monkeypatch.setattr(job, "_flow", ended)
    asked: Any = SimpleNamespace(desk="the desk", config=config.load(None, []))
    nothing: Any = None
    planned: Any = SimpleNamespace(name="fused", actors=2)
    let_go: list[tuple[BaseException, BaseException | None]] = []
    monkeypatch.setattr(job, "let_go", lambda error, before: let_go.append((error, before)))
    with pytest.raises(RuntimeError, match="as when nodes are lost") as raised:
        job.run(asked, nothing, planned, nothing)
    assert context.get_config("facebatch.desk") is None
    assert context.custom_execution_callback_classes == []
    assert let_go == [(raised.value, None)], "and so are its actors"


class _Held:
    """What a frame holds."""


def test_an_error_that_is_kept_holds_nothing_of_the_frames_it_came_through() -> None:
    """Nor does what it was raised from, or behind; else the actors of a stopped run would keep their CPUs."""
    held: list[weakref.ref[_Held]] = []

    def fails() -> NoReturn:
        mine = _Held()
        held.append(weakref.ref(mine))
        raise ValueError("within")

    def fails_behind() -> NoReturn:
        mine = _Held()
        held.append(weakref.ref(mine))
        try:
            fails()
        except ValueError as error:
            raise KeyError("around") from error

    def fails_last() -> NoReturn:
        try:
            fails_behind()
        except KeyError:
            fails()

    with pytest.raises(ValueError, match="within") as kept:
        fails_last()
    assert [one() is None for one in held] == [False] * 3
    job.let_go(kept.value)
    assert [one() is None for one in held] == [True] * 3
    assert kept.value.__traceback__ is not None, "it still tells where it came from"


def test_but_the_error_that_its_caller_was_handling_stays_as_it_is() -> None:
    held: list[weakref.ref[_Held]] = []

    def fails(word: str) -> NoReturn:
        mine = _Held()
        held.append(weakref.ref(mine))
        raise ValueError(word)

    with pytest.raises(ValueError, match="the caller's") as mine:
        fails("the caller's")
    ours = KeyError("ours")
    ours.__context__ = mine.value
    job.let_go(ours, mine.value)
    assert held[0]() is not None
    job.let_go(ours)
    assert held[0]() is None
