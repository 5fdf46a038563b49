"""The floor and InsightFace as programs of their own: `python -m facebatch.bench.entrant NAME TASK`.

TASK is JSON: `folder` of an archive, and `settings` as `key=value` words. The last line they print is a `Told`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from facebatch import config, networks
from facebatch.bench import floor
from facebatch.bench.contest import Told
from facebatch.config import Config
from facebatch.errors import FacebatchError
from facebatch.family import cores
from facebatch.session import CUDA
from facebatch.stopwatch import parts


def bare(settings: Config, files: list[Path]) -> Told:
    """The floor, in a process per core."""
    on_gpus = settings.run.provider == CUDA  # where `run.actors` says how many share them
    began, done = floor.run(settings, files, (0 if on_gpus else settings.run.actors) or cores())
    spent: Counter[str] = Counter()
    for one in done:
        spent.update(one.spent)
    seconds = max(one.ended for one in done) - began
    return Told(sum(one.images for one in done), sum(one.faces for one in done), seconds, parts(spent))


def insightface(settings: Config, files: list[Path]) -> Told:
    """InsightFace's FaceAnalysis as its README has it, with the detector and embedder that are configured: one image
    after the other in one process, ONNX Runtime on all cores or on one GPU. Vectors are kept in memory, nothing is
    written."""
    import cv2
    from insightface.app import FaceAnalysis

    chosen = networks.load(settings)
    with tempfile.TemporaryDirectory() as folder:
        for model in (chosen.detector, chosen.embedder):
            os.symlink(Path(model.path).resolve(), Path(folder) / f"{model.pack.kind}.onnx")
        on_gpu = settings.run.provider == CUDA
        app = FaceAnalysis(folder, providers=["CUDAExecutionProvider" if on_gpu else "CPUExecutionProvider"])
        if on_gpu and (
            slow := [m for m in app.models.values() if m.session.get_providers()[0] != "CUDAExecutionProvider"]
        ):
            raise FacebatchError(f"InsightFace was to run on the GPU, but {len(slow)} of its networks are on the CPU")
        close_up = settings.detect.close_up and chosen.detector.pack.close_up
        app.prepare(
            ctx_id=0 if on_gpu else -1, det_thresh=chosen.detector.pack.score, det_size=None if close_up else (640, 640)
        )
    app.get(cv2.imread(str(files[0])))  # warms up
    began = time.time()
    found = [
        [(face.bbox, face.det_score, face.normed_embedding) for face in app.get(cv2.imread(str(path)))]
        for path in files
    ]
    return Told(len(files), sum(map(len, found)), time.time() - began)


ENTRANTS: dict[str, Callable[[Config, list[Path]], Told]] = {"floor": bare, "insightface": insightface}


def main(name: str, task: str) -> None:
    """Run one of them."""
    given = json.loads(task)
    files = sorted(path for path in Path(given["folder"]).rglob("*.jpg"))
    told = ENTRANTS[name](config.load(None, given["settings"]), files)
    sys.stdout.write("\n" + json.dumps(asdict(told)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
