"""`facebatch models`: list, show, check, import, pull, quantise and halve model packs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from facebatch import config, packs
from facebatch.cli.base import command, configured, count, quiet, stderr, stdout
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


_SETTING = {"detector": ("detect.weights", "detection"), "embedder": ("embed.weights", "embedding")}
"""Where weights of a kind are named, and which `eval` judges them."""


def declare(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    models = command(commands, "models", _list, "list, show, check, import, pull, quantise and halve model packs")
    verbs = models.add_subparsers(title="what to do", metavar="list | show | check | import | pull | quantize | halve")
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

    small = command(verbs, "quantize", _quantize, "a detector in INT8 for CPUs, its ranges learned from your photos")
    small.add_argument("pack", metavar="PACK")
    small.add_argument("--photos", metavar="DIR", required=True, help="photos like those to be indexed, at any depth")
    small.add_argument("--images", metavar="N", type=count, default=200, help="how many; default: %(default)s")
    small.add_argument("--output", metavar="FILE", required=True, help="an .onnx file, for detect.weights=FILE")
    configured(small)

    half = command(verbs, "halve", _halve, "a network in FP16 for GPUs")
    half.add_argument("pack", metavar="PACK")
    half.add_argument("--weights", metavar="FILE", help="float weights; default: the pack's own")
    half.add_argument("--output", metavar="FILE", required=True, help="an .onnx file, for detect.weights=FILE")


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
    if pack.weights.built_in or model.precision != "float32":
        setting = "detect.weights" if pack.kind == "detector" else "embed.weights"
        stays = "the built-in file stays" if pack.weights.built_in else "the pack's own weights stay"
        use = f"{setting}={model.path} uses it, and without that {stays}"
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


def _quantize(arguments: argparse.Namespace) -> int:
    """Of whatever `detect.weights` names, else of the pack's own weights. The file is trusted: it was made here."""
    from facebatch import catalogue, quantize

    pack = packs.pack(arguments.pack)
    settings = config.load(arguments.config, [*arguments.settings, f"detect.pack={pack.name}"])
    model = packs.load(pack.name, pack.kind, settings.detect.weights)
    print(f"showing {pack.name} {arguments.images} photos of {arguments.photos} ...", file=sys.stderr)
    with quiet():
        made = quantize.quantise(model, settings, arguments.photos, arguments.images)
    catalogue.keep(Path(arguments.output), made.model.graph)
    packs.trust(pack, [made.model.sha256])
    if made.skipped:
        print(f"{len(made.skipped)} files were left out, e.g. {made.skipped[0]}", file=sys.stderr)
    print(
        f"{pack.name} is quantised, its ranges from {made.photos} photos, sha256 {made.model.sha256}; "
        f"detect.weights={arguments.output} uses it, in a dataset of its own\n"
        f"what it loses: `facebatch eval detection --data ... --detector {arguments.pack} "
        f"--detector {arguments.pack}={arguments.output}`"
    )
    return 0


def _halve(arguments: argparse.Namespace) -> int:
    """The file is trusted: it was made here."""
    from facebatch import catalogue, quantize

    pack = packs.pack(arguments.pack)
    if pack.kind not in _SETTING:
        raise UsageError(f"{pack.name} is for {pack.kind}: it always runs on the CPU, and gains nothing")
    half = quantize.halve(packs.load(pack.name, pack.kind, arguments.weights))
    catalogue.keep(Path(arguments.output), half.graph)
    packs.trust(pack, [half.sha256])
    setting, verb = _SETTING[pack.kind]
    print(
        f"{pack.name} is halved, sha256 {half.sha256}; {setting}={arguments.output} uses it, in a dataset of its own\n"
        f"what it loses: `facebatch eval {verb} --help`"
    )
    return 0


def _print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    width = max(len(title) for title, _ in pairs)
    for title, text in pairs:
        print(f"{title:<{width}}  {text}")
