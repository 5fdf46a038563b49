"""`facebatch eval`: how good detectors and embedders are, on data with known answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from facebatch import config
from facebatch.cli.base import command, configured, quiet, show_table, stderr
from facebatch.errors import UsageError


def declare(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Add `eval` to the command line."""
    outer: argparse.ArgumentParser = commands.add_parser("eval", help="measure detectors and embedders on your data")
    verbs = outer.add_subparsers(
        title="what to measure", metavar="detection | landmarks | verification | alignment", required=True
    )

    detection = command(verbs, "detection", _detection, "average precision of face detectors on annotated photographs")
    detection.add_argument(
        "--data", metavar="PATH", required=True, help="a ground_truth.jsonl or its folder, or WIDER FACE's"
    )
    detection.add_argument("--images", metavar="DIR", help="WIDER FACE's photographs, where they lie elsewhere")
    detection.add_argument("--official", metavar="DIR", help="WIDER FACE's .mat files, where they lie elsewhere")
    detection.add_argument(
        "--detector",
        metavar="PACK[=WEIGHTS]",
        action="append",
        help="may be repeated, also with other weights, as in yunet-n=int8.onnx; default: all here",
    )
    detection.add_argument(
        "--protocol",
        default="plain",
        help="plain (IoU 0.5), or that of a card: slim-320, ssh-mxnet; default: %(default)s",
    )
    detection.add_argument("--output", metavar="DIR", default="out/eval", help="default: %(default)s")
    configured(detection)

    landmarks = command(verbs, "landmarks", _landmarks, "how far detectors' landmarks are from a stronger one's")
    landmarks.add_argument("--data", metavar="PATH", required=True, help="as for detection; its boxes do not matter")
    landmarks.add_argument("--detector", metavar="PACK", action="append", help="may be repeated; default: detect.pack")
    landmarks.add_argument("--reference", metavar="PACK", default="yunet-n", help="default: %(default)s")
    configured(landmarks)

    verification = command(verbs, "verification", _verification, "how well embedders tell people apart, on pairs")
    verification.add_argument(
        "--data", metavar="PATH", required=True, help="pairs.tsv (a, b, same), an insightface .bin, LFW, or a folder"
    )
    verification.add_argument("--embedder", metavar="PACK", action="append", help="may be repeated; default: all here")
    verification.add_argument(
        "--images",
        choices=("auto", "photos", "aligned"),
        default="auto",
        help="photos pass through all stages, aligned crops are embedded; default: by the size of the first",
    )
    verification.add_argument(
        "--all-pairs", action="store_true", help="of a folder with a folder for each person, or of listed images, all"
    )
    verification.add_argument(
        "--people", metavar="FILE", help="who is in each pair of a .bin that has same pairs only, one name a line"
    )
    _with_pad(verification, 0.0)
    verification.add_argument("--output", metavar="DIR", default="out/eval", help="default: %(default)s")
    configured(verification)

    alignment = command(verbs, "alignment", _alignment, "what landmarks are worth: TAR by box, by network, by detector")
    alignment.add_argument("--data", metavar="DIR", required=True, help="a folder with a folder for each person")
    alignment.add_argument("--detector", metavar="PACK", action="append", required=True, help="may be repeated")
    alignment.add_argument("--embedder", metavar="PACK", action="append", help="may be repeated; default: embed.pack")
    _with_pad(alignment, 0.5)
    configured(alignment)


def _with_pad(verb: argparse.ArgumentParser, default: float) -> None:
    verb.add_argument(
        "--pad",
        metavar="SHARE",
        type=float,
        default=default,
        help="black border on each side of photos, for crops that a face fills; default: %(default)s",
    )


def _detection(arguments: argparse.Namespace) -> int:
    from facebatch.evaluation import detecting, showing, wider

    settings = config.load(arguments.config, arguments.settings)
    if arguments.protocol not in detecting.PROTOCOLS:
        raise UsageError(f"there is no protocol {arguments.protocol!r}; there are {', '.join(detecting.PROTOCOLS)}")
    protocol = detecting.PROTOCOLS[arguments.protocol]
    data = detecting.read_data(arguments.data, arguments.images, arguments.official)
    chosen = detecting.available(arguments.detector or ())
    tell = _teller()
    with quiet():
        results = [detecting.measure(entry, settings, data, protocol, tell) for entry in chosen]
    show_table(*showing.table(results, wider.SUBSETS if data.official else ()))
    for file in showing.write(Path(arguments.output), data, results, arguments.protocol, protocol.rule, sys.argv[1:]):
        tell(f"written: {file}")
    return 0


def _landmarks(arguments: argparse.Namespace) -> int:
    from facebatch.evaluation import detecting, landmarks

    settings, tell = config.load(arguments.config, arguments.settings), _teller()
    truths, chosen = detecting.read_data(arguments.data).truths, arguments.detector or [settings.detect.pack]
    with quiet():
        found = landmarks.measure(truths, chosen, arguments.reference, settings, tell)
    rows = [
        [name, looks, str(len(apart)), *(landmarks.said(apart, side) for side in landmarks.SIDES)]
        for (name, looks), apart in found.items()
    ]
    sides = [f"from {side} pixels" if side else "all faces" for side in landmarks.SIDES]
    show_table(["detector", f"{arguments.reference}'s", "faces", *sides], rows)
    return 0


def _verification(arguments: argparse.Namespace) -> int:
    from facebatch.evaluation.verifying import evaluate

    settings, tell = config.load(arguments.config, arguments.settings), _teller()
    with quiet():
        report = evaluate(
            arguments.data,
            settings,
            arguments.embedder or (),
            arguments.output,
            tell,
            how=arguments.images,
            pad=arguments.pad,
            everyone=arguments.all_pairs,
            people=arguments.people,
        )
    rows = report.rows()
    show_table(list(rows[0]), (list(row.values()) for row in rows))
    for file in report.files:
        tell(f"written: {file}")
    return 0


def _alignment(arguments: argparse.Namespace) -> int:
    from facebatch.evaluation.alignment import landmark_table

    settings, tell = config.load(arguments.config, arguments.settings), _teller()
    rows: list[list[str]] = []
    for embedder in arguments.embedder or [settings.embed.pack]:
        with quiet():
            found = landmark_table(arguments.data, settings, arguments.detector, embedder, tell, arguments.pad)
        rows += [
            [row.detector, row.alignment, embedder, f"{row.found} of {row.images}", f"{100 * row.tar:.1f}"]
            for row in found
        ]
    show_table(["detector", "alignment", "embedder", "found", "TAR at FAR 1e-3, %"], rows)
    return 0


def _teller() -> Callable[[str], None]:
    """Says single plain lines on stderr, whatever is in them."""
    remarks = stderr()
    return lambda said: remarks.print(said, soft_wrap=True, markup=False, highlight=False)
