"""Identities are stable: the literals here are what published datasets contain."""

from facebatch.ids import face_id, image_id, printable, shard_id


def test_an_image_id_is_the_hash_of_uri_nul_member() -> None:
    assert image_id("s3://photos/a.jpg", "") == "e6a17fe46c3cf1a8556e138e1e5f8f1a"


def test_uri_and_member_cannot_be_shifted_into_each_other() -> None:
    assert image_id("a", "bc") != image_id("ab", "c")


def test_a_face_id_names_its_image() -> None:
    assert face_id("62b1", 3) == "62b1-3"


def test_a_shard_is_named_by_what_it_holds() -> None:
    entries = [("a.jpg", 10, "v1"), ("b.jpg", 20, "v1")]
    assert shard_id("files", entries) == shard_id("files", list(entries))
    assert len(shard_id("files", entries)) == 16
    for other in ([("a.jpg", 10, "v2"), ("b.jpg", 20, "v1")], entries[:1], entries[::-1]):
        assert shard_id("files", other) != shard_id("files", entries)
    assert shard_id("tar", entries) != shard_id("files", entries)


def test_bytes_that_are_no_utf8_are_shown_escaped() -> None:
    assert printable(b"caf\xe9.jpg".decode("utf-8", "surrogateescape")) == "caf\\xe9.jpg"
    assert printable("café.jpg") == "café.jpg"
