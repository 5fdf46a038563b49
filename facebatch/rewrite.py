"""A record written anew, because the user asked for something about rows that are committed already.

The new record names the one that it stands for, and is committed like any other (`facebatch.commit`): until it is
created the old one counts, from then on it does, and a kill leaves one or the other. What is replaced is swept with its
files. Tables are put again as they are where nothing in them changes: sharing them would save that, but what one
attempt has put no other record may name.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import replace

import pyarrow as pa

from facebatch.commit import commit
from facebatch.dataset import Dataset
from facebatch.epochs import Guard
from facebatch.errors import FacebatchError
from facebatch.ledger import File, Record, places
from facebatch.sink import encoded


def carried(dataset: Dataset, file: File) -> bytes:
    """A file of a record that is to be written anew. Raises FacebatchError where it is not the one that was
    committed."""
    data, _ = dataset.storage.read(dataset.path(file.path))
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise FacebatchError(
            f"{dataset.path(file.path)} is not the file that was committed (its sha256 differs), so its rows cannot be "
            f"carried over: run `facebatch verify {dataset.root}`, or leave them as they are"
        )
    return data


def rewrite(
    dataset: Dataset,
    guard: Guard,
    old: Record,
    replaces: list[str],
    images: pa.Table,
    faces: pa.Table | None,
    counts: dict[str, int],
) -> None:
    """Commit a final record of these images in place of others: with these faces, or with those of the old one where
    they are None. Raises Superseded when another run has taken over."""
    ranges = places(zip(images["shard_id"].to_pylist(), images["index"].to_pylist(), strict=True))
    digest = hashlib.sha256(json.dumps([ranges, replaces]).encode()).hexdigest()[:16]
    name = f"{guard.epoch:05d}-{digest}"
    attempt = f"{name}-{secrets.token_hex(4)}"
    images_file, images_data = _file(f"images/{attempt}.parquet", images)
    if faces is None:
        faces_file, faces_data = replace(old.faces, path=f"faces/{attempt}.parquet"), carried(dataset, old.faces)
    else:
        faces_file, faces_data = _file(f"faces/{attempt}.parquet", faces)
    new = Record(
        epoch=guard.epoch,
        name=name,
        contract=old.contract,
        images=images_file,
        faces=faces_file,
        ranges=ranges,
        counts=counts,
        replaces=replaces,
    )
    if not commit(dataset, guard, new, [(images_file, images_data), (faces_file, faces_data)]):
        raise FacebatchError(f"{dataset.root} has a record {name} already, which this run alone can have written")


def _file(path: str, table: pa.Table) -> tuple[File, bytes]:
    data = encoded(table)
    return File(path, table.num_rows, len(data), hashlib.sha256(data).hexdigest()), data
