"""Decoders: what the numbers that a detector network puts out mean as boxes, one module for each family.

A decoder takes the outputs for one batch and gives, for each image, its candidates in edge coordinates of the view,
before NMS. It knows nothing of files, sessions or full-size pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from facebatch.geometry import Floats
from facebatch.packs import Anchors


@dataclass(frozen=True, slots=True)
class Candidates:
    """boxes: n x 4 (x_min, y_min, x_max, y_max); scores: n, 0..1; landmarks: n x 5 x 2 or None. float32."""

    boxes: Floats
    scores: Floats
    landmarks: Floats | None


class Decoder(Protocol):
    """width, height: of the canvas. lowest: the score from which on candidates are given. anchors: the pack's, None for
    families whose geometry is fixed."""

    def __call__(
        self, outputs: dict[str, Floats], width: int, height: int, lowest: float, anchors: Anchors | None
    ) -> list[Candidates]: ...
