"""What landmarks are worth: one embedder behind each detector, with chips cut out by boxes and by landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facebatch import packs
from facebatch.config import Config
from facebatch.evaluation.embedding import Align, Tell, embed
from facebatch.evaluation.figures import Judged
from facebatch.evaluation.pairs import all_pairs
from facebatch.evaluation.scores import verification
from facebatch.networks import Networks

LANDMARKS = ("landmarks-regression-retail-0009", "onet")
BOX, OWN = "box", "own"


@dataclass(frozen=True, slots=True)
class Aligned:
    """A detector with one way of alignment: `box`, a landmark network's name, or `own`. `found`: images of `images` in
    which it found a face; `same`, `different`: pairs of these; `tar`: at FAR 1e-3 over these pairs, nan where they are
    too few; `eer` likewise."""

    detector: str
    alignment: str
    found: int
    images: int
    same: int
    different: int
    tar: float
    eer: float


def landmark_table(
    people: str | Path,
    config: Config,
    detectors: Sequence[str],
    embedder: str,
    tell: Tell = lambda _: None,
    pad: float = 0.5,
) -> list[Aligned]:
    """The TAR at FAR 1e-3 over all pairs of a folder of people, for each detector and each way of alignment: by box, by
    both landmark networks, and by the detector's own landmarks where it gives some.

    Pairs are those whose two images have a face for that detector, so that its rows compare alignments; what it misses
    is told by `found`. pad: as for `embed`; the default is for crops in which the face fills the frame.

    Raises UsageError for images, packs or weights that are not there.
    """
    pairs = all_pairs(people)
    vectors = packs.load(embedder, "embedder", config.embed.weights)
    networks = {name: packs.load(name, "landmarks") for name in LANDMARKS}
    rows = []
    for name in detectors:
        detector = packs.load(name, "detector")
        own = replace(config, detect=replace(config.detect, pack=name, weights=None))
        plain, ways = Networks(detector, vectors), dict[str, tuple[Networks, Align]]()
        ways[BOX] = plain, "box"
        ways |= {way: (replace(plain, landmarks=model), "landmarks") for way, model in networks.items()}
        if detector.pack.landmarks:
            ways[OWN] = plain, "landmarks"
        for way, (used, align) in ways.items():
            found = embed(pairs.images, own, used, "photos", pad, tell, align)
            figures = verification(*Judged.of(pairs, found, config.embed.flip).counted("leave out"))
            n = sum(one is not None for one in found)
            of_pairs = figures.n_same, figures.n_different
            rows.append(Aligned(name, way, n, len(found), *of_pairs, figures.tar(1e-3).tar, figures.eer))
    return rows
