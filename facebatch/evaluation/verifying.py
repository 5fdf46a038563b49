"""Verification of whole data sets: every embedder on every list of pairs, as figures, as a record and as plots."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import facebatch
from facebatch import networks, packs
from facebatch.config import Config, as_dict
from facebatch.errors import UsageError
from facebatch.evaluation import plots
from facebatch.evaluation.embedding import How, Tell, embed, how_shown
from facebatch.evaluation.figures import Judged, Missing, Row, figures
from facebatch.evaluation.pairs import Pairs, all_of, all_pairs, cross_pairs, read_bin, read_lfw, read_tsv
from facebatch.evaluation.scores import verification
from facebatch.packs import Model
from facebatch.summary import versions


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, and the files that hold it."""

    results: tuple[Row, ...]
    files: tuple[Path, ...]

    def rows(self) -> list[dict[str, str]]:
        """For a table: one dictionary for each line, with the same keys in the same order."""
        return [row.cells() for row in self.results]


def evaluate(
    data: str | Path,
    config: Config,
    embedders: Sequence[str] = (),
    output: str | Path = ".",
    tell: Tell = lambda _: None,
    *,
    how: How | Literal["auto"] = "auto",
    pad: float = 0.0,
    everyone: bool = False,
    missing: Missing = "reject",
    people: str | Path | None = None,
) -> Report:
    """Judge embedders on the pairs of a file or folder (`data_sets`), and write verification.json,
    verification-roc.png and verification-reject.png to `output`.

    embedders: names of packs; without any, all whose weights are found. how, pad: as for `embed`; "auto" decides for
    each data set by its first image and tells. everyone: all pairs of the images.
    missing: pairs of which an image has no vector count as rejected, or are left out (`Missing`).

    Plots show vectors without mirror images. Memory: 6 KB for each image, and the pairs.
    Raises UsageError for data, packs or weights that are not there, and where `output` cannot be written.
    """
    sets = data_sets(data, everyone, tell, people)
    names = embedders or _at_hand(tell)
    if config.embed.weights and len(names) > 1:
        raise UsageError(f"embed.weights is one file, and there are {len(names)} embedders: say which one")
    models = [packs.load(name, "embedder", config.embed.weights) for name in names]
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from None
    rows: list[Row] = []
    curves, rejected = dict[str, Any](), dict[str, Any]()
    for pairs in sets:
        shown = how_shown(pairs.images[0], config.decode) if how == "auto" else how
        if how == "auto":
            tell(f"{pairs.name}: the first of {len(pairs.images)} images is taken for {_MEANT[shown]}, and so all are")
        for model in models:
            name = model.pack.name
            own = replace(config, embed=replace(config.embed, pack=name))
            found = embed(pairs.images, own, networks.load(own) if shown == "photos" else model, shown, pad, tell)
            rows += [figures(pairs, shown, name, flip, found, missing) for flip in (False, True)]
            label = f"{name}, {Path(pairs.name).name}" if len(sets) > 1 else name
            judged = Judged.of(pairs, found, flip=False)
            curve, loss = verification(*judged.counted(missing)), judged.rejections()
            curves[label], rejected[label] = (curve.fars, curve.tars), (loss.shares, loss.eers)
    files = tuple(folder / f"verification{end}" for end in (".json", "-roc.png", "-reject.png"))
    given = {"data": str(data), "embedders": list(embedders), "how": how, "pad": pad, "everyone": everyone}
    _write(files[0], rows, given | {"missing": missing}, config, models)
    plots.roc(files[1], curves)
    plots.reject(files[2], rejected)
    return Report(tuple(rows), files)


_MATTERS = ("decode", "gate", "detect", "landmarks", "embed", "quality")
"""What of the configuration changes results; `embed.pack` and `embed.flip` are each row's own."""
_MEANT = {"aligned": "a face that is aligned already", "photos": "a photo"}


def data_sets(
    data: str | Path, everyone: bool = False, tell: Tell = lambda _: None, people: str | Path | None = None
) -> list[Pairs]:
    """The lists of pairs of a file (.tsv, .csv, .bin, or LFW's pairs in .txt), or of a folder: its pairs*.tsv,
    pairs*.csv and *.bin, and its pairs.txt, whose images lie in its folder lfw or in itself.

    everyone: all pairs of the images of a file, or of a folder of people instead of its lists. A .bin without different
    pairs gives all pairs of its images too (`cross_pairs`), which is told. people: a file that names the person of each
    same pair of that .bin, one a line, so that who comes back is known.
    """
    place = Path(data)
    if place.is_dir():
        if everyone:
            return [all_pairs(place)]
        patterns = "pairs*.tsv", "pairs*.csv", "pairs.txt", "*.bin"
        files = [file for pattern in patterns for file in sorted(place.glob(pattern)) if file.is_file()]
        if not files:
            raise UsageError(
                f"{place} holds none of {', '.join(patterns)}; for all pairs of a folder of people say --all-pairs"
            )
    elif place.exists():
        files = [place]
    else:
        raise UsageError(f"{place} is not there: expected a list of pairs, or a folder")
    found, crossed = [], 0
    for file in files:
        pairs = _read(file)
        if everyone:
            pairs = all_of(pairs)
        elif file.suffix.lower() == ".bin" and pairs.same.all():
            pairs = cross_pairs(pairs, _names(people) if people else None)
            known = "by the names that were given" if people else "a person who comes back as somebody else (--people)"
            tell(f"{file} has no different pairs: all pairs of its images are judged, {known}")
            crossed += 1
        found.append(pairs)
    if people and crossed != 1:
        raise UsageError(f"{people} names the people of one .bin without different pairs, and {data} has {crossed}")
    return found


def _names(file: str | Path) -> list[str]:
    try:
        return [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: expected a name on each line ({error})") from None


def _read(file: Path) -> Pairs:
    match file.suffix.lower():
        case ".bin":
            return read_bin(file)
        case ".txt":
            below = file.parent / "lfw"
            return read_lfw(file, below if below.is_dir() else file.parent)
        case ".tsv" | ".csv":
            return read_tsv(file)
    raise UsageError(f"{file} is no list of pairs: expected .tsv, .csv, .bin, or LFW's pairs.txt")


def _at_hand(tell: Tell) -> list[str]:
    """The embedders whose weights are found."""
    named = [name for name, pack in packs.packs().items() if pack.kind == "embedder"]
    there = [name for name in named if all(packs.find(packs.pack(name)))]
    if absent := [name for name in named if name not in there]:
        tell(f"without weights, and so not judged: {', '.join(absent)}")
    return there


def _write(file: Path, rows: Sequence[Row], settings: dict[str, Any], config: Config, models: Sequence[Model]) -> None:
    record = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "facebatch": facebatch.__version__,
        "versions": versions(),
        "settings": settings | {key: as_dict(config)[key] for key in _MATTERS},
        "weights": {model.pack.name: model.sha256 for model in models},
        "results": [asdict(row) for row in rows],
    }
    try:
        file.write_text(json.dumps(_plain(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None


def _plain(value: Any) -> Any:
    """JSON has no nan and no infinity: null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
