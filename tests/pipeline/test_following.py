"""Following a job: without a gap and nothing twice, whatever becomes of connections. A stand-in for the cluster; real
ones: `tests/faults/test_submission.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from facebatch.errors import FacebatchError
from facebatch.pipeline import following
from facebatch.pipeline.following import Ended, Once, follow

aiohttp = pytest.importorskip("aiohttp", reason="needs the extra `cluster`, whose package Ray's client is made of")
SILENCE = "silence"


class Cluster:
    """One job, which has ended when there are no more connections to its log."""

    def __init__(self, *connections: list[str | Exception], log: str = "") -> None:
        self.connections, self.log, self.answers = list(connections), log, list[Exception]()
        self.job = SimpleNamespace(status=JobStatus.RUNNING, message=None, driver_exit_code=None)

    def end(self, status: JobStatus, code: int | None = 0, message: str | None = None) -> None:
        self.job = SimpleNamespace(status=status, message=message, driver_exit_code=code)

    def get_job_info(self, name: str) -> Any:
        if self.answers:
            raise self.answers.pop(0)
        if not self.connections and self.job.status == JobStatus.RUNNING:
            self.end(JobStatus.SUCCEEDED)
        return self.job

    def get_job_logs(self, name: str) -> str:
        return self.log

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        for piece in self.connections.pop(0):
            if isinstance(piece, Exception):
                raise piece
            if piece == SILENCE:
                await asyncio.sleep(60)
            yield piece


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_EVERY", 0.01)
    monkeypatch.setattr(following, "_QUIET", 0.3)


def followed(cluster: Any) -> tuple[Ended, str]:
    shown: list[str] = []
    return follow(cluster, "x", shown.append, lambda _: None), "".join(shown)


def test_each_character_is_shown_once() -> None:
    shown: list[str] = []
    once = Once(shown.append)
    once("abc")
    once.again()
    for piece in ("a", "bcd", "", "ef"):
        once(piece)
    assert "".join(shown) == "abcdef"


@pytest.mark.parametrize(
    "broken",
    [
        RuntimeError("WebSocket connection closed unexpectedly with close code 1006"),
        ConnectionResetError(),
        aiohttp.ServerDisconnectedError(),
        aiohttp.WSServerHandshakeError(None, (), status=502),
        SILENCE,
    ],
)
def test_connections_that_break_off_are_made_again_as_often_as_it_takes(
    broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_PATIENCE", 0.5)
    if broken != SILENCE:
        monkeypatch.setattr(following, "_EVERY", 0.3)  # breaks are further apart than the cluster's patience
    connections = [["one\n", "two\nthree\n"[: 4 * k], broken] for k in range(4)]
    ended, shown = followed(Cluster(*connections, log="one\ntwo\nthree\nfour\n"))
    assert (ended.exit_code, shown) == (0, "one\ntwo\nthree\nfour\n")


def test_the_end_of_the_log_is_read_even_where_no_connection_holds() -> None:
    assert followed(Cluster([RuntimeError("no websockets here")], log="all of it\n"))[1] == "all of it\n"


def test_a_cluster_that_is_silent_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_PATIENCE", 0.05)
    cluster = Cluster(["x"])
    cluster.answers = [OSError("no route")] * 1000
    with pytest.raises(FacebatchError, match=r"has not answered for 0.05 s \(no route\).* may go on there"):
        followed(cluster)


def test_a_question_that_nobody_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_PATIENCE", 0.1)
    monkeypatch.setattr(following, "_QUIET", 0.05)
    cluster = Cluster(["x"])
    monkeypatch.setattr(cluster, "get_job_info", lambda name: time.sleep(1))
    with pytest.raises(FacebatchError, match="has not answered"):
        followed(cluster)


def test_a_job_that_its_cluster_has_forgotten_is_said_at_once() -> None:
    cluster = Cluster(["x"])
    cluster.answers = [RuntimeError("Request failed with status code 404: Job x does not exist.")]
    with pytest.raises(FacebatchError, match="the cluster knows no job x any more, .* submits it again"):
        followed(cluster)


def test_an_output_that_is_closed_is_not_the_clusters_fault() -> None:
    def show(text: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        follow(Cluster(["one\n"]), "x", show, lambda _: None)  # type: ignore[arg-type]


def test_what_a_pending_job_waits_for_is_said_once_each() -> None:
    said: list[str] = []
    messages = ["a node", "a node", "its environment"]

    class Pending(Cluster):
        def get_job_info(self, name: str) -> Any:
            if messages:
                return SimpleNamespace(status=JobStatus.PENDING, message=messages.pop(0))
            return super().get_job_info(name)

    follow(Pending(), "x", lambda _: None, said.append)  # type: ignore[arg-type]
    assert said == ["pending: a node", "pending: its environment"]


@pytest.mark.parametrize(
    ("status", "code", "expected", "why"),
    [
        (JobStatus.SUCCEEDED, 0, 0, ""),
        (JobStatus.FAILED, 3, 3, ""),
        (JobStatus.FAILED, 2, 2, ""),
        (JobStatus.FAILED, None, 1, "the environment could not be made"),
        (JobStatus.FAILED, -9, 1, "its process was ended by signal 9: memory of the head that ran out, or a stop"),
        (JobStatus.FAILED, 137, 1, "its process ended with code 137: memory of the head that ran out, or a stop"),
        (JobStatus.STOPPED, None, 1, "the environment could not be made"),
        (JobStatus.STOPPED, 0, 1, ""),
    ],
)
def test_the_exit_code_is_that_of_the_job(status: JobStatus, code: int | None, expected: int, why: str) -> None:
    cluster = Cluster()
    cluster.end(status, code, "the environment could not be made\n")
    assert followed(cluster)[0] == Ended("x", status.value, expected, why)
