"""The gate: images in which nobody is seen are spared the detector, and say so."""

from __future__ import annotations

import numpy as np
import pytest

from facebatch import config
from facebatch.geometry import View
from facebatch.networks import Networks
from facebatch.packs import Model
from facebatch.reasons import Reason, Status
from facebatch.session import Session
from facebatch.stages import ChipStage, DecodeStage, DetectStage, EmbedStage, FusedStage, Place
from facebatch.work import Work, packed, unpacked
from tests import models
from tests.conftest import encode

CONFIG = config.load(None, ["detect.score=0.9", "gate.model=some", "gate.score=0.5"])
PEOPLE, FACES = models.bright_squares(finds="people"), models.bright_squares()
DETECTOR, EMBEDDER = models.bright_squares(), models.embedder()


def _works(*brightness: int) -> list[Work]:
    """Pictures with one square each: seen by the gate from 128 on, by the detector from 230 on."""
    works = []
    for index, level in enumerate(brightness):
        pixels = np.zeros((240, 320, 3), np.uint8)
        pixels[80:160, 80:160] = level
        data = encode(pixels)
        works.append(Work("shard", index, f"{index}.png", "", len(data), data=data))
    return works


def _fused(works: list[Work], gate: Model | None) -> list[Work]:
    return FusedStage(CONFIG, Networks(DETECTOR, EMBEDDER, gate=gate), Place())(works)


def _split(works: list[Work], gate: Model | None) -> list[Work]:
    for stage in (
        DecodeStage(CONFIG, DETECTOR.pack, Place(), gate=gate.pack if gate else None),
        DetectStage(CONFIG, DETECTOR, Place(), gate),
        ChipStage(CONFIG, Place()),
        EmbedStage(CONFIG, EMBEDDER, Place()),
    ):
        works = unpacked(packed(stage(works)))
    return works


@pytest.mark.parametrize("run", [_fused, _split])
def test_an_image_without_a_person_is_no_face_for_that_reason(run: object) -> None:
    works = run(_works(255, 0, 180, 60), PEOPLE)  # type: ignore[operator]
    assert [(w.status, w.reason, w.n_persons, len(w.faces)) for w in works] == [
        (Status.OK, None, 1, 1),
        (Status.NO_FACE, Reason.GATED, 0, 0),
        (Status.NO_FACE, None, 1, 0),
        (Status.NO_FACE, Reason.GATED, 0, 0),
    ]
    assert works[1].detail == "test has seen nothing that scores 0.5 or more (gate.score)"
    assert all(w.content_sha256 and w.phash is not None and w.width == 320 for w in works), (
        "it was decoded all the same"
    )
    assert all(w.glance is None and w.views == [] and w.data is None for w in works)


def test_the_detector_never_sees_what_the_gate_has_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    run = Session.run

    def counted(session: Session, images: list[np.ndarray]) -> object:
        if session.model is DETECTOR:
            seen.append(len(images))
        return run(session, images)

    monkeypatch.setattr(Session, "run", counted)
    _fused(_works(255, 0, 0, 180, 0), PEOPLE)
    assert sum(seen) == 2


def test_persons_are_counted_by_what_finds_people_only() -> None:
    assert [w.n_persons for w in _fused(_works(255, 0), FACES)] == [None, None]
    assert [w.reason for w in _fused(_works(255, 0), FACES)] == [None, Reason.GATED]
    assert [w.n_persons for w in _fused(_works(255, 0), None)] == [None, None]
    assert [w.reason for w in _fused(_works(255, 0), None)] == [None, None]


def test_what_gate_and_detector_took_is_known_of_each_image_that_they_saw() -> None:
    there, gone = _fused(_works(255, 0), PEOPLE)
    assert (there.glance_seconds or 0) > 0
    assert (there.detect_seconds or 0) > 0
    assert (gone.glance_seconds or 0) > 0
    assert gone.detect_seconds is None
    (alone,) = _fused(_works(255), None)
    assert alone.glance_seconds is None
    assert (alone.detect_seconds or 0) > 0


def test_what_cannot_be_decoded_is_no_affair_of_the_gate() -> None:
    works = [Work("shard", 0, "a", "", 3, data=b"bad"), *_works(0)]
    assert [w.reason for w in _fused(works, PEOPLE)] == [Reason.NOT_AN_IMAGE, Reason.GATED]
    assert _fused([], PEOPLE) == []


def test_what_the_gate_is_shown_travels_between_processes() -> None:
    (work,) = DecodeStage(CONFIG, DETECTOR.pack, Place(), gate=PEOPLE.pack)(_works(255))
    assert isinstance(work.glance, View)
    (again,) = unpacked(packed([work]))
    assert again.glance is not None
    assert np.array_equal(again.glance.pixels, work.glance.pixels)
