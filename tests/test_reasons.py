"""Outcomes."""

from facebatch.reasons import Reason, Status


def test_a_reason_knows_its_status_and_whether_it_is_worth_another_try() -> None:
    assert Reason.CORRUPT.status is Status.FAILED
    assert Reason.NOT_AN_IMAGE.status is Status.SKIPPED
    assert not Reason.CORRUPT.retryable
    assert Reason.ACCESS_DENIED.retryable


def test_words_are_found_again() -> None:
    for reason in Reason:
        assert Reason(str(reason)) is reason
        assert str(reason) == reason.name


def test_only_what_lies_outside_the_image_is_tried_again() -> None:
    assert {r.name for r in Reason if r.retryable} == {
        "NOT_FOUND",
        "ACCESS_DENIED",
        "STORAGE_ERROR",
        "OUT_OF_MEMORY",
        "INTERNAL_ERROR",
    }
