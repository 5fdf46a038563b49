"""The pipeline on one page, without Ray: what happens to a batch of images between reading and writing.

    DecodeStage -> DetectStage -> ChipStage -> EmbedStage        one behind the other, in separate processes (split)
    FusedStage                                                   the same in one process, decoding each image once

Within the detect stage a gate may come before the detector, within the chip stage a landmark network before the chips.

A stage takes works and gives the same works, in the same order and number, whatever is in them: an image that fails
ends with its reason and passes through the rest untouched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import repeat

from facebatch import config
from facebatch.align import chip_by_box, chip_by_landmarks
from facebatch.decode import decode, probe
from facebatch.detect import Detector, Faces, Settings, timed, views
from facebatch.embed import Embedder
from facebatch.failpoints import failpoint
from facebatch.fingerprint import content_sha256, phash
from facebatch.formats import sniff
from facebatch.gate import Gate
from facebatch.geometry import Floats, Picture, Pixels
from facebatch.landmarks import Landmarker, crop
from facebatch.networks import Networks
from facebatch.packs import Model, Pack
from facebatch.quality import assess
from facebatch.reasons import Reason, Status, Undecodable
from facebatch.session import CPU, CUDA, Session
from facebatch.stopwatch import Stopwatch
from facebatch.watchdog import Asleep, Watchdog
from facebatch.work import Face, Work


@dataclass(frozen=True)
class Place:
    """Where a stage runs: its provider, its threads, and its share of the GPU's memory."""

    provider: str = "cpu"
    threads: int = 1
    gpu_share: float = 1.0
    restarted: bool = False
    """Whether the process is started again when it ends, so that a watchdog may end it."""


Stage = Callable[[list[Work]], list[Work]]


class DecodeStage:
    """Bytes to detector views. Forgets the picture, unless told to keep it for the chips."""

    def __init__(
        self, config: config.Config, detector: Pack, place: Place, keep: bool = False, gate: Pack | None = None
    ) -> None:
        self._limits, self._keep = config.decode, keep
        self._settings = Settings.of(config.detect, detector)
        self._glance = Settings.of_gate(config.gate, gate) if gate else None
        self._map = _mapper(place.threads)
        self._watchdog = _watchdog(config, place)

    def __call__(self, works: list[Work]) -> list[Work]:
        list(self._map(partial(alone, "decode", self._one), [work for work in works if work.status is None]))
        self._watchdog.rest()
        return works

    def _one(self, work: Work) -> None:
        picture = open_picture(work, self._limits, self._watchdog)
        if picture:
            work.phash = phash(picture)  # of a level that was made just now, and is in the cache still
            work.views = views(picture, self._settings)
            work.glance = views(picture, self._glance)[0] if self._glance else None
            work.picture = picture if self._keep else None


class DetectStage:
    """Views to boxes, scores and landmarks."""

    def __init__(self, config: config.Config, detector: Model, place: Place, gate: Model | None = None) -> None:
        self._gate = Gate(_session(gate, place, config), config.gate, config.detect.batch) if gate else None
        settings = Settings.of(config.detect, detector.pack)
        self._detect = Detector(_session(detector, place, config), settings, config.detect.batch)
        self._watchdog = _watchdog(config, place)

    def __call__(self, works: list[Work]) -> list[Work]:
        with self._watchdog.over(len(works)):
            if self._gate:
                self._gate(works)
            seen = [work for work in works if work.views]
            failpoint("detect")
            sizes = [(work.width or 0, work.height or 0) for work in seen]
            found, each = timed(self._detect, [work.views for work in seen], sizes)
        for work, faces in zip(seen, found, strict=True):
            work.views, work.detect_seconds = [], each
            work.faces = _faces(faces)
            work.status = Status.OK if work.faces else Status.NO_FACE
            if not work.faces:
                work.data, work.picture = None, None
        return works


class ChipStage:
    """Boxes to chips and quality, from the kept picture or a second decode of the few images that have faces.

    A landmark network always runs on the CPU here: it is a thousandth of a detector.
    """

    def __init__(self, config: config.Config, place: Place, landmarks: Model | None = None) -> None:
        self._limits, self._quality = config.decode, config.quality
        self._budget = config.run.megapixels * 1_000_000
        self._pack = landmarks.pack if landmarks else None
        self._locate = Landmarker(Session(landmarks, CPU, place.threads)) if landmarks else None
        self._map = _mapper(place.threads)
        self._watchdog = _watchdog(config, place)

    def __call__(self, works: list[Work]) -> list[Work]:
        with_faces = [work for work in works if work.faces]
        if self._locate is None:
            list(self._map(partial(alone, "chip", self._one), with_faces))
        else:
            for group in groups(with_faces, self._limits, self._budget, self._watchdog):
                list(self._map(partial(alone, "chip", self._open), group))
                with self._watchdog.over(len(group)):
                    self._mark([face for work in group for face in work.faces])
                list(self._map(partial(alone, "chip", self._one), [work for work in group if work.faces]))
        self._watchdog.rest()
        return works

    def _open(self, work: Work) -> None:
        work.picture = work.picture or open_picture(work, self._limits, self._watchdog)
        if work.picture and self._pack:
            for face in work.faces:
                face.chip = crop(work.picture, face.box, self._pack)

    def _mark(self, faces: list[Face]) -> None:
        if self._locate:
            crops = [face.chip for face in faces if face.chip is not None]
            for face, points in zip(faces, self._locate(crops, [face.box for face in faces]), strict=True):
                face.landmarks = points

    def _one(self, work: Work) -> None:
        picture = work.picture or open_picture(work, self._limits, self._watchdog)
        if picture:
            for face in work.faces:
                face.chip = _chip(picture, face)
                face.quality = assess(face.chip, face_px(face.box), face.score, face.landmarks, self._quality)
        work.picture, work.data = None, None


class EmbedStage:
    """Chips to vectors, the faces of all images pooled."""

    def __init__(self, config: config.Config, embedder: Model, place: Place) -> None:
        self._embed = Embedder(_session(embedder, place, config), config.embed.batch, config.embed.flip)
        self._watchdog = _watchdog(config, place)

    def __call__(self, works: list[Work]) -> list[Work]:
        faces = [face for work in works for face in work.faces]
        with self._watchdog.over(len(faces)):
            failpoint("embed")
            result = self._embed([face.chip for face in faces if face.chip is not None])
        for face, vector, norm in zip(faces, result.vectors, result.norms, strict=True):
            face.embedding, face.embedding_norm, face.chip = vector, float(norm), None
        return works


_CPU_GROUP = 2
"""Pictures that one thread of a CPU decodes before the detector sees them. Few stay in its cache and in memory that the
last ones left; two spare the detector's own weights from leaving it. All stages beside the same bare calls in the same
run, two processes on two cores of an AMD EPYC virtual machine, camera photos of 2.5 megapixels, the built-in pair,
2026-11-22: with 1 picture 1.04, 2 0.97, 4 1.00. With 32, one process: 1.10, and 1.29 where memory is given back."""


class FusedStage:
    """All four in one process. Pictures are kept from decode to chips, a few at a time, so that memory is bounded.

    Beside a GPU the next pictures are decoded while it works on the last ones: cores that wait for it, and it for them,
    would do half of what both can.
    """

    def __init__(
        self, config: config.Config, networks: Networks, place: Place, stopwatch: Stopwatch | None = None
    ) -> None:
        gate, watch = networks.gate, stopwatch or Stopwatch()
        self._ahead = place.provider == CUDA
        self._limits, self._budget = config.decode, config.run.megapixels * 1_000_000 // (2 if self._ahead else 1)
        self._most = _CPU_GROUP * place.threads if place.provider == CPU and config.detect.batch <= _CPU_GROUP else None
        self._decode = watch.around(
            "decode", DecodeStage(config, networks.detector.pack, place, keep=True, gate=gate.pack if gate else None)
        )
        self._with_pictures: list[Stage] = [
            watch.around("detect", DetectStage(config, networks.detector, place, gate)),
            watch.around("chip", ChipStage(config, place, networks.landmarks)),
        ]
        self._embed = watch.around("embed", EmbedStage(config, networks.embedder, place))
        self._watchdog = _watchdog(config, place)

    def __call__(self, works: list[Work]) -> list[Work]:
        waiting = groups(works, self._limits, self._budget, self._watchdog, self._most)
        decoded = ahead(self._decode, waiting, self._is_heavy) if self._ahead else map(self._decode, waiting)
        for group in decoded:
            for stage in self._with_pictures:
                group = stage(group)
        return self._embed(works)

    def _is_heavy(self, group: list[Work]) -> bool:
        """Whether its picture is more than what one of two groups may hold; `groups` has read the headers."""
        return sum(work.header.decoded_pixels(self._limits) for work in group if work.header) > self._budget


def ahead(stage: Stage, stream: Iterable[list[Work]], alone: Callable[[list[Work]], bool]) -> Iterator[list[Work]]:
    """What a stage makes of a stream, in order; the next is made while the last one is worked on. alone: of what must
    not be held beside anything else."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming: Future[list[Work]] | None = None
        for works in stream:
            if alone(works):
                if coming:
                    yield coming.result()
                    coming = None
                yield stage(works)
                continue
            coming, ready = pool.submit(stage, works), coming
            if ready:
                yield ready.result()
        if coming:
            yield coming.result()


def groups(
    works: list[Work], limits: config.Decode, budget: int, watchdog: Watchdog, most: int | None = None
) -> Iterator[list[Work]]:
    """Runs of works whose decoded pictures stay within a budget of pixels, a larger picture alone; of `most` works at
    most."""
    group: list[Work] = []
    spent = 0
    for work in works:
        watchdog.image()
        pixels = _weight(work, limits)
        watchdog.rest()
        if group and (spent + pixels > budget or len(group) == most):
            yield group
            group, spent = [], 0
        group.append(work)
        spent += pixels
    if group:
        yield group


def _weight(work: Work, limits: config.Decode) -> int:
    """The pixels that decoding will hold; of a work at which even that fails, those of a header that was not read. The
    header is kept for the decode."""
    if work.picture or work.data is None:  # decoded already, within a budget; or nothing to decode
        return 0
    try:
        work.header = probe(work.data, limits)
    except Undecodable:
        return 0
    except Exception:  # noqa: BLE001 - the decode meets the same, where it costs the work's own row
        return limits.max_pixels
    return work.header.decoded_pixels(limits)


def open_picture(work: Work, limits: config.Decode, watchdog: Watchdog | None = None) -> Picture | None:
    """The decoded picture, with what its header tells noted in the work; None, and the work ended, where it fails."""
    data = work.data or b""
    watchdog = watchdog or Asleep()
    watchdog.image()
    failpoint(f"decode {(work.member or work.uri).rpartition('/')[2]}")
    work.content_sha256 = work.content_sha256 or content_sha256(data)  # first: it has the decoder's bytes in the cache
    try:
        header, work.header = work.header or probe(data, limits), None
        work.format, work.width, work.height = header.format, header.width, header.height
        work.orientation, work.captured_at = header.exif.orientation, header.exif.captured_at
        work.camera, work.frames = header.exif.camera, header.frames
        watchdog.image(header.width * header.height)
        picture = decode(data, header, limits)
        work.width, work.height = picture.width, picture.height
        work.detail = "; ".join(filter(None, (header.exif.trouble, picture.remark))) or None
        return picture
    except Undecodable as error:
        work.format = work.format or sniff(data)
        work.end(error.reason, error.detail)
    return None


def alone(part: str, stage: Callable[[Work], None], work: Work) -> None:
    """One image in a stage: what goes wrong with it costs its own row and not the run, and what it takes is noted.

    Bad files are known by their reasons; what arrives here is memory that ran out, or a mistake of ours.
    """
    started = time.perf_counter()
    try:
        stage(work)
    except MemoryError:
        work.end(Reason.OUT_OF_MEMORY, f"a {work.format} of {work.width}x{work.height} pixels")
    except Exception as error:  # noqa: BLE001 - the row keeps it, and exit code 1 shows it
        work.end(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"[:300])
    work.took[part] = work.took.get(part, 0.0) + time.perf_counter() - started


def face_px(box: Floats) -> float:
    """The shorter side of a box in pixels."""
    return float(min(box[2] - box[0], box[3] - box[1]))


def _chip(picture: Picture, face: Face) -> Pixels:
    if face.landmarks is None:
        return chip_by_box(picture, face.box)
    return chip_by_landmarks(picture, face.landmarks)


def _faces(found: Faces) -> list[Face]:
    points: Iterable[Floats | None] = repeat(None) if found.landmarks is None else found.landmarks
    return [
        Face(box, float(score), spots) for box, score, spots in zip(found.boxes, found.scores, points, strict=False)
    ]


def _session(model: Model, place: Place, config: config.Config) -> Session:
    return Session(model, place.provider, place.threads, place.gpu_share, config.run.io_binding)


def _watchdog(config: config.Config, place: Place) -> Watchdog:
    return Watchdog(config.run.image_seconds) if place.restarted else Asleep()


def _mapper(threads: int) -> Callable[..., Iterator[None]]:
    """`map`, on several threads where a stage has several: decoders release the GIL."""
    return map if threads == 1 else ThreadPoolExecutor(threads, thread_name_prefix="stage").map
