"""Five landmarks for faces that are known by their boxes only, by a small network that looks at each box.

Boxes say where a face is, and not how it is turned. On hard faces an embedder that is given box crops loses a quarter
of the genuine pairs and more; with these points it loses none (README, Accuracy).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facebatch.errors import FacebatchError
from facebatch.geometry import Floats, Picture, Pixels, to_canvas, warp
from facebatch.packs import Pack
from facebatch.session import Session, buckets

_BATCH = 32

Window = tuple[float, float, float, float]


class Landmarker:
    """A landmark network. The faces of many images are pooled into batches of few fixed sizes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, crops: Sequence[Pixels], boxes: Sequence[Floats]) -> list[Floats]:
        """Landmarks (5 x 2, float32, pixels of the upright full-size picture, image-left eye, image-right eye, nose
        tip, image-left and image-right mouth corner) for each crop (`crop` of the same pack) and its box.

        Raises FacebatchError for a network that does not give ten numbers for a crop.
        """
        shares = [np.empty((0, 5, 2), np.float32)]
        for size in buckets(len(crops), _BATCH):
            batch, crops = crops[:size], crops[size:]
            shares.append(self._run(batch))
        pack = self._session.model.pack
        return [
            _in_picture(points, window(pack, box)) for points, box in zip(np.concatenate(shares), boxes, strict=True)
        ]

    def _run(self, batch: Sequence[Pixels]) -> Floats:
        outputs = self._session.run(batch)
        points = next((output for output in outputs.values() if output.size == 10 * len(batch)), None)
        if points is None:
            shapes = ", ".join(f"{name} {output.shape}" for name, output in outputs.items())
            raise FacebatchError(
                f"{self._session.model.pack.name} gives {shapes} for {len(batch)} crops; five points each were expected"
            )
        return points.reshape(len(batch), 5, 2)


def crop(picture: Picture, box: Floats, pack: Pack) -> Pixels:
    """What the network sees of a face (box: 4, full-size edge coordinates): canvas height x canvas width x 3, black
    outside of the picture."""
    (canvas,) = pack.input.canvases
    return warp(picture, to_canvas(window(pack, box), canvas), *canvas)


def window(pack: Pack, box: Floats) -> Window:
    """The part of the picture that is pulled to the canvas: x, y, width, height."""
    x_min, y_min, x_max, y_max = map(float, box)
    width, height = x_max - x_min, y_max - y_min
    if pack.crop == "square":
        side = max(width, height)
        return (x_min + x_max - side) / 2, (y_min + y_max - side) / 2, side, side
    return x_min, y_min, width, height


def _in_picture(points: Floats, window: Window) -> Floats:
    x, y, width, height = window
    return (points * [width, height] + [x, y]).astype(np.float32)
