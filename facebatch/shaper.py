"""Profiles of three primaries and three curves, which is what cameras, phones and screens have, as two tables and a
matrix: sRGB of a pixel in 5 ns, where LittleCMS by way of Pillow takes 23.

Measured on one core of an AMD EPYC virtual machine, 2026-11-23: a detector's view of 640x480, 1.5 ms for 7.2, which
each photo of a phone in Display P3 would pay, and each of its faces 0.06 for 0.33. The caller compares with LittleCMS
(`facebatch.colour`), which has the last word and does everything else.

Source: ICC.1:2022, 8.3.3 (three-component matrix-based profiles), 10.6 (curves), 10.18 (parametric curves).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from facebatch.geometry import Pixels

_FULL = 65535
"""Light is counted in so many steps: the darkest of sRGB's 256 levels then has twenty of them."""
_TO_SRGB = np.linalg.inv([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
"""From XYZ under D50 to linear sRGB: the colorants of the sRGB profile, IEC 61966-2-1, inverted."""
_TABLES = ("A2B0", "A2B1")
"""Tags of profiles that are more than three curves and a matrix."""


@dataclass(frozen=True, slots=True, eq=False)
class Shaper:
    """curves: 1 x 256 x 3, light of each level in each channel; matrix: 3 x 3, to sRGB's primaries; out: 1 x 65536,
    the level of each light."""

    curves: NDArray[np.uint16]
    matrix: NDArray[np.float64]
    out: Pixels

    def __call__(self, pixels: Pixels) -> Pixels:
        """sRGB of height x width x 3 pixels."""
        light = cv2.transform(cv2.LUT(pixels, self.curves), self.matrix)  # what is out of sRGB's reach is cut off
        return cast(Pixels, cv2.LUT(light, self.out))


def read_shaper(profile: bytes) -> Shaper | None:
    """What a profile's tags say; None where it is of another kind, or damaged."""
    try:
        tags = _tags(profile)
        if any(name in tags for name in _TABLES):
            return None
        with np.errstate(all="ignore"):  # a damaged exponent
            curves = np.nan_to_num(np.stack([_curve(tags[f"{c}TRC"]) for c in "rgb"], axis=-1))
        colorants = np.stack([np.array(struct.unpack(">3i", tags[f"{c}XYZ"][8:20])) for c in "rgb"], axis=-1) / 65536
    except (struct.error, KeyError, ValueError, IndexError, OverflowError):
        return None
    light = np.rint(_FULL * np.clip(curves, 0, 1)).astype(np.uint16)[None]
    return Shaper(light, _TO_SRGB @ colorants, _levels())


def _tags(profile: bytes) -> dict[str, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    places = (struct.unpack_from(">4sII", profile, 132 + 12 * k) for k in range(min(count, 100)))
    return {name.decode("latin-1"): profile[start : start + size] for name, start, size in places}


def _curve(tag: bytes) -> NDArray[np.float64]:
    """Light, 0 to 1, of the 256 levels."""
    x = np.linspace(0, 1, 256)
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        values = np.array(struct.unpack_from(f">{count}H", tag, 12), np.float64)
        if count <= 1:  # the identity, or an exponent
            return np.power(x, values[0] / 256 if count else 1)
        return np.interp(x, np.linspace(0, 1, count), values / _FULL)
    kind = tag[:4], tag[8:10]
    if kind == (b"para", b"\0\0"):
        return np.power(x, _fixed(tag, 1)[0])
    if kind == (b"para", b"\0\3"):
        gamma, a, b, c, d = _fixed(tag, 5)
        return np.where(x >= d, np.power(np.maximum(a * x + b, 0), gamma), c * x)
    raise ValueError(f"a curve of another kind, {kind}")


def _fixed(tag: bytes, count: int) -> list[float]:
    return [number / 65536 for number in struct.unpack_from(f">{count}i", tag, 12)]


@cache
def _levels() -> Pixels:
    """sRGB's level, 0 to 255, of each light."""
    light = np.linspace(0, 1, _FULL + 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * curve).astype(np.uint8)[None])
