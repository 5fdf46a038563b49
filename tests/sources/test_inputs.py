"""From what a user names to the objects of the archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from facebatch.config import Config
from facebatch.errors import UsageError
from facebatch.sources import Kind
from facebatch.sources.inputs import check, expand
from facebatch.storage import Storage, join


def _fill(storage: Storage, root: str) -> None:
    for name in ("a.jpg", "2020/b.JPG", "2020/deep/c.png", "shards/0.tar", "shards/1.TAR.GZ", "shards/readme.txt"):
        storage.put(join(root, name), b"x")


def _names(storage: Storage, root: str, *inputs: str, output: str = "/nowhere") -> list[str]:
    found = expand(storage, Config(inputs=tuple(join(root, i) for i in inputs), output=output))
    return sorted(source.object.uri.removeprefix(root + "/") for source in found)


@pytest.fixture
def root(place: tuple[Storage, str]) -> tuple[Storage, str]:
    _fill(*place)
    return place


def test_a_prefix_is_everything_below_it(root: tuple[Storage, str]) -> None:
    everything = ["2020/b.JPG", "2020/deep/c.png", "a.jpg", "shards/0.tar", "shards/1.TAR.GZ", "shards/readme.txt"]
    assert _names(*root, "") == everything
    assert _names(*root, "2020") == _names(*root, "2020/") == ["2020/b.JPG", "2020/deep/c.png"]


def test_a_file_is_itself(root: tuple[Storage, str]) -> None:
    assert _names(*root, "a.jpg", "2020/b.JPG") == ["2020/b.JPG", "a.jpg"]


def test_a_star_stays_in_its_folder_and_two_do_not(root: tuple[Storage, str]) -> None:
    assert _names(*root, "shards/*.tar") == ["shards/0.tar"]
    assert _names(*root, "*.jpg") == ["a.jpg"]
    assert _names(*root, "**/*.png") == ["2020/deep/c.png"]
    assert _names(*root, "20[12]0/?.JPG") == ["2020/b.JPG"]


def test_a_name_with_pattern_characters_means_itself_where_it_exists(tmp_path: Path) -> None:
    (tmp_path / "photos [2020]").mkdir()
    (tmp_path / "photos [2020]" / "a.jpg").write_bytes(b"x")
    assert _names(Storage(), str(tmp_path), "photos [2020]") == ["photos [2020]/a.jpg"]


def test_tars_are_told_by_their_names(root: tuple[Storage, str]) -> None:
    storage, uri = root
    kinds = {
        s.object.uri.rpartition("/")[2]: s.kind
        for s in expand(storage, Config(inputs=(join(uri, "shards"),), output="/nowhere"))
    }
    assert kinds == {"0.tar": Kind.TAR, "1.TAR.GZ": Kind.TAR, "readme.txt": Kind.FILES}


def test_the_output_is_never_an_input(root: tuple[Storage, str]) -> None:
    storage, uri = root
    assert _names(storage, uri, "", output=join(uri, "2020")) == [
        "a.jpg",
        "shards/0.tar",
        "shards/1.TAR.GZ",
        "shards/readme.txt",
    ]


@pytest.mark.parametrize("nothing", ["none", "none/", "*.gif", "2020/*.gif"])
def test_an_input_that_names_nothing_is_refused(root: tuple[Storage, str], nothing: str) -> None:
    storage, uri = root
    check(storage, Config(inputs=(uri,)))
    with pytest.raises(UsageError, match="names nothing"):
        check(storage, Config(inputs=(uri, join(uri, nothing))))


def _picked(root: tuple[Storage, str], **patterns: tuple[str, ...]) -> list[str]:
    storage, uri = root
    found = expand(storage, Config(inputs=(uri,), output="/nowhere", **patterns))  # type: ignore[arg-type]
    return sorted(source.object.uri.removeprefix(uri + "/") for source in found)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jpg", ["a.jpg"]),
        ("*.{jpg,JPG}", []),
        ("?.*", ["2020/b.JPG", "2020/deep/c.png", "a.jpg"]),
        ("2020/*", ["2020/b.JPG"]),
        ("2020/**", ["2020/b.JPG", "2020/deep/c.png"]),
        ("deep/*.png", ["2020/deep/c.png"]),
        ("20", []),
    ],
)
def test_include_picks_loose_files_by_the_end_of_their_uri(
    root: tuple[Storage, str], pattern: str, names: list[str]
) -> None:
    """Tars are no pictures: a pattern for pictures does not leave them out."""
    assert _picked(root, include=(pattern,)) == [*names, "shards/0.tar", "shards/1.TAR.GZ"]


def test_exclude_leaves_out_whatever_matches_also_what_was_included(root: tuple[Storage, str]) -> None:
    assert _picked(root, exclude=("shards/**", "*.JPG")) == ["2020/deep/c.png", "a.jpg"]
    assert _picked(root, include=("*.png", "*.jpg"), exclude=("*.tar*", "*.TAR*", "deep/**")) == ["a.jpg"]


def test_an_absolute_pattern_is_matched_against_the_whole_uri(root: tuple[Storage, str]) -> None:
    _, uri = root
    assert _picked(root, exclude=(f"{uri}/*",)) == [
        "2020/b.JPG",
        "2020/deep/c.png",
        "shards/0.tar",
        "shards/1.TAR.GZ",
        "shards/readme.txt",
    ]


def test_below_a_base_uris_are_relative(root: tuple[Storage, str]) -> None:
    storage, uri = root
    settings = Config(inputs=(join(uri, "2020"),), output="/nowhere", base_uri=uri)
    assert sorted(s.object.uri for s in expand(storage, settings)) == ["2020/b.JPG", "2020/deep/c.png"]
    with pytest.raises(UsageError, match="does not lie below the base URI"):
        check(storage, Config(inputs=(uri,), base_uri=join(uri, "2020")))
