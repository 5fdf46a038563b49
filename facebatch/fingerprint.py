"""Fingerprints for finding duplicates: of the bytes, exact; of the picture, up to scale and compression."""

from __future__ import annotations

import hashlib
from typing import cast

import cv2
import numpy as np

from facebatch.geometry import Picture


def content_sha256(data: bytes) -> str:
    """sha256 of the file, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def phash(picture: Picture) -> int:
    """A 64-bit perceptual hash as a signed integer: similar pictures differ in few bits.

    The DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010): luma reduced
    by area to 32x32, DCT, the 8x8 lowest frequencies, one bit each for being above their median. The first
    coefficient, mean brightness, only takes part as a bit. Computed on the upright picture.
    """
    levels = picture.levels
    small = picture.shown(next((level for level in levels if max(level.shape[:2]) < 256), levels[-1]))
    luma = cv2.resize(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(luma.astype(np.float32))[:8, :8].ravel()
    bits = low > np.sort(low[1:])[31]  # the median of 63
    return cast(int, np.packbits(bits).view(">i8")[0].item())
