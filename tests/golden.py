"""Golden results: what each available pack makes of two real photographs, to the hundredth of a pixel.

They catch what no accuracy figure catches: a colour swap, a missing mean, another resize, other weights. After a change
on purpose: `python -m tests.golden` writes them anew, and the contract's revisions are to be raised.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from facebatch import config, packs
from facebatch.align import chip_by_landmarks
from facebatch.detect import Detector, Settings, views
from facebatch.embed import Embedder
from facebatch.geometry import Floats, Picture, Pixels, halvings, resize
from facebatch.packs import Model
from facebatch.session import CPU, Session

FILE = Path(__file__).with_suffix(".json")
LANDMARKS = [[205.0, 96.9], [247.5, 102.8], [222.3, 126.6], [201.0, 141.1], [239.0, 146.4]]
"""Of the astronaut, by YuNet: a chip that depends on no detector."""
BOX = (181, 54, 274, 178)


def available(kind: str) -> list[str]:
    """Packs of a kind that have pinned weights; ids of tests."""
    of_kind = [pack for pack in packs.packs().values() if pack.kind == kind]
    return [pack.name for pack in of_kind if all(file.sha256 for file in pack.weights.files)]


def measure(model: Model, group: Pixels, astronaut: Pixels) -> Any:
    """The numbers to compare: boxes, scores and landmarks, a vector, or five points."""
    session = Session(model, CPU)
    if model.pack.kind == "detector":
        settings = Settings.of(config.Detect(tiles=False), model.pack)  # parts would hide another resize of the whole
        picture = Picture(halvings(group), group.shape[1], group.shape[0])
        (faces,) = Detector(session, settings)([views(picture, settings)], [(picture.width, picture.height)])
        rows = [faces.boxes, faces.scores[:, None]]
        if faces.landmarks is not None:
            rows.append(faces.landmarks.reshape(-1, 10))
        return np.concatenate(rows, axis=1)
    if model.pack.kind == "embedder":
        chip = chip_by_landmarks(
            Picture(halvings(astronaut), astronaut.shape[1], astronaut.shape[0]), np.array(LANDMARKS, np.float32)
        )
        return Embedder(session)([chip]).vectors
    left, top, right, bottom = BOX
    crop, _, _ = resize((np.ascontiguousarray(astronaut[top:bottom, left:right]),), *model.pack.input.canvases[0])
    return session.run([crop])["landmarks"]


def same(found: Floats, golden: Floats) -> bool:
    """Pixels to 0.02, scores and shares to 2e-4, vectors to 2e-4. Faces in any order: their scores may all but tie."""
    if found.shape != golden.shape:
        return False
    found, golden = found[np.argsort(found[:, 0])], golden[np.argsort(golden[:, 0])]
    allowed = np.full(found.shape[1], 2e-4)
    if found.shape[1] in (5, 15):
        allowed[[*range(4), *range(5, found.shape[1])]] = 0.02
    return bool((np.abs(found - golden) <= allowed).all())


def load() -> dict[str, Floats]:
    """The golden numbers by pack."""
    raw = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: np.array(rows, np.float32) for name, rows in raw.items()}


if __name__ == "__main__":
    from tests.conftest import ASTRONAUT, HOPPER, rgb, side_by_side

    pixels = rgb(ASTRONAUT.read_bytes())
    together = side_by_side(pixels, rgb(HOPPER.read_bytes()))
    found = {}
    for kind in ("detector", "embedder", "landmarks"):
        for name in available(kind):
            if None not in packs.find(packs.pack(name)):
                rows = measure(packs.load(name, kind), together, pixels)
                found[name] = [[round(float(number), 4) for number in row] for row in rows]
    lines = [f"{json.dumps(name)}: {json.dumps(rows)}" for name, rows in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
