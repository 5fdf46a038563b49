"""Requests that are sent again. What obstore repeats inside itself cannot be seen, and is not among them."""

from __future__ import annotations

from logging import WARNING

from tenacity import RetryCallState

from facebatch import logs, tally


def again(attempt: RetryCallState) -> None:
    """As tenacity calls it before it waits for the next attempt."""
    error = attempt.outcome.exception() if attempt.outcome else None
    sent_again(1, type(error).__name__)


def sent_again(times: int, why: str) -> None:
    """Count and log requests that are about to be sent again, or were. Not which: that would be the name of a photo."""
    if times:
        tally.add("retries/request", times)
        logs.event("request_again", "a request to storage failed, and is sent again", WARNING, error=why, times=times)
