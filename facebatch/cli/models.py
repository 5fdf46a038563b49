"""`facebatch models`: list, show, check, import and pull model packs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.table import Table

from facebatch import packs
from facebatch.cli.base import command, stderr, stdout
from facebatch.config import Detect, Embed
from facebatch.errors import FacebatchError, UsageError

_KINDS = {
    "detector": "detectors: detect.pack=...",
    "embedder": "embedders: embed.pack=...",
    "landmarks": "landmarks of detectors without their own: landmarks=...",
}
_ORDER = ("built in", "here", "to pull", "bring it")
_LEGEND = """
to pull: `facebatch models pull PACK`; bring it: `facebatch models show PACK` says where files come from.
accuracy: AP at IoU 0.5 on 282 photos, AUC on 1,200 pairs of aligned faces; ms of one core, an image or a face (README,
Accuracy)."""


def declare(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    models = command(commands, "models", _list, "list, show, check, import and pull model packs")
    verbs = models.add_subparsers(title="what to do", metavar="list | show | check | import | pull")
    command(verbs, "list", _list, "the packs there are: at hand or not, size, accuracy, speed, licence")

    show = command(verbs, "show", _show, "everything about a pack: source, licence, input, cost, contract")
    show.add_argument("pack", metavar="PACK")

    check = command(verbs, "check", _check, "prove that weights are the right ones and run in batches")
    check.add_argument("pack", metavar="PACK", nargs="*", help="default: all whose files are there")

    take = command(verbs, "import", _import, "bring weights of your own: checked, converted, kept in the cache")
    take.add_argument("pack", metavar="PACK")
    take.add_argument("--from", dest="files", metavar="FILE", nargs="+", required=True, help="the published files")
    take.add_argument("--trust", action="store_true", help="take files of another sha256, if their content fits")
    take.add_argument("--onnx", metavar="FILE", help="write the graph there too")

    pull = command(verbs, "pull", _pull, "download weights from where their pack says, into the cache")
    pull.add_argument("pack", metavar="PACK", nargs="+")


def _list(arguments: argparse.Namespace) -> int:
    from facebatch import catalogue

    table = Table(box=None, pad_edge=False, header_style="")
    for title in ("pack", "weights", "MB", "accuracy", "ms", "commercial", "licence"):
        table.add_column(title, overflow="fold", justify="right" if title in ("MB", "accuracy", "ms") else "left")
    known = list(packs.packs().values())
    defaults = (Detect().pack, Embed().pack)
    for kind, what in _KINDS.items():
        table.add_row("", end_section=True)
        table.add_row(what)
        for pack in sorted((pack for pack in known if pack.kind == kind), key=_rank):
            size, measured = catalogue.megabytes(pack), pack.measured
            table.add_row(
                pack.name + (" (default)" if pack.name in defaults else ""),
                catalogue.availability(pack),
                f"{size:.1f}" if size else "",
                f"{measured.accuracy:.4f}" if measured else "",
                f"{measured.milliseconds:g}" if measured else "",
                "no" if pack.licence.non_commercial else "yes",
                pack.licence.name,
            )
    stdout().print(table)
    print(_LEGEND)
    return 0


def _rank(pack: packs.Pack) -> tuple[int, float]:
    """What can be used at once first, the most accurate above."""
    from facebatch import catalogue

    return _ORDER.index(catalogue.availability(pack)), -(pack.measured.accuracy if pack.measured else 0.0)


def _show(arguments: argparse.Namespace) -> int:
    from facebatch import catalogue

    _print_pairs(catalogue.describe(packs.pack(arguments.pack)))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    """Wrong files are an error, and so are missing ones that were asked for by name."""
    from facebatch import catalogue

    chosen = [packs.pack(name) for name in arguments.pack] or list(packs.packs().values())
    wrong = 0
    for pack in chosen:
        try:
            catalogue.check(pack)
            verdict = "ok"
        except UsageError as error:
            verdict = str(error) if arguments.pack else catalogue.whereabouts(pack)
            wrong += bool(arguments.pack)
        except FacebatchError as error:
            verdict, wrong = f"WRONG {error}", wrong + 1
        print(f"{pack.name}: {verdict}")
    return 1 if wrong else 0


def _import(arguments: argparse.Namespace) -> int:
    from facebatch import catalogue

    pack = packs.pack(arguments.pack)
    model = catalogue.take(pack, arguments.files, arguments.trust, arguments.onnx)
    counted = f", {model.parameters:,} parameters" if model.parameters else ""
    if pack.weights.built_in:
        setting = "detect.weights" if pack.kind == "detector" else "embed.weights"
        use = f"{setting}={model.path} uses it, and without that the built-in file stays"
    else:
        use = f"later runs find it in {packs.cache_folder()}"
    print(f"{pack.name} is imported{counted}, sha256 {model.sha256}; {use}")
    return 0


def _pull(arguments: argparse.Namespace) -> int:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from facebatch import catalogue, pull

    for pack in [packs.pack(name) for name in arguments.pack]:
        terms = "  NO COMMERCIAL USE" if pack.licence.non_commercial else ""
        print(f"{pack.name}: licence {pack.licence.name}, {pack.licence.url}{terms}", file=sys.stderr)
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        with Progress(*columns, console=stderr(), transient=True) as bars:
            tasks = {file: bars.add_task(file.name, total=file.bytes) for file in pack.weights.files}
            paths = pull.pull(pack, lambda file, done, tasks=tasks: bars.update(tasks[file], completed=done))  # type: ignore[misc]
        catalogue.check(pack)
        print("\n".join(map(str, paths)))
    return 0


def _print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    width = max(len(title) for title, _ in pairs)
    for title, text in pairs:
        print(f"{title:<{width}}  {text}")
