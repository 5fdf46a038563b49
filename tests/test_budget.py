"""A run stops where storage fails for most images, and goes on where it fails for some."""

from __future__ import annotations

import pytest

from facebatch.budget import SECONDS, WINDOW, Budget, Spent
from facebatch.reasons import Reason


def _counts(images: int, denied: int = 0, errors: int = 0) -> dict[str, int]:
    return {"images": images, Reason.ACCESS_DENIED: denied, Reason.STORAGE_ERROR: errors}


def test_a_storage_that_fails_for_most_images_stops_the_run_and_says_what_to_do() -> None:
    budget = Budget(0.5, now=0)
    budget.check(_counts(1000), SECONDS)
    with pytest.raises(Spent, match="290 of the last 300 images could not be read") as told:
        budget.check(_counts(1300, denied=280, errors=10), 2 * SECONDS)
    assert "STORAGE_ERROR 10, ACCESS_DENIED 280" in str(told.value)
    assert "run.unreadable=0.5" in str(told.value)
    assert "run the same command again" in str(told.value)
    assert "With run.unreadable=1 it goes on" in str(told.value)


def test_it_is_found_out_however_much_went_well_before() -> None:
    budget = Budget(0.5, now=0)
    budget.check(_counts(10**9), SECONDS)
    with pytest.raises(Spent):
        budget.check(_counts(10**9 + WINDOW, errors=WINDOW), 2 * SECONDS)


def test_a_locked_folder_among_others_is_its_own_matter() -> None:
    """Three hundred refusals come within a second, as they do at the start of a run that tries them again."""
    budget = Budget(0.5, now=0)
    budget.check(_counts(300, denied=300), 1)
    budget.check(_counts(300 + 60 * 70, denied=300), SECONDS)


def test_some_that_fail_are_their_own_matter() -> None:
    budget = Budget(0.5, now=0)
    for k in range(1, 50):
        budget.check(_counts(k * 1000, denied=k * 500), k * SECONDS)


def test_few_images_are_no_judgement() -> None:
    budget = Budget(0.5, now=0)
    budget.check(_counts(WINDOW - 1, denied=WINDOW - 1), 2 * SECONDS)
    with pytest.raises(Spent):
        budget.check(_counts(WINDOW, denied=WINDOW), 2 * SECONDS)


def test_everything_can_be_allowed() -> None:
    Budget(1, now=0).check(_counts(5000, errors=5000), SECONDS)
