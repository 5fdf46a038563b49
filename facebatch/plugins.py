"""Packages that only some archives need: each an extra of facebatch, imported at the first file that wants it."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

from PIL import AvifImagePlugin

from facebatch.reasons import Reason, Undecodable

EXTRAS = {
    "HEIF": ("pillow_heif", "pillow-heif", "heif"),
    "JXL": ("pillow_jxl", "pillow-jxl-plugin", "jxl"),
    "RAW": ("rawpy", "rawpy", "raw"),
}
"""Format to module, package and extra."""

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # every actor has its own cores, as with OpenCV


@cache
def plugin(format: str) -> ModuleType:
    """The module that reads the format, known to Pillow. Raises Undecodable, with what to type, where it is absent.

    One that is there and cannot be loaded is a fault of the installation: its ImportError passes through.
    """
    name, package, extra = EXTRAS[format]
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        advice = f"{format} needs {package}: pip install 'facebatch[{extra}]'"
        raise Undecodable(Reason.UNSUPPORTED_FORMAT, advice) from error
    if format == "HEIF":
        module.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    if format == "JXL":
        module.JpegXLImagePlugin.DECODE_THREADS = 0
    return module
