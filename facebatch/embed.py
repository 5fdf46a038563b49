"""Embedding: from 112x112 chips to unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facebatch import tally
from facebatch.errors import FacebatchError
from facebatch.geometry import Floats, Pixels
from facebatch.session import Session, buckets

DIMENSIONS = 512


@dataclass(frozen=True, slots=True)
class Vectors:
    """vectors: n x 512, each of length 1; norms: n, the lengths before. float32."""

    vectors: Floats
    norms: Floats


class Embedder:
    """An embedder network. Chips of many images are pooled into batches of few fixed sizes.

    flip: a vector is that of the chip and that of its mirror image added up, as the authors of ArcFace measure LFW
    (insightface, recognition/arcface_mxnet/verification.py).
    """

    def __init__(self, session: Session, batch: int = 32, flip: bool = False) -> None:
        self._session, self._batch, self._flip = session, batch, flip

    def __call__(self, chips: Sequence[Pixels]) -> Vectors:
        """One unit vector for each chip (112 x 112 x 3, uint8, RGB) and its length before; flipped, the length of the
        mean of both. Raises FacebatchError for another dimension."""
        raw = self._raw(chips)
        if self._flip:
            raw = np.float32(0.5) * (raw + self._raw([chip[:, ::-1] for chip in chips]))
        if raw.shape[1] != DIMENSIONS:
            raise FacebatchError(
                f"{self._session.model.pack.name} gives {raw.shape[1]} numbers for a face, the index holds {DIMENSIONS}"
            )
        norms = np.linalg.norm(raw, axis=1)
        return Vectors((raw / np.maximum(norms, 1e-12)[:, None]).astype(np.float32), norms.astype(np.float32))

    def _raw(self, chips: Sequence[Pixels]) -> Floats:
        parts = [np.empty((0, DIMENSIONS), np.float32)]
        sizes = buckets(len(chips), self._batch)
        tally.add("embed_filled", len(chips))
        tally.add("embed_slots", len(sizes) * self._batch)
        for size in sizes:
            batch, chips = chips[:size], chips[size:]
            (output,) = self._session.run(batch).values()
            parts.append(output.reshape(len(batch), -1))
        return np.concatenate(parts[1:] or parts)
