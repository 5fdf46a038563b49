"""Small real archives for chaos: the two photographs in many sizes and qualities, as files, a tar and Parquet rows."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.conftest import ASTRONAUT, HOPPER


def photos(folder: Path, count: int, first: int = 0) -> list[Path]:
    """So many JPEGs, no two of them alike, each with one face."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = [Image.open(io.BytesIO(found.read_bytes())).convert("RGB") for found in (ASTRONAUT, HOPPER)]
    made = []
    for index in range(first, first + count):
        original = originals[index % 2]
        side = 256 + index % 97
        file = folder / f"{index:04d}.jpg"
        original.resize((side, side * original.height // original.width)).save(file, quality=70 + index % 25)
        made.append(file)
    return made


def mixed(folder: Path) -> list[Path]:
    """48 loose photos with a broken one among them, 24 in a tar, 12 as Parquet rows: 85 images, in three inputs."""
    photos(folder / "loose", 48)
    (folder / "loose" / "broken.jpg").write_bytes((folder / "loose" / "0000.jpg").read_bytes()[:2000])
    spare = photos(folder.parent / "spare", 36, first=48)
    with tarfile.open(folder / "some.tar", "w") as tar:
        for file in spare[:24]:
            tar.add(file, file.name)
    rows = {"key": [file.name for file in spare[24:]], "bytes": [file.read_bytes() for file in spare[24:]]}
    pq.write_table(pa.table(rows), folder / "rows.parquet", row_group_size=6)
    return [folder / "loose", folder / "some.tar", folder / "rows.parquet"]
