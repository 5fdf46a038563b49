"""Pairs of images of which it is known whether they show one person: read from files, or made of a folder of people.

Where pairs are made, they are all pairs of the images, n (n - 1) / 2: 10,000 images take 0.9 GB.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facebatch.errors import UsageError
from facebatch.evaluation.bin_file import read_bin_file
from facebatch.formats import sniff

Indices = NDArray[np.int64]
Answers = NDArray[np.bool_]
Named = tuple[str, str, bool]
"""Two paths, and whether they show one person."""

_SAME = {"1": True, "true": True, "0": False, "false": False}
_LFW_FOLDS = 10


@dataclass(frozen=True, slots=True)
class Pairs:
    """n labelled pairs of m images.

    `images`: the m distinct images, each a path, or the bytes of an encoded image.
    `first`, `second`: int64, n, indices into the images; `same`: bool, n, whether both show one person.
    `folds`: of how many contiguous, equally long parts the n pairs consist that are to be judged in turn; 0: of none.
    `name`: the file or folder, for titles.
    """

    images: tuple[str, ...] | tuple[bytes, ...]
    first: Indices
    second: Indices
    same: Answers
    folds: int
    name: str

    def __len__(self) -> int:
        return len(self.same)


def read_tsv(file: str | Path) -> Pairs:
    """A table with the columns a, b (paths, relative to the table's folder) and same (1 or 0, true or false); tabs
    between them, commas in a file that ends in .csv. Other columns are not looked at.

    Raises UsageError with the line that cannot be read, or that names an image that is not there.
    """
    file = Path(file)
    lines, pairs, there = _lines(file), list[Named](), set[str]()
    rows = csv.DictReader(lines, delimiter="," if file.suffix.lower() == ".csv" else "\t")
    try:
        if not {"a", "b", "same"} <= set(rows.fieldnames or ()):
            raise UsageError(f"{file} begins with {(lines or [''])[0][:80]!r}, expected a header with a, b and same")
        for row in rows:
            a, b, same = row["a"], row["b"], (row["same"] or "").strip().lower()
            if not a or not b or same not in _SAME:
                raise UsageError(f"{file}:{rows.line_num}: expected two paths and 1 or 0, found {row}"[:400])
            paths = str(file.parent / a), str(file.parent / b)
            for path in paths:
                if path not in there and not os.path.isfile(path):
                    raise UsageError(f"{file}:{rows.line_num}: the image {path} is not there")
            there.update(paths)
            pairs.append((*paths, _SAME[same]))
    except csv.Error as error:
        raise UsageError(f"{file}:{rows.reader.line_num}: {error}") from None
    return _listed(pairs, 0, file)


def read_lfw(pairs_txt: str | Path, images_folder: str | Path) -> Pairs:
    """LFW's pairs.txt, or a list of that form: `name i j` is a pair of one person, `name1 i name2 j` of two. Image i of
    a name is images_folder/name/name_000i, as .jpg or .png.

    A first line of two numbers F and n announces F folds of n same and n different pairs, which must then be there; one
    number n announces one such part, which has no folds (pairsDevTest.txt). Without a first line, folds are what the
    order of the lines shows: F times n same, then n different. Copies exist that list the same pairs of all ten folds
    first and then all different ones: contiguous folds of these would hold one kind each, so where both kinds are
    equally many and can be divided by ten, the pairs are put in LFW's order again (a tenth of the same, a tenth of the
    different, and so on). Any other order stays, without folds.

    Raises UsageError with the line that cannot be read, or that names an image that is not there.

    Source: Huang et al., "Labeled Faces in the Wild", 2007, and its README on pairs.txt.
    """
    file, folder = Path(pairs_txt), Path(images_folder)
    words = [line.split() for line in _lines(file)]
    header = [int(word) for word in words[0]] if words and len(words[0]) < 3 and all(map(_number, words[0])) else []
    pairs = list[Named]()
    found: dict[tuple[str, str], str] = {}
    for number, line in enumerate(words, 1):
        if not line or (number == 1 and header):
            continue
        match line:
            case [name, i, j] if _number(i) and _number(j):
                sides = (name, i), (name, j)
            case [name, i, other, j] if _number(i) and _number(j):
                sides = (name, i), (other, j)
            case _:
                raise UsageError(
                    f"{file}:{number}: expected `name i j` or `name1 i name2 j`, found {' '.join(line)[:80]!r}"
                )
        for side in sides:
            if side not in found:
                found[side] = _lfw_image(folder, *side, f"{file}:{number}")
        pairs.append((found[sides[0]], found[sides[1]], len(line) == 3))
    folds, pairs = _lfw_folds(pairs, header, file) if pairs else (0, pairs)
    return _listed(pairs, folds, file)


def read_bin(file: str | Path) -> Pairs:
    """insightface's .bin of encoded images, two for each pair (`facebatch.evaluation.bin_file`). Images of equal bytes
    are one. The ten folds of its protocol are ten contiguous parts of any such file that can be divided so.

    Raises UsageError where the file cannot be opened, FacebatchError where it is none.
    """
    file = Path(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    images, same = read_bin_file(data, str(file))
    pairs = list(zip(images[::2], images[1::2], same, strict=True))
    kinds = len(set(same))
    return _listed(pairs, _LFW_FOLDS if kinds == 2 and len(same) % _LFW_FOLDS == 0 else 0, file)


def all_pairs(folder: str | Path) -> Pairs:
    """Every pair of the images below a folder that has one folder for each person: two images are of one person where
    the folders that hold them have one name. What is an image is told by its first bytes; other files are passed over.

    Raises UsageError where an image lies in the folder itself, which is no person's, or where there are not two.
    """
    top = Path(folder)
    if not top.is_dir():
        raise UsageError(f"{top} is no folder: expected one with a folder of images for each person")
    files = [file for file in sorted(top.rglob("*")) if file.is_file() and _is_image(file)]
    strays = [file for file in files if file.parent == top]
    if strays:
        raise UsageError(f"{strays[0]} lies in no person's folder: expected {top}/NAME/{strays[0].name}")
    if len(files) < 2:
        raise UsageError(f"{top} holds {len(files)} images: two make a pair")
    return _every(tuple(map(str, files)), [file.parent.name for file in files], str(top))


def all_of(pairs: Pairs) -> Pairs:
    """Every pair of the images of a list, a person being the name of the folder that holds the file, as for
    `all_pairs`. Raises UsageError where the list's own answers say that folders are not people."""
    paths = [image for image in pairs.images if isinstance(image, str)]
    if len(paths) < len(pairs.images):
        raise UsageError(f"{pairs.name} holds images without paths, so that no folder tells who they are")
    people = [Path(path).parent.name for path in paths]
    for a, b, same in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist(), strict=True):
        if (people[a] == people[b]) != same:
            kind = "one person" if same else "two people"
            raise UsageError(f"{pairs.name} has {paths[a]} and {paths[b]} as {kind}: folders do not tell who is who")
    return _every(tuple(paths), people, pairs.name)


def cross_pairs(pairs: Pairs, people: Sequence[str] | None = None) -> Pairs:
    """Every pair of the images that occur in the same pairs of a list, for lists that have no or few different pairs.

    Two images are of one person where same pairs lead from one to the other, images of equal bytes being one image, and
    where `people`, if given, names one person for the same pairs that they are in; else they are taken for two people.
    people: one name for each same pair, in the order of the list.

    Without `people` a person may come back under another pair, which cannot be known: such pairs then count as
    different, and the error rates come out too high.
    """
    a, b = pairs.first[pairs.same], pairs.second[pairs.same]
    if not len(a):
        raise UsageError(f"{pairs.name} has no same pairs whose images could be crossed")
    if people is not None and len(people) != len(a):
        raise UsageError(f"{pairs.name} has {len(a)} same pairs and {len(people)} names: expected one for each")
    used, ends = np.unique(np.stack([a, b]), return_inverse=True)
    links: list[tuple[int, int]] = list(zip(*ends.reshape(2, -1).tolist(), strict=True))
    if people is not None:
        images_of: dict[str, list[int]] = {}
        for person, (x, _) in zip(people, links, strict=True):
            images_of.setdefault(person, []).append(x)
        links += [link for images in images_of.values() for link in pairwise(images)]
    group = np.arange(len(used))
    for x, y in links:
        group[group == group[y]] = group[x]
    kept = tuple(pairs.images[k] for k in used.tolist())
    return _every(kept, group.tolist(), pairs.name)


def _every(images: tuple[str, ...] | tuple[bytes, ...], people: Sequence[object], name: str) -> Pairs:
    _, person = np.unique(np.asarray(people), return_inverse=True)
    first, second = (side.astype(np.int64, copy=False) for side in np.triu_indices(len(images), 1))
    return Pairs(images, first, second, person[first] == person[second], 0, name)


def _listed(pairs: Sequence[Named] | Sequence[tuple[bytes, bytes, bool]], folds: int, file: Path) -> Pairs:
    if not pairs:
        raise UsageError(f"{file} lists no pairs")
    ids: dict[str | bytes, int] = {}
    ends = np.array([[ids.setdefault(a, len(ids)), ids.setdefault(b, len(ids))] for a, b, _ in pairs], np.int64)
    same = np.array([answer for _, _, answer in pairs], bool)
    return Pairs(tuple(ids), ends[:, 0].copy(), ends[:, 1].copy(), same, folds, str(file))  # type: ignore[arg-type]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no text in UTF-8: {error.reason} at byte {error.start}") from None


def _lfw_image(folder: Path, name: str, number: str, where: str) -> str:
    stem = f"{name}_{int(number):04d}"
    for suffix in (".jpg", ".png"):
        file = os.path.join(folder, name, stem + suffix)
        if os.path.isfile(file):
            return file
    raise UsageError(f"{where}: the image {folder / name / stem}.jpg (or .png) is not there")


def _lfw_folds(pairs: list[Named], header: list[int], file: Path) -> tuple[int, list[Named]]:
    """The number of folds, 0 for none, and the pairs in the order of the folds."""
    runs = [(same, len(list(group))) for same, group in groupby(same for _, _, same in pairs)]
    if header:
        folds, n = header if len(header) == 2 else (1, header[0])
    else:
        folds, n = (_LFW_FOLDS, runs[0][1] // _LFW_FOLDS) if len(runs) == 2 else (len(runs) // 2, runs[0][1])
    expected = 2 * folds * n == len(pairs) > 0
    if expected and runs == [(True, folds * n), (False, folds * n)]:
        same, different = pairs[: folds * n], pairs[folds * n :]
        pairs = [pair for k in range(0, folds * n, n) for pair in (*same[k : k + n], *different[k : k + n])]
    elif not expected or runs != [(True, n), (False, n)] * folds:
        if header:
            raise UsageError(
                f"{file} announces {folds} x {n} same and as many different pairs, found "
                f"{sum(same for _, _, same in pairs)} of {len(pairs)} the same, in {len(runs)} turns"
            )
        return 0, pairs
    return folds if folds > 1 else 0, pairs


def _number(word: str) -> bool:
    return word.isdecimal() and len(word) < 10


def _is_image(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return sniff(stream.read(64)) is not None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
