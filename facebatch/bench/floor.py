"""The floor: reading, JPEG decoding, resizing, the detector, cutting out and the embedder as bare calls, in one process
per core. No Ray, no Parquet, no hashes, no metadata, no recovery: what is left when all that a pipeline adds is gone.

Each part is called as facebatch calls it, with the same packs, passes, decode scale and batches, and on the same
provider, so that both do equal work. GPUs are shared out among the processes.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, cycle
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import BrokenBarrierError
from typing import cast

import numpy as np
import simplejpeg

from facebatch import gpus, networks
from facebatch.align import CHIP, chip_by_box, chip_by_landmarks
from facebatch.config import Config
from facebatch.detect import Detector, Faces, Settings, views
from facebatch.embed import Embedder
from facebatch.errors import FacebatchError
from facebatch.geometry import Floats, Picture, Pixels, halvings
from facebatch.landmarks import Landmarker, crop
from facebatch.networks import Networks
from facebatch.session import CPU, CUDA, Session
from facebatch.stopwatch import Stopwatch

_TAKEN = 8
"""Images that a process takes at a time."""
_PATIENCE = 120
"""Seconds in which all processes must be ready."""


@dataclass(frozen=True, slots=True)
class Done:
    """What one process did: images, faces, microseconds by part, and when it ended."""

    images: int
    faces: int
    spent: dict[str, int]
    ended: float


def run(config: Config, files: list[Path], processes: int) -> tuple[float, list[Done]]:
    """All files through bare calls. Returns when the first byte was asked for, and what each process did.

    Raises FacebatchError when one of the processes fails.
    """
    context = multiprocessing.get_context("spawn")
    words = [gpu.word for gpu in gpus.visible()] if config.run.provider == CUDA else [""]
    if not words:
        raise FacebatchError("run.provider=cuda, but nvidia-smi tells of no GPU that may be used")
    taken = context.Value("q", 0)
    start = context.Barrier(processes + 1)
    answers = context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(config, files, taken, start, answers, gpu), name=f"floor-{k}", daemon=True)
        for k, gpu in zip(range(processes), cycle(words), strict=False)
    ]
    for worker in workers:
        worker.start()
    try:
        start.wait(_PATIENCE)
    except BrokenBarrierError:
        raise FacebatchError(f"the floor's processes were not ready in {_PATIENCE} s") from None
    began = time.time()
    while any(worker.is_alive() for worker in workers) and not any(worker.exitcode for worker in workers):
        time.sleep(0.02)
    if failed := [worker for worker in workers if worker.exitcode]:
        raise FacebatchError(f"{failed[0].name} ended with exit code {failed[0].exitcode}")
    return began, [answers.get() for _ in workers]


class Bare:
    """The networks of one process, and the calls from bytes to vectors."""

    def __init__(self, config: Config, chosen: Networks, threads: int = 1, provider: str = CPU) -> None:
        self._scale_above = config.decode.scale_above
        self._settings = Settings.of(config.detect, chosen.detector.pack)
        bound = config.run.io_binding
        detector = Session(chosen.detector, provider, threads, bound=bound)
        self._detect = Detector(detector, self._settings, config.detect.batch)
        self._landmarks = chosen.landmarks
        self._locate = Landmarker(Session(chosen.landmarks, CPU, threads)) if chosen.landmarks else None
        embedder = Session(chosen.embedder, provider, threads, bound=bound)
        self._embed = Embedder(embedder, config.embed.batch, config.embed.flip)
        self.at_once, self.batch = self._detect.batch, config.embed.batch
        self._budget = config.run.megapixels * 1_000_000
        self.watch = Stopwatch()

    def chips(self, paths: Iterable[Path]) -> Iterator[list[Pixels]]:
        """The faces of each file, cut out. Pictures are held together for the detector's batch, up to the one with
        which they reach the pixels of `run.megapixels`."""
        pictures: list[Picture] = []
        held = 0
        for path in paths:
            with self.watch.timing("read"):
                data = path.read_bytes()
            with self.watch.timing("decode"):
                pictures.append(self._decoded(data))
            held += pictures[-1].levels[0].size // 3
            if len(pictures) == self.at_once or held >= self._budget:
                yield from self._found(pictures)
                pictures, held = [], 0
        if pictures:
            yield from self._found(pictures)

    def _found(self, pictures: list[Picture]) -> list[list[Pixels]]:
        with self.watch.timing("decode"):
            seen = [views(picture, self._settings) for picture in pictures]
        with self.watch.timing("detect"):
            found = self._detect(seen, [(picture.width, picture.height) for picture in pictures])
        with self.watch.timing("chip"):
            return [self._cut(picture, faces) for picture, faces in zip(pictures, found, strict=True)]

    def _cut(self, picture: Picture, found: Faces) -> list[Pixels]:
        points: list[Floats] = list(found.landmarks) if found.landmarks is not None else []
        if self._locate and self._landmarks and len(found):
            crops = [crop(picture, box, self._landmarks.pack) for box in found.boxes]
            points = self._locate(crops, list(found.boxes))
        if points:
            return [chip_by_landmarks(picture, spots) for spots in points]
        return [chip_by_box(picture, box) for box in found.boxes]

    def embed(self, chips: list[Pixels]) -> int:
        """Their vectors, which are dropped; how many there were."""
        with self.watch.timing("embed"):
            return len(self._embed(chips).vectors)

    def _decoded(self, data: bytes) -> Picture:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        above = self._scale_above
        scale = next((s for s in (8, 4, 2) if max(width, height) / s >= above), 1) if above else 1
        pixels = cast(
            Pixels,
            simplejpeg.decode_jpeg(data, "RGB", min_width=-(-width // scale), min_height=-(-height // scale))
            if scale > 1
            else simplejpeg.decode_jpeg(data, "RGB"),
        )
        return Picture(halvings(pixels), width, height, scale)


def _work(
    config: Config,
    files: list[Path],
    taken: Synchronized[int],
    start: Barrier,
    answers: multiprocessing.SimpleQueue[Done],
    gpu: str,
) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    bare = Bare(config, networks.load(config), provider=CUDA if gpu else CPU)
    # Sessions and decoders warm up, with batches as they will be.
    warm = list(bare.chips(files[:1] * bare.at_once))
    blank = np.zeros((CHIP, CHIP, 3), np.uint8)
    bare.embed([*chain.from_iterable(warm), *[blank] * bare.batch][: bare.batch])
    bare.watch.taken()
    start.wait()
    images = faces = 0
    chips: list[Pixels] = []
    for found in bare.chips(_shared(files, taken)):
        chips += found
        images += 1
        if len(chips) >= bare.batch:
            faces += bare.embed(chips)
            chips = []
    faces += bare.embed(chips)
    answers.put(Done(images, faces, bare.watch.taken(), time.time()))


def _shared(files: list[Path], taken: Synchronized[int]) -> Iterator[Path]:
    """The files that this process gets, a few at a time, until all are given."""
    while True:
        with taken.get_lock():
            first = taken.value
            taken.value = first + _TAKEN
        if first >= len(files):
            return
        yield from files[first : first + _TAKEN]
