"""The schemas are the product's interface: columns are only ever added, and each is in the README."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pytest

from facebatch.ledger import File, Record
from facebatch.reasons import QualityReason, Reason, Status
from facebatch.schema import FACES, FORMAT, IMAGES, PLAN, stamped

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("schema", [IMAGES, FACES], ids=["images", "faces"])
def test_every_column_is_described_in_the_readme(schema: pa.Schema) -> None:
    assert [f.name for f in schema if f"`{f.name}`" not in README] == []


def test_every_reason_is_described_in_the_readme_in_the_words_of_the_code() -> None:
    for reason in Reason:
        again = "yes" if reason.retryable else ""
        assert f"| `{reason}` | {reason.status} | {reason.meaning} | {again} |" in README
    for word in (*QualityReason, *Status):
        assert f"`{word}`" in README


def test_vectors_have_a_fixed_size_and_an_embedding_is_never_missing() -> None:
    assert FACES.field("embedding").type == pa.list_(pa.float32(), 512)
    assert not FACES.field("embedding").nullable
    assert FACES.field("landmarks").nullable


def test_facts_travel_in_the_metadata() -> None:
    metadata = stamped(IMAGES, {"contract_id": "c"}).metadata
    assert json.loads(metadata[b"facebatch"]) == {"format": 1, "contract_id": "c"}


LAYOUTS = {1: "c24df2b158c7ffcb"}
"""Of each format the digest of what a dataset consists of."""


def test_no_layout_changes_without_a_new_format() -> None:
    """What reads datasets of years goes by the number alone: raise FORMAT, and add the new digest under it here."""
    tables = [[f"{f.name} {f.type} {f.nullable}" for f in schema] for schema in (IMAGES, FACES, PLAN)]
    records = [[f"{f.name} {f.type}" for f in fields(of)] for of in (Record, File)]
    assert LAYOUTS[FORMAT] == hashlib.sha256(json.dumps([tables, records]).encode()).hexdigest()[:16]
