"""A dataset: created once, and then only added to under the same contract."""

from __future__ import annotations

import json

import pytest

from facebatch.dataset import Dataset
from facebatch.errors import UsageError
from facebatch.schema import FORMAT
from facebatch.storage import Storage

FACTS = {"contract": {"detector": {"score": 0.5}}, "contract_id": "c1", "detector": "d", "embedder": "e"}


@pytest.fixture
def dataset(place: tuple[Storage, str]) -> Dataset:
    return Dataset.at(*place)


def test_the_first_run_creates_it_and_the_next_one_finds_it(dataset: Dataset) -> None:
    assert dataset.open(FACTS) == {"format": 1, **FACTS}
    assert dataset.open({**FACTS, "detector": "renamed"}) == {"format": 1, **FACTS}
    assert dataset.facts() == {"format": 1, **FACTS}


def test_another_contract_is_refused_and_says_what_differs(dataset: Dataset) -> None:
    dataset.open(FACTS)
    with pytest.raises(UsageError, match=r"detector\.score was 0\.5 and is now 0\.6\. Take the old settings back"):
        dataset.open({**FACTS, "contract": {"detector": {"score": 0.6}}, "contract_id": "c2"})


def test_a_folder_with_other_content_is_refused(dataset: Dataset) -> None:
    dataset.storage.put(dataset.path("holiday.jpg"), b"x")
    with pytest.raises(UsageError, match=r"is not empty and is no facebatch dataset \(it holds .*holiday\.jpg\)"):
        dataset.open(FACTS)
    assert [o.uri for o in dataset.storage.objects(dataset.root + "/")] == [dataset.path("holiday.jpg")]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (FORMAT + 1, f"this facebatch knows {FORMAT}: upgrade facebatch"),
        (FORMAT - 1, f"this facebatch writes {FORMAT}: go on with the facebatch that made it, whose version .*/runs/"),
    ],
)
def test_another_format_is_refused_and_says_what_to_do(dataset: Dataset, number: int, advice: str) -> None:
    dataset.storage.put(dataset.internal("dataset.json"), json.dumps({**FACTS, "format": number}).encode())
    before = list(dataset.storage.objects(dataset.root + "/"))
    with pytest.raises(UsageError, match=f"has format {number}, {advice}"):
        dataset.open(FACTS)
    with pytest.raises(UsageError, match=f"has format {number}, {advice}"):
        dataset.facts()
    assert list(dataset.storage.objects(dataset.root + "/")) == before


def test_no_dataset_is_said_in_words(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="is no facebatch dataset"):
        dataset.facts()


@pytest.mark.parametrize("relative", [True, False])
def test_relative_and_absolute_uris_do_not_mix(dataset: Dataset, relative: bool) -> None:
    """Each image would be indexed twice."""
    dataset.open({**FACTS, "relative": relative})
    words = "relative to a base: go on with --base-uri" if relative else "absolute: go on without --base-uri"
    with pytest.raises(UsageError, match=f"holds URIs that are {words}"):
        dataset.open({**FACTS, "relative": not relative})


def test_what_is_noted_of_a_run_is_found_again(dataset: Dataset) -> None:
    assert dataset.run(1) is None
    dataset.note_run(1, {"config": {}})
    dataset.note_run(1, {"config": {}, "images": 5})
    assert dataset.run(1) == {"config": {}, "images": 5}
