"""An archive that nobody would wish for: damaged photos in every format, bombs, files that are two things at once, and
names from a nightmare; loose, in a tar, and in a table.
"""

from __future__ import annotations

import io
import os
import random
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from facebatch.plugins import plugin
from tests.conftest import ASTRONAUT, HOPPER
from tests.containers import dng
from tests.mutations import mutated

_FORMATS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 85},
    "PNG": {},
    "GIF": {},
    "WEBP": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "AVIF": {"speed": 10},
    "JPEG2000": {},
    "ICO": {},
    "ICNS": {},
    "PPM": {},
    "SGI": {},
    "PCX": {},
    "HEIF": {},
    "JXL": {},
}
_NAMES = (
    *(
        "line\nbreak",
        "tab\tstop",
        "back\\slash",
        "semi;colon",
        "quote'\"",
        "percent%2F%00",
        "a b ",
        "-rf",
        "#hash?query",
    ),
    *(
        "<script>alert(1)</script>".replace("/", "\u2215"),
        "\u202egpj.exe",
        "👩\u200d👧 é é",
        "\x1b[31mred",
        "con",
        "...",
    ),
)
Files = dict[bytes, bytes]
"""Name below the archive's folder, as the file system has it, to content."""


def sound() -> dict[str, bytes]:
    """A small photograph with a face, in every format that is decoded and that something here can write."""
    for name in ("HEIF", "JXL"):
        plugin(name)
    photo = Image.open(io.BytesIO(HOPPER.read_bytes())).convert("RGB").resize((256, 300))
    made = {}
    for format, options in _FORMATS.items():
        stream = io.BytesIO()
        photo.save(stream, format, **options)
        made[format] = stream.getvalue()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    stream = io.BytesIO()
    photo.save(stream, "JPEG", exif=exif, icc_profile=b"\0" * 200)
    large = Image.open(io.BytesIO(ASTRONAUT.read_bytes())).convert("RGB").resize((800, 600))
    preview = io.BytesIO()
    large.save(preview, "JPEG")
    return made | {"EXIF": stream.getvalue(), "RAW": dng(preview.getvalue(), (800, 600))}


def bombs() -> dict[str, bytes]:
    """Small files that promise, or hold, far more than they should."""
    jpeg = sound()["JPEG"]
    start = jpeg.index(b"\xff\xc0")
    tall = jpeg[: start + 5] + struct.pack(">HH", 65535, 65535) + jpeg[start + 9 :]
    note = b"\xff\xfe" + struct.pack(">H", 60_002) + b"x" * 60_000
    loop = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("run.sh", "rm -rf /")
    page = b"<html><script>alert(1)</script></html>"
    return {
        "wide.png": _png((60_000, 60_000), b""),
        "flat.png": _png((178_000_000, 1), b""),
        "long.png": _png((64, 64), zlib.compress(bytes(64 * 193 * 50_000))),
        "text.png": _png(
            (64, 64), zlib.compress(bytes(64 * 193)), _chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 27)))
        ),
        "chunks.png": _png((64, 64), zlib.compress(bytes(64 * 193)), _chunk(b"tEXt", b"k\0v") * 50_000),
        "tall.jpg": tall,
        "notes.jpg": jpeg[:2] + note * 60 + jpeg[2:],
        "loop.jpg": jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(loop) + 2) + loop + jpeg[2:],
        "zip.jpg": jpeg + archive.getvalue(),
        "page.jpg": jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(page) + 2) + page + jpeg[2:],
        "page.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0" + page,
        "wide.bmp": b"BM" + struct.pack("<IIIIiiHH24x", 54, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24),
        "wide.ppm": b"P6\n999999999 999999999\n255\n",
        "frames.gif": _frames(2000),
        "picture.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "empty.jpg": b"",
        "one.jpg": b"\xff",
        "zeros.jpg": bytes(1 << 16),
        "text.jpg": b"I am a photograph",
    }


def loose(count: int, seed: int = 0) -> Files:
    """So many files: each bomb once, each sound photo once, the rest damaged."""
    draw, originals = random.Random(seed), sound()
    files: Files = {f"bombs/{name}".encode(): data for name, data in bombs().items()}
    files |= {f"sound/{name}".encode(): data for name, data in originals.items()}
    kinds = sorted(originals)
    while len(files) < count:
        number, kind = len(files), draw.choice(kinds)
        name = f"{number // 500:03d}/{number:06d} {draw.choice(_NAMES)}.{kind.lower()}"
        files[name.encode() + draw.choice((b"", b"", b"\xff\xfe"))] = mutated(
            originals[kind], [originals[draw.choice(kinds)]], draw
        )
    return files


def write(folder: Path, files: Files) -> None:
    """The files, below a folder."""
    for name, data in files.items():
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(data)


def tar(file: Path) -> int:
    """A tar whose members claim to be anywhere, and some of which are no files. Returns how many are."""
    jpeg = sound()["JPEG"]
    names = ["/etc/passwd", "../../climbs.jpg", "C:\\windows.jpg", "a" * 300 + ".jpg", "same.jpg", "same.jpg", *_NAMES]
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as made:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(jpeg)
            made.addfile(info, io.BytesIO(jpeg))
        for kind, target in (
            (tarfile.SYMTYPE, "/etc/passwd"),
            (tarfile.LNKTYPE, "same.jpg"),
            (tarfile.CHRTYPE, ""),
            (tarfile.BLKTYPE, ""),
            (tarfile.FIFOTYPE, ""),
            (tarfile.DIRTYPE, ""),
        ):
            info = tarfile.TarInfo(f"special {kind.decode()}.jpg")
            info.type, info.linkname = kind, target
            made.addfile(info)
    data = file.read_bytes()
    file.write_bytes(data[: len(data.rstrip(b"\0")) // 512 * 512 + 512])  # no end marker
    return len(names)


def rows(file: Path) -> int:
    """A table with cells that are empty, no image, or gigantic. Returns how many rows it has."""
    cells = [None, b"", b"no image", sound()["JPEG"], bytes(64 << 20), sound()["PNG"]]
    keys = [None, "", "../up", "<b>", "same", "same"]
    pq.write_table(pa.table({"key": keys, "bytes": pa.array(cells, pa.binary())}), file, row_group_size=2)
    return len(cells)


def _png(size: tuple[int, int], pixels: bytes, extra: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _frames(count: int) -> bytes:
    stream = io.BytesIO()
    first, *others = [Image.new("L", (64, 64), k % 256) for k in range(count)]
    first.save(stream, "GIF", save_all=True, append_images=others)
    return stream.getvalue()
