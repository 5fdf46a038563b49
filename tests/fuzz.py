"""Readers of foreign files against damaged ones: whatever a file holds, they answer or refuse it in words of ours.

python -m tests.fuzz [--seconds 600] [--seed 0] [NAME ...]

A file that ends a reader in any other way is kept in out/fuzz and named.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from facebatch import config, packs
from facebatch.errors import FacebatchError
from facebatch.importers import Given
from facebatch.importers.mxnet_file import read_params
from facebatch.importers.mxnet_symbol import read_symbol
from facebatch.importers.onnx_file import freed
from facebatch.importers.quantised import mark
from facebatch.importers.torch_file import read_state_dict
from facebatch.resources import folder
from facebatch.sources import Kind
from facebatch.sources.inputs import expand
from facebatch.sources.rows import read_rows
from facebatch.sources.tar import Incomplete, read_tar
from facebatch.storage import Storage
from tests import models
from tests.importers import mxnet_writer
from tests.mutations import mutated

T = TypeVar("T")
_LIMIT = 1 << 20
"""Bytes of an image that are read."""
_ENOUGH = 10_000
"""Items of one archive that are read: damage can make many of few."""


@dataclass(frozen=True)
class Target:
    """A reader. seeds: sound files by name; read: takes such a file, damaged; it may raise FacebatchError."""

    seeds: Callable[[], dict[str, bytes]]
    read: Callable[[str, bytes], None]


def fuzz(target: Target, seed: int, seconds: float, most: int | None = None) -> tuple[Counter[str], list[bytes]]:
    """Read damaged files for so long, or so many. Returns how often what came of it, and the files that were too much
    for the reader."""
    draw, counts, guilty = random.Random(seed), Counter[str](), list[bytes]()
    seeds = target.seeds()
    until = time.monotonic() + seconds
    while time.monotonic() < until and (most is None or counts.total() < most):
        name = draw.choice(sorted(seeds))
        data = mutated(seeds[name], list(seeds.values()), draw)
        try:
            target.read(name, data)
            counts["read"] += 1
        except (FacebatchError, Incomplete):
            counts["refused"] += 1
        except Exception:  # noqa: BLE001 - that is what is looked for
            guilty.append(data)
            counts[traceback.format_exc(limit=-3)] += 1
    return counts, guilty


def _photo() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def _tars() -> dict[str, bytes]:
    made = {}
    for name, format in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
            for k in range(5):
                long = "" if format == tarfile.USTAR_FORMAT else "long/" * 40
                info = tarfile.TarInfo(f"{long}\u00e9 {k}.jpg")
                info.size = len(_photo())
                tar.addfile(info, io.BytesIO(_photo()))
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        made[f"{name}.tar"] = stream.getvalue()
    made["pax.tar.gz"] = gzip.compress(made["pax.tar"], mtime=0)
    return made


def _parquets() -> dict[str, bytes]:
    made = {}
    tables = {
        "images": pa.table({"key": [f"{k}" for k in range(9)], "bytes": [_photo()] * 9, "year": list(range(9))}),
        "names": pa.table({"uri": [f"{k}.jpg" for k in range(9)], "label": ["a", None, "c"] * 3}),
        "nested": pa.table({"image": [{"bytes": _photo(), "path": f"{k}"} for k in range(4)]}),
    }
    for name, table in tables.items():
        for compression in ("none", "zstd"):
            stream = io.BytesIO()
            pq.write_table(table, stream, row_group_size=3, compression=compression)
            made[f"{name}-{compression}.parquet"] = stream.getvalue()
    return made


def _manifests() -> dict[str, bytes]:
    names = [f"photos/{k}.jpg" for k in range(20)]
    text = "\n".join(["uri,label", *(f'"{name}","a ""word"""' for name in names)])
    rows = [json.dumps({"uri": name, "label": {"deep": [1, 2]}}) for name in names]
    made = {
        "list.txt": "\n".join(names),
        "list.csv": text,
        "list.tsv": text.replace(",", "\t"),
        "list.jsonl": "\n".join(rows),
    }
    return {name: words.encode() for name, words in made.items()} | {"packed.csv.gz": gzip.compress(text.encode())}


def _params() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        f"arg:conv{k}_weight": random.standard_normal((4, 3, 3, 3)).astype(np.float32) for k in range(4)
    }
    arrays["aux:bn_moving_mean"] = np.zeros(4)
    return {f"{layout}.params": mxnet_writer.params(arrays, layout) for layout in ("V2", "V1", "legacy")}


def _symbols() -> dict[str, bytes]:
    operators: list[mxnet_writer.Operator] = [
        ("Convolution", "conv", {"kernel": "(3, 3)", "num_filter": "4"}, "data conv_weight conv_bias"),
        ("Activation", "relu", {"act_type": "relu"}, "conv"),
    ]
    return {"symbol.json": mxnet_writer.symbol(operators, "relu")}


def _packs() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder("models").glob("*.yaml")}


def _graphs() -> dict[str, bytes]:
    return {"detector.onnx": models.bright_squares().graph, "embedder.onnx": models.embedder().graph}


def _state_dicts() -> dict[str, bytes]:
    return {"pnet.pt": (Path(os.environ["FACEBATCH_MODELS"]) / "mtcnn" / "pnet.pt").read_bytes()}


def _read_archive(name: str, data: bytes) -> None:
    """The whole way from a file's name to its images' bytes. What a manifest names is not opened."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, name)
        file.write_bytes(data)
        storage = Storage()
        for source in _first(expand(storage, config.Config(inputs=(str(file),)))):
            if source.kind is Kind.TAR:
                _first(read_tar(storage, source, [], _LIMIT))
            elif source.kind is Kind.ROWS:
                _first(read_rows(storage, source, [], _LIMIT))


def _read_graph(name: str, data: bytes) -> None:
    mark(data)
    freed(Given(name, data))


def _first(stream: Iterator[T]) -> list[T]:
    return [item for item, _ in zip(stream, range(_ENOUGH), strict=False)]


TARGETS = {
    "tar": Target(_tars, _read_archive),
    "parquet": Target(_parquets, _read_archive),
    "manifest": Target(_manifests, _read_archive),
    "params": Target(_params, lambda name, data: void(read_params(Given(name, data)))),
    "symbol": Target(_symbols, lambda name, data: void(read_symbol(Given(name, data)))),
    "pack": Target(_packs, lambda name, data: void(packs.family(name, data))),
    "onnx": Target(_graphs, _read_graph),
    "torch": Target(_state_dicts, lambda name, data: void(read_state_dict(Given(name, data)))),
}


def void(_: object) -> None:
    """What was read is not wanted."""


def main() -> int:
    """All targets, or those that are named, one after the other. Exit code 1 where a reader failed."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("names", nargs="*", choices=[[], *TARGETS], default=[])
    words.add_argument("--seconds", type=float, default=600)
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    failed = 0
    for name in given.names or TARGETS:
        counts, guilty = fuzz(TARGETS[name], given.seed, given.seconds)
        sys.stdout.write(f"{name}: {counts.total():,} files, {counts['read']:,} read, {counts['refused']:,} refused\n")
        for words_of, times in counts.items():
            if words_of not in ("read", "refused"):
                sys.stdout.write(f"{times} times: {words_of}\n")
        for number, data in enumerate(guilty[:20]):
            place = Path("out", "fuzz", f"{name}-{number}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        failed += bool(guilty)
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
