"""Decoders: what the numbers that a detector network puts out mean as boxes, one module for each family.

A decoder takes the outputs for one batch and gives, for each image, its candidates in edge coordinates of the view,
before NMS. It knows nothing of files, sessions or full-size pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from facebatch.geometry import Floats


@dataclass(frozen=True, slots=True)
class Candidates:
    """boxes: n x 4 (x_min, y_min, x_max, y_max); scores: n, 0..1; landmarks: n x 5 x 2 or None. float32."""

    boxes: Floats
    scores: Floats
    landmarks: Floats | None


Decoder = Callable[[dict[str, Floats], int, int, float], list[Candidates]]
"""(outputs by name, canvas width, canvas height, lowest score) -> candidates of each image of the batch."""
