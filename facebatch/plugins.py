"""Packages that only some archives need: each an extra of facebatch, imported at the first file that wants it."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from types import ModuleType

from PIL import AvifImagePlugin

from facebatch.reasons import Reason, Undecodable
from facebatch.sources import Kind, Source

EXTRAS = {
    "HEIF": ("pillow_heif", "pillow-heif", "heif"),
    "JXL": ("pillow_jxl", "pillow-jxl-plugin", "jxl"),
    "RAW": ("rawpy", "rawpy", "raw"),
}
"""Format to module, package and extra."""
_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIF"),
    ".jxl": "JXL",
    **dict.fromkeys((".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"), "RAW"),
}

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # every actor has its own cores, as with OpenCV


@cache
def plugin(format: str) -> ModuleType:
    """The module that reads the format, known to Pillow. Raises Undecodable, with what to type, where it is absent.

    One that is there and cannot be loaded is a fault of the installation: its ImportError passes through.
    """
    name, _, _ = EXTRAS[format]
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise Undecodable(Reason.UNSUPPORTED_FORMAT, _advice(format)) from error
    if format == "HEIF":
        module.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    if format == "JXL":
        module.JpegXLImagePlugin.DECODE_THREADS = 0
    return module


class Wanted:
    """Counts the files of a listing whose names say that they need a package which is absent here."""

    def __init__(self) -> None:
        absent = {format for format in EXTRAS if not is_installed(format)}
        self._suffixes = {suffix: format for suffix, format in _SUFFIXES.items() if format in absent}
        self._counts: Counter[str] = Counter()

    def passing(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The same stream."""
        for source in sources:
            if format := self._suffixes.get(os.path.splitext(source.object.uri)[1].lower()):
                self._counts[format] += source.kind is Kind.FILES
            yield source

    def remarks(self) -> Iterator[str]:
        """A sentence for each format, to be read before they fail: what failed for its content stays as it is."""
        for format, n in sorted(self._counts.items()):
            if n:
                yield (
                    f"{n} files look like {format}. {_advice(format)}. Without it they fail, and stay failed until "
                    f"--retry {Reason.UNSUPPORTED_FORMAT}"
                )


def is_installed(format: str) -> bool:
    """Whether the package that reads the format is installed here."""
    return importlib.util.find_spec(EXTRAS[format][0]) is not None


def is_absent(format: str | None, detail: str | None) -> bool:
    """Whether an image that ended with these words did so because its package was not installed where it was read."""
    return format in EXTRAS and detail == _advice(format)


def _advice(format: str) -> str:
    _, package, extra = EXTRAS[format]
    return f"{format} needs {package}: pip install 'facebatch[{extra}]'"
