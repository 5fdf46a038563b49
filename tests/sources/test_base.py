"""Identities relative to a base: an archive that moves keeps its ids."""

from __future__ import annotations

import pytest

from facebatch.sources.base import Base
from facebatch.storage import Object


@pytest.mark.parametrize("base", ["/data/photos", "/data/photos/", "s3://bucket/photos"])
def test_what_lies_below_the_base_is_relative_and_found_again(base: str) -> None:
    there = Base.at(base)
    uri = f"{base.rstrip('/')}/2020/a.jpg"
    assert there.relative(uri) == "2020/a.jpg"
    found = Object(uri, 3, "v")
    assert there.identified(found) == Object("2020/a.jpg", 3, "v")
    assert there.located(there.identified(found)) == found


@pytest.mark.parametrize(
    "uri", ["/data/photos2/a.jpg", "/data/photos", "s3://other/a.jpg", "/data/photos/s3://x/a.jpg"]
)
def test_what_lies_elsewhere_keeps_its_absolute_uri(uri: str) -> None:
    base = Base.at("/data/photos")
    assert base.relative(uri) == uri
    assert base.located(base.identified(Object(uri, 3))) == Object(uri, 3)


def test_without_a_base_everything_is_absolute() -> None:
    assert Base.at(None).relative("/a/b") == "/a/b"
    assert not Base().holds("/a/b")


def test_the_root_is_a_base() -> None:
    assert Base.at("/").relative("/a/b.jpg") == "a/b.jpg"
    assert Base.at("/").located(Object("a/b.jpg", 1)) == Object("/a/b.jpg", 1)


def test_bytes_of_a_path_that_are_no_utf8_move_along() -> None:
    found = Object("/old/caf\\xe9/a.jpg", 1, None, 1, b"/old/caf\xe9/a.jpg")
    planned = Base.at("/old").identified(found)
    assert (planned.uri, planned.raw) == ("caf\\xe9/a.jpg", b"caf\xe9/a.jpg")
    assert Base.at("/new").located(planned).raw == b"/new/caf\xe9/a.jpg"
