"""Files that no package here writes: colour profiles and a camera's raw file, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence

D50 = (0.9642, 1.0, 0.8249)
P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
"""Display P3: red, green and blue as XYZ, adapted to D50. Its curve is near a gamma of 2.2."""

Entry = tuple[int, Sequence[int]]


def rgb_profile(primaries: Sequence[Sequence[float]] = P3, gamma: float = 2.2, curve: bytes | None = None) -> bytes:
    """An ICC profile of an RGB space: three primaries and a gamma, or the tag of a curve."""
    tags = {name + b"XYZ": _xyz(xyz) for name, xyz in zip((b"r", b"g", b"b"), primaries, strict=True)}
    tags |= {name + b"TRC": curve or _curve(gamma) for name in (b"r", b"g", b"b")}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    """An ICC profile of a grey space."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def table_curve(values: Sequence[int]) -> bytes:
    """The tag of a curve that is a table of 16 bit; without values the identity."""
    return struct.pack(f">4sII{len(values)}H", b"curv", 0, len(values), *values)


def formula_curve(kind: int, numbers: Sequence[float]) -> bytes:
    """The tag of a curve that is one of ICC's formulas."""
    fixed = [round(number * 65536) for number in numbers]
    return struct.pack(f">4sIHH{len(numbers)}i", b"para", 0, kind, 0, *fixed)


def ink_profile(space: bytes = b"CMYK") -> bytes:
    """An ICC profile of a press whose black is black and whose other inks, all together or alone, are red."""
    corners = [(255, 128, 128) if k == 0 else (128, 208, 195) for k in range(8)]  # L, a, b of 8 bit: paper, red
    table = b"".join(bytes((0, 128, 128) if black else corners[cmy]) for cmy in range(8) for black in (0, 1))
    identity = struct.pack(">9i", *(65536 if i in (0, 4, 8) else 0 for i in range(9)))
    lut = b"mft1\0\0\0\0\x04\x03\x02\0" + identity + bytes(range(256)) * 4 + table + bytes(range(256)) * 3
    return _profile(b"prtr", space, b"Lab ", {b"A2B0": lut})


def dng(
    preview: bytes | None,
    size: tuple[int, int] = (0, 0),
    orientation: int = 1,
    *,
    bitmap: bool = False,
    version: bool = True,
) -> bytes:
    """A DNG as cameras write it: the preview (a JPEG, or RGB) in the first directory, 128x128 samples in a SubIFD."""
    samples = struct.pack("<16384H", *range(16384))
    sensor: dict[int, Entry] = {
        **{254: (4, [0]), 256: (4, [128]), 257: (4, [128]), 258: (3, [16]), 259: (3, [1]), 262: (3, [32803])},
        **{277: (3, [1]), 278: (4, [128]), 279: (4, [len(samples)]), 33421: (3, [2, 2]), 33422: (1, [0, 1, 1, 2])},
    }
    main: dict[int, Entry] = {
        **{254: (4, [1]), 271: (2, b"Handmade\0"), 272: (2, b"Camera 1\0"), 274: (3, [orientation])},
        **{306: (2, b"2020:01:02 03:04:05\0"), 50708: (2, b"Handmade Camera 1\0"), 50778: (3, [21])},
        50721: (10, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
    }
    if version:
        main[50706] = (1, [1, 4, 0, 0])
    if preview is not None:
        main |= {256: (4, [size[0]]), 257: (4, [size[1]]), 258: (3, [8, 8, 8]), 259: (3, [1 if bitmap else 7])}
        main |= {262: (3, [2 if bitmap else 6]), 277: (3, [3]), 278: (4, [size[1]]), 279: (4, [len(preview)])}
    offsets = [0, 0, 0]
    for _ in range(2):  # once to learn the lengths
        parts = [{330: (4, [offsets[0]])} | main, {273: (4, [offsets[1]])} | sensor]
        if preview is not None:
            parts[0][273] = (4, [offsets[2]])
        first = _directory(parts[0], 8)
        second = _directory(parts[1], 8 + len(first))
        offsets = [8 + len(first), 8 + len(first + second), 8 + len(first + second + samples)]
    return b"II*\0\x08\0\0\0" + first + second + samples + (preview or b"")


def _directory(entries: dict[int, Entry], at: int) -> bytes:
    body, extra = struct.pack("<H", len(entries)), b""
    for tag, (kind, values) in sorted(entries.items()):
        data = struct.pack(f"<{len(values)}{ {1: 'B', 2: 'B', 3: 'H', 4: 'I', 10: 'i'}[kind] }", *values)
        count = len(values) // 2 if kind == 10 else len(values)
        place = struct.pack("<I", at + 6 + 12 * len(entries) + len(extra))
        body += struct.pack("<HHI", tag, kind, count) + (data.ljust(4, b"\0") if len(data) <= 4 else place)
        extra += data + b"\0" * (len(data) % 2) if len(data) > 4 else b""
    return body + b"\0\0\0\0" + extra


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"desc\0\0\0\0\0\0\0\x05test\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(D50)} | tags
    at = 132 + 12 * len(tags)
    index, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        index += name + struct.pack(">II", at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = (
        b"\0\0\0\0\0\0\0\0\x02\x10\0\0" + kind + space + connection + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp"
    )
    head = head.ljust(68, b"\0") + struct.pack(">3i", *(round(v * 65536) for v in D50))
    data = head.ljust(128, b"\0") + index + body
    return struct.pack(">I", len(data)) + data[4:]


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0\0\0\0\x01" + struct.pack(">H", round(gamma * 256))
