"""Plans a listing of so many empty objects in a process of its own, and says what that took: seconds, bytes, shards.

python -m tests.million 1000000 out/million
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from facebatch import config, plan
from facebatch.dataset import Dataset
from facebatch.sources.inputs import expand
from facebatch.storage import Storage

IN_A_FOLDER = 10_000


class Many(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A file system that holds nothing but names."""

    protocol = "many"
    count = 0

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[dict[str, Any]]:
        path = path.removeprefix("many://").rstrip("/")
        if path.count("/") == 0:
            folders = range(Many.count // IN_A_FOLDER)
            return [{"name": f"{path}/{k:05d}", "type": "directory", "size": 0} for k in folders]
        return [
            {"name": f"{path}/IMG_{k:05d}.jpg", "type": "file", "size": 0, "mtime": 1.5 * k} for k in range(IN_A_FOLDER)
        ]

    def walk(self, path: str, detail: bool = True, **_: Any) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        for folder in self.ls(path):
            yield folder["name"], {}, {e["name"].rpartition("/")[2]: e for e in self.ls(folder["name"])}


def peak() -> int:
    """The most memory that this process has used, bytes. Linux counts the parent's into `ru_maxrss`."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    Many.count, output = int(sys.argv[1]), sys.argv[2]
    fsspec.register_implementation("many", Many)
    dataset = Dataset.at(Storage(), output)
    settings = config.Config(inputs=("many://photos",), output=output)
    result = []
    for _ in range(2):
        started, listing, number = time.monotonic(), plan.Listing(), plan.count(dataset)
        fresh = plan.compare(expand(dataset.storage, settings), plan.planned(dataset, number), listing)
        plan.freeze(dataset, number, fresh, settings.shards)
        shards = plan.shards(dataset)
        result.append(
            {
                "seconds": time.monotonic() - started,
                "peak": peak(),
                "fresh": listing.fresh,
                "changed": listing.changed,
                "shards": len(shards),
                "objects": sum(shard.rows for shard in shards),
            }
        )
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
