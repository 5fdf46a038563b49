"""Following a job of a cluster: what it says, as it says it, until it has ended, and how.

Connections break off: proxies end them after a minute of silence, heads are replaced, laptops sleep. So nothing is
waited for without a limit, and every break is followed by a question for how the job is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from facebatch.errors import FacebatchError

_EVERY, _QUIET, _PATIENCE = 1.0, 30.0, 300.0
"""Seconds between questions; without a word until one is asked; until a cluster that does not answer is given up."""
_CODES = (0, 1, 2, 3)
"""Which facebatch ends with."""


@dataclass(frozen=True)
class Ended:
    """How a job has ended. exit_code: facebatch's, or 1 where its process had none of these. why: in words, where the
    job's own cannot tell."""

    submission_id: str
    status: str
    exit_code: int
    why: str = ""


class Once:
    """Shows a text that comes in pieces, and again from its beginning with each connection: each character once."""

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show, self._shown, self._seen = show, 0, 0

    def again(self) -> None:
        """The next piece is the first."""
        self._seen = 0

    def __call__(self, piece: str) -> None:
        new = piece[max(self._shown - self._seen, 0) :]
        if new:
            self._show(new)
        self._seen += len(piece)
        self._shown = max(self._shown, self._seen)


def follow(
    cluster: JobSubmissionClient, name: str, show: Callable[[str], object], say: Callable[[str], object]
) -> Ended:
    """Show what a job says, until it has ended. Nothing is shown twice. Raises FacebatchError where the cluster has not
    answered for some minutes, or knows the job no more."""
    once, state, heard = Once(show), "", time.monotonic()
    while True:
        try:
            job: JobDetails = _asked(cluster.get_job_info, name)
            heard = time.monotonic()
            if JobStatus(job.status).is_terminal():
                once.again()
                once(_asked(cluster.get_job_logs, name))
                return _ended(name, job)
        except _broken() as error:
            if "does not exist" in str(error):
                raise FacebatchError(
                    f"the cluster knows no job {name} any more, as when its head was replaced: the same command "
                    "submits it again, and goes on from what was committed"
                ) from error
            if time.monotonic() - heard > _PATIENCE:
                raise FacebatchError(
                    f"the cluster has not answered for {_PATIENCE:g} s ({error}). The job {name} may go on there: the "
                    "same command follows it"
                ) from error
            time.sleep(_EVERY)
            continue
        if job.status == JobStatus.PENDING:
            if job.message != state:
                state = job.message or ""
                say(f"pending: {state}")
        else:
            asyncio.run(_tail(cluster, name, once))
        time.sleep(_EVERY)


async def _tail(cluster: JobSubmissionClient, name: str, once: Once) -> None:
    """Follow the log until its end, that of the connection, or silence."""
    once.again()
    pieces = aiter(cluster.tail_job_logs(name))
    while True:
        try:
            piece = await asyncio.wait_for(anext(pieces), _QUIET)
        except StopAsyncIteration:
            return
        except _broken():
            return  # the next question tells whether anything is wrong
        once(piece)


def _broken() -> tuple[type[Exception], ...]:
    """What a connection that breaks off is raised as, or that takes too long."""
    import aiohttp  # of the extra `cluster`, without which nothing is submitted

    return OSError, RuntimeError, RayError, aiohttp.ClientError


def _asked(question: Callable[[str], Any], name: str) -> Any:
    """The answer; TimeoutError where there is none in time, for which Ray's client has no limit."""
    asking = ThreadPoolExecutor(1, thread_name_prefix="question")
    try:
        return asking.submit(question, name).result(_QUIET)
    finally:
        asking.shutdown(wait=False)


def _ended(name: str, job: JobDetails) -> Ended:
    status, code = JobStatus(job.status), job.driver_exit_code
    message = (job.message or "").strip()
    if status == JobStatus.SUCCEEDED:
        return Ended(name, status.value, 0)
    if code is None:  # nothing of ours ran to its end, so its log cannot say why
        return Ended(name, status.value, 1, message)
    if code not in _CODES:
        killed = f"its process was ended by signal {-code}" if code < 0 else f"its process ended with code {code}"
        return Ended(name, status.value, 1, f"{killed}: memory of the head that ran out, or a stop")
    return Ended(name, status.value, code or 1)
