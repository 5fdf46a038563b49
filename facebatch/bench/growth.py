"""Growth: is an image of a large archive as cheap as one of a small one, and does the driver stay as small?"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from facebatch.bench import archive as archives
from facebatch.bench.archive import Photo
from facebatch.bench.contest import Lap, run
from facebatch.bench.rivals import indexing


@dataclass(frozen=True, slots=True)
class Size:
    """An archive of so many images: the run that indexed it, and the same command once more, which found nothing to do.

    planning_seconds: from the start of the command until the first image could be read, Ray's start left out.
    """

    images: int
    first: Lap
    planning_seconds: float
    again: Lap

    @property
    def milliseconds(self) -> float:
        """For an image, all workers together at work."""
        return 1000 * self.first.told.seconds / self.images


def growth(
    folder: Path, photos: list[Photo], sizes: list[int], words: list[str], say: Callable[[str], None]
) -> list[Size]:
    """Index archives of growing size, each twice. Raises FacebatchError when a run fails."""
    found = []
    for images in sorted(sizes):
        contestant = indexing(archives.lay(folder, photos, images), words)
        with tempfile.TemporaryDirectory(prefix="facebatch-bench-") as place:
            first = run(contestant, Path(place))
            record = json.loads((Path(place) / "_facebatch" / "runs" / "00001.json").read_text())
            again = run(contestant, Path(place))
        found.append(Size(images, first, record["planning_seconds"], again))
        each = f"{found[-1].milliseconds:.2f} ms an image, driver {first.own_bytes / 2**20:.0f} MiB"
        say(f"{images:,} images: {each}; again, with nothing to do: {again.whole_seconds:.1f} s")
    return found
