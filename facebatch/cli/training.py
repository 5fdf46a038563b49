"""The training jobs: `jobs/train_detector.py` and `jobs/train_embedder.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from facebatch import config
from facebatch.errors import FacebatchError


def detector(argv: Sequence[str] | None = None) -> NoReturn:
    """Train a face detector, or go on; ends the process with its exit code."""
    sys.exit(_run("train a face detector on photographs with boxes", "detector", argv))


def embedder(argv: Sequence[str] | None = None) -> NoReturn:
    """Train an embedder, or go on; ends the process with its exit code."""
    sys.exit(_run("train an embedder to do as a stronger one does", "embedder", argv))


def _run(what: str, which: str, argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(description=f"{what}. The same command goes on where it was killed.")
    parser.add_argument("--data", metavar="DIR", help="what to learn from: boxes.jsonl, faces.tsv and what they name")
    parser.add_argument("--output", metavar="DIR", help="for checkpoints, curves and best.onnx")
    parser.add_argument("--config", metavar="FILE", help="settings as YAML")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as in plan.steps=20000 plan.device=cuda")
    arguments = parser.parse_args(argv)
    try:
        from facebatch.training import recipes  # here, because it needs PyTorch, which is an extra

        given = {"data": arguments.data, "output": arguments.output}
        cls: Any = recipes.DetectorRecipe if which == "detector" else recipes.EmbedderRecipe
        recipe = config.settings(cls, arguments.config, arguments.settings, config.as_dict(cls()), **given)
        best = recipes.train(recipe, _tell)
    except FacebatchError as error:
        print(f"facebatch: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("facebatch: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 1
    print(best)
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
