"""The obvious Ray Data script, as one would write it in an afternoon: `read_images`, a pool of detectors, a pool of
embedders, `write_parquet`. To measure against (`facebatch bench --rival ray-data`), with our networks
and their decoders.

What it lacks beside speed: one broken file ends it, a killed run starts from nothing and leaves files behind, pictures
lie as they were stored and not upright, faces are rows without an image that is accounted for.

    python -m facebatch.pipeline.obvious FOLDER OUTPUT KEY=VALUE...
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data

from facebatch import config, networks
from facebatch.align import chip_by_box, chip_by_landmarks
from facebatch.bench.contest import Told
from facebatch.config import Config
from facebatch.detect import Detector, Settings, views
from facebatch.embed import Embedder
from facebatch.family import cores
from facebatch.geometry import Picture, halvings
from facebatch.session import CPU, Session


class Detect:
    """Images to faces: a row for each, with its chip."""

    def __init__(self, settings: Config) -> None:
        detector = networks.load(settings).detector
        self._settings = Settings.of(settings.detect, detector.pack)
        self._detect = Detector(Session(detector, CPU), self._settings)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        began = time.time()
        rows: dict[str, list[Any]] = {"path": [], "box": [], "score": [], "chip": [], "began": []}
        for path, pixels in zip(batch["path"], batch["image"], strict=True):
            picture = Picture(halvings(np.ascontiguousarray(pixels)), pixels.shape[1], pixels.shape[0])
            (faces,) = self._detect([views(picture, self._settings)], [(picture.width, picture.height)])
            for k, (box, score) in enumerate(zip(faces.boxes, faces.scores, strict=True)):
                points = None if faces.landmarks is None else faces.landmarks[k]
                chip = chip_by_box(picture, box) if points is None else chip_by_landmarks(picture, points)
                for name, value in zip(rows, (path, box, score, chip, began), strict=True):
                    rows[name].append(value)
        shapes = {"box": (0, 4), "chip": (0, 112, 112, 3)}
        return {name: np.array(values) if values else np.empty(shapes.get(name, 0)) for name, values in rows.items()}


class Embed:
    """Chips to vectors."""

    def __init__(self, settings: Config) -> None:
        self._embed = Embedder(Session(networks.load(settings).embedder, CPU))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        chips = batch.pop("chip")
        return batch | {"embedding": self._embed(list(chips)).vectors}


def main(folder: str, output: str, *words: str) -> None:
    """Index the folder's images; what it took, from the first batch that reached a detector on, is the last line on
    stdout."""
    settings = config.load(None, words)
    half = max(1, cores() // 2)
    cpus = cores() + 2  # two more, or reading would starve
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)  # whatever else runs here
    started = time.time()
    images = ray.data.read_images(folder, mode="RGB", include_paths=True)
    faces = images.map_batches(Detect, fn_constructor_args=(settings,), batch_size=16, concurrency=half)
    vectors = faces.map_batches(Embed, fn_constructor_args=(settings,), batch_size=32, concurrency=half)
    vectors.write_parquet(output)
    ended = time.time()
    rows = pq.read_table(output, columns=["began"])["began"]
    told = Told(sum(1 for _ in Path(folder).rglob("*.jpg")), len(rows), ended - (pc.min(rows).as_py() or started))
    sys.stdout.write("\n" + json.dumps(asdict(told)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
