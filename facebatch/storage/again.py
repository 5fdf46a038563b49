"""Requests that are sent again. What obstore repeats inside itself cannot be seen, and is not among them."""

from __future__ import annotations

from tenacity import RetryCallState

from facebatch import tally


def again(attempt: RetryCallState) -> None:
    """As tenacity calls it before it waits for the next attempt."""
    sent_again(1)


def sent_again(times: int) -> None:
    """Count requests that are about to be sent again, or were."""
    tally.add("retries/request", times)
