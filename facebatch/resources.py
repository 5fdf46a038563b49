"""Files that travel with the package: model packs and run configurations, in a wheel as in a checkout."""

from __future__ import annotations

from pathlib import Path


def folder(name: str) -> Path:
    """`models` or `conf`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "_resources" / name
    return installed if installed.is_dir() else package.parent / name
