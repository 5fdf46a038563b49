"""The stages: the same works in the same order, whatever is in them, in one process or in four."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facebatch import config, decode, networks, stages
from facebatch.align import TEMPLATE
from facebatch.binding import Binding
from facebatch.decode import Header
from facebatch.networks import Networks
from facebatch.packs import Model
from facebatch.reasons import Reason, Status
from facebatch.stages import ChipStage, DecodeStage, DetectStage, EmbedStage, FusedStage, Place, ahead, groups
from facebatch.watchdog import Asleep
from facebatch.work import Face, Work, packed, unpacked
from tests import models
from tests.conftest import encode
from tests.test_work import same

CONFIG = config.load(None, ["detect.score=0.6"])
DETECTOR, EMBEDDER = models.bright_squares(), models.embedder()
NETWORKS = Networks(DETECTOR, EMBEDDER)


def _work(index: int, data: bytes | None) -> Work:
    return Work("shard", index, f"{index}.png", "", len(data or b""), data=data)


def _square(brightness: int = 255) -> bytes:
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[80:160, 80:160] = brightness
    return encode(pixels)


def _works() -> list[Work]:
    works = [_work(0, _square()), _work(1, _square(0)), _work(2, b"no image"), _work(3, b""), _work(4, _square(230))]
    ended = _work(5, None)
    ended.end(Reason.NOT_FOUND, "gone")
    return [*works, ended]


def _split(works: list[Work], settings: config.Config = CONFIG, landmarks: Model | None = None) -> list[Work]:
    stages = [
        DecodeStage(settings, DETECTOR.pack, Place()),
        DetectStage(settings, DETECTOR, Place()),
        ChipStage(settings, Place(), landmarks),
        EmbedStage(settings, EMBEDDER, Place()),
    ]
    for stage in stages:
        works = unpacked(packed(stage(works)))  # type: ignore[operator]
    return works


def _alike(one: Work, other: Work) -> bool:
    """Whether all that is known of them is the same, but for what it took."""
    return same(*(replace(work, took={}, glance_seconds=None, detect_seconds=None) for work in (one, other)))


def _fused(works: list[Work], settings: config.Config = CONFIG, landmarks: Model | None = None) -> list[Work]:
    return FusedStage(settings, Networks(DETECTOR, EMBEDDER, landmarks), Place())(works)


@pytest.mark.usefixtures("gpu_path")
@pytest.mark.parametrize("landmarks", [None, models.landmarks()])
def test_on_a_gpu_the_same_is_found_by_the_way_that_leads_to_it(landmarks: Model | None) -> None:
    found = FusedStage(CONFIG, Networks(DETECTOR, EMBEDDER, landmarks), Place("cuda"))(_works())
    assert [work.status for work in found].count(Status.OK) == 2
    assert all(_alike(one, other) for one, other in zip(found, _fused(_works(), landmarks=landmarks), strict=True))


@pytest.mark.usefixtures("gpu_path")
def test_and_the_same_where_networks_are_bound_to_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[tuple[int, ...]] = []
    real = Binding.__call__

    def counted(binding: Binding, feed: np.ndarray) -> list[np.ndarray]:
        fed.append(feed.shape)
        return real(binding, feed)

    monkeypatch.setattr(Binding, "__call__", counted)
    bound = replace(CONFIG, run=replace(CONFIG.run, io_binding=True))
    found = FusedStage(bound, Networks(DETECTOR, EMBEDDER, models.landmarks()), Place("cuda"))(_works())
    expected = _fused(_works(), landmarks=models.landmarks())
    assert all(_alike(one, other) for one, other in zip(found, expected, strict=True))
    assert {shape[1:] for shape in fed} == {(48, 64, 3), (112, 112, 3)}, "detector and embedder; landmarks are a CPU's"


@pytest.mark.parametrize("run", [_split, _fused])
def test_what_each_image_took_alone_is_known_of_all_that_had_bytes(
    run: Callable[[list[Work]], list[Work]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of those that could not be decoded; and a second decode for the chips counts as theirs."""
    real = stages.open_picture

    def slowly(work: Work, *words: Any) -> object:
        time.sleep(0.05 * work.index)
        return real(work, *words)

    monkeypatch.setattr(stages, "open_picture", slowly)
    *tried, ended = (work.took for work in run(_works()))
    assert ended == {}
    for index, took in enumerate(tried):
        assert 0.05 * index <= took["decode"] < 0.05 * index + 1
        assert ("chip" in took) == (index in (0, 4)), "those that have faces"
    assert (tried[4]["chip"] > 0.2) == (run is _split)


@pytest.mark.parametrize("run", [_split, _fused])
def test_every_work_comes_out_once_with_its_outcome(run: Callable[[list[Work]], list[Work]]) -> None:
    works = run(_works())
    assert [w.index for w in works] == list(range(6))
    assert [(w.status, w.reason) for w in works] == [
        (Status.OK, None),
        (Status.NO_FACE, None),
        (Status.SKIPPED, Reason.NOT_AN_IMAGE),
        (Status.FAILED, Reason.EMPTY),
        (Status.OK, None),
        (Status.FAILED, Reason.NOT_FOUND),
    ]
    first = works[0].faces[0]
    assert first.box.tolist() == [80, 80, 160, 160]
    assert first.embedding is not None
    assert np.linalg.norm(first.embedding) == pytest.approx(1, abs=1e-5)
    assert first.quality is not None
    assert (works[0].width, works[0].height, works[0].format) == (320, 240, "PNG")
    assert works[0].content_sha256 != works[4].content_sha256
    assert works[2].content_sha256, "what was read has a fingerprint, whatever it is"


def test_no_bytes_or_pixels_are_left_at_the_end() -> None:
    for work in (*_split(_works()), *_fused(_works())):
        assert (work.data, work.picture, work.views) == (None, None, [])
        assert all(face.chip is None for face in work.faces)


def test_split_and_fused_agree_to_the_last_bit() -> None:
    for one, other in zip(_split(_works()), _fused(_works()), strict=True):
        assert _alike(one, other)


@pytest.mark.parametrize("words", [["run.megapixels=1"], ["run.megapixels=1000"], ["detect.batch=3", "embed.batch=1"]])
def test_memory_and_batch_settings_do_not_change_results(words: list[str]) -> None:
    settings = config.load(None, ["detect.score=0.6", *words])
    for one, other in zip(_fused(_works() * 3, settings), _fused(_works() * 3), strict=True):
        assert [f.box.tolist() for f in one.faces] == [f.box.tolist() for f in other.faces]
        for a, b in zip(one.faces, other.faces, strict=True):
            assert a.embedding is not None
            assert b.embedding is not None
            assert np.abs(a.embedding - b.embedding).max() < 1e-6


def test_pictures_are_held_within_the_budget() -> None:
    big = encode(np.zeros((600, 1000, 3), np.uint8))
    huge = encode(np.zeros((2000, 1000, 3), np.uint8))
    works = [_work(i, data) for i, data in enumerate([big, big, huge, b"bad", big])]
    assert [[w.index for w in group] for group in groups(works, CONFIG.decode, 1_000_000, Asleep())] == [
        [0],
        [1],
        [2],
        [3, 4],
    ]


def test_several_threads_give_the_same() -> None:
    many, again = ([work for _ in range(5) for work in _works()] for _ in range(2))
    threaded = FusedStage(CONFIG, NETWORKS, Place(threads=4))(many)
    for one, other in zip(threaded, _fused(again), strict=True):
        assert _alike(one, other)


def test_landmarks_of_a_network_are_those_of_its_own_boxes_in_one_process_and_in_four() -> None:
    marks = models.landmarks()
    one, other = _fused(_works(), CONFIG, marks), _split(_works(), CONFIG, marks)
    for a, b in zip(one, other, strict=True):
        assert _alike(a, b)
    bright, _, _, _, dimmer, _ = one
    for work, level in ((bright, 255), (dimmer, 230)):
        (face,) = work.faces
        x_min, y_min, x_max, y_max = face.box
        shares = TEMPLATE / 112 + 0.1 * level / 255
        assert face.landmarks is not None
        assert np.allclose(face.landmarks, shares * [x_max - x_min, y_max - y_min] + [x_min, y_min], atol=0.01)
        assert face.quality is not None
        assert face.quality.pose is not None
    without = _fused(_works())
    assert without[0].faces[0].landmarks is None
    before, now = without[0].faces[0].embedding, bright.faces[0].embedding
    assert before is not None
    assert now is not None
    assert not np.array_equal(before, now), "the chip is another one"


def test_landmarks_are_found_group_by_group_where_pictures_have_to_be_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A megapixel at once: of three pictures that are 0.6 each, two are never open together."""
    pixels = np.zeros((600, 1000, 3), np.uint8)
    pixels[:400, :250] = 255
    settings = config.load(None, ["detect.score=0.6", "run.megapixels=1"])
    works = [_work(k, encode(pixels)) for k in range(3)]
    works = DetectStage(settings, DETECTOR, Place())(DecodeStage(settings, DETECTOR.pack, Place())(works))
    assert [len(work.faces) for work in works] == [2, 2, 2]
    together = []
    mark = ChipStage._mark

    def noted(stage: ChipStage, faces: list[Face]) -> None:
        together.append(sum(work.picture is not None for work in works))
        mark(stage, faces)

    monkeypatch.setattr(ChipStage, "_mark", noted)
    ChipStage(settings, Place(), models.landmarks())(works)
    assert together == [1, 1, 1]
    assert all(face.landmarks is not None and face.chip is not None for work in works for face in work.faces)
    assert [work.picture for work in works] == [None] * 3


@pytest.mark.parametrize("name", ["crop", "chip_by_landmarks"])
def test_a_mistake_of_ours_at_one_faces_landmarks_costs_its_own_row(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    function, calls = getattr(stages, name), []

    def once(*given: object) -> object:
        calls.append(given)
        if len(calls) == 1:
            raise ZeroDivisionError("oh")
        return function(*given)

    monkeypatch.setattr(stages, name, once)
    first, *_, last, _ = _fused(_works(), CONFIG, models.landmarks())
    assert (first.reason, first.detail) == (Reason.INTERNAL_ERROR, "ZeroDivisionError: oh")
    assert last.status == Status.OK
    assert last.faces[0].embedding is not None


def test_memory_that_runs_out_is_a_row_to_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from facebatch import stages

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(stages, "decode", out_of_memory)
    (work,) = _fused([_work(0, _square())])
    assert work.reason is Reason.OUT_OF_MEMORY
    assert work.reason.retryable
    assert work.detail == "a PNG of 320x240 pixels"


def test_frames_and_what_was_ignored_are_noted() -> None:
    file = io.BytesIO()
    square = Image.open(io.BytesIO(_square()))
    square.save(file, "PNG", save_all=True, append_images=[Image.new("RGB", square.size)], icc_profile=b"damaged")
    for run in (_split, _fused):
        (work,) = run([_work(0, file.getvalue())])
        assert (work.status, work.frames) == (Status.OK, 2)
        assert work.detail is not None
        assert work.detail.startswith("colour profile ignored: ")


@pytest.mark.parametrize("name", ["views", "phash", "chip_by_box", "assess"])
def test_a_mistake_of_ours_costs_the_row_and_says_so(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from facebatch import stages

    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(stages, name, broken)
    (work,) = _fused([_work(0, _square())])
    assert (work.reason, work.detail) == (Reason.INTERNAL_ERROR, "ZeroDivisionError: oh")
    assert work.reason is not None
    assert work.reason.retryable
    assert (work.faces, work.data, work.picture) == ([], None, None)


@pytest.mark.needs_models
@pytest.mark.parametrize(
    ("detector", "landmarks", "embedder"),
    [
        ("yunet-n", "auto", "edgeface-xs"),
        ("yunet-n", "onet", "edgeface-xs"),
        ("slim-320", "auto", "w600k-mbf"),
        ("slim-320", "none", "w600k-mbf"),
        ("slim-320", "onet", "edgeface-xxs"),
    ],
)
def test_the_published_models_find_and_tell_apart_two_persons(
    detector: str, landmarks: str, embedder: str, astronaut: bytes, hopper: bytes
) -> None:
    words = [f"detect.pack={detector}", f"embed.pack={embedder}", f"landmarks={landmarks}"]
    settings = config.load(None, words)
    stage = FusedStage(settings, networks.load(settings), Place())
    works = stage([_work(0, astronaut), _work(1, hopper), _work(2, astronaut)])
    faces = [work.faces for work in works]
    assert list(map(len, faces)) == [1, 1, 1]
    a, b, c = (f[0].embedding for f in faces)
    assert a is not None
    assert b is not None
    assert c is not None
    assert float(a @ c) > 0.99999
    assert float(a @ b) < 0.3
    assert (faces[0][0].landmarks is None) == (landmarks == "none")


@pytest.mark.parametrize("error", [MemoryError(), ImportError("libheif.so")])
def test_a_header_at_which_reading_fails_costs_its_own_row(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read once to weigh the work, before any stage looks after its images."""
    real = decode.probe

    def fails(data: bytes, limits: config.Decode) -> Header:
        if data == works[1].data:
            raise error
        return real(data, limits)

    works = _works()
    monkeypatch.setattr(stages, "probe", fails)
    monkeypatch.setattr(decode, "probe", fails)
    done = _fused(works)
    assert (done[0].status, done[4].status) == (Status.OK, Status.OK)
    assert done[1].reason in (Reason.OUT_OF_MEMORY, Reason.INTERNAL_ERROR)


def test_the_next_pictures_are_decoded_while_the_last_ones_are_worked_on() -> None:
    """Each waits for the other here: one behind the other they would wait for ever."""
    streams, begun = [[_work(k, None)] for k in range(3)], [threading.Event() for _ in range(3)]

    def noted(works: list[Work]) -> list[Work]:
        begun[works[0].index].set()
        return works

    indices = []
    for (work,) in ahead(noted, iter(streams), lambda _: False):
        assert begun[min(work.index + 1, 2)].wait(10)
        indices.append(work.index)
    assert indices == [0, 1, 2]


def test_no_more_than_one_group_is_ahead() -> None:
    given: list[int] = []

    def stream() -> Iterator[list[Work]]:
        for k in range(5):
            given.append(k)
            yield [_work(k, None)]

    for (work,) in ahead(lambda works: works, stream(), lambda _: False):
        assert given[-1] <= work.index + 1


def test_a_picture_that_fills_the_memory_is_held_alone() -> None:
    held: set[int] = set()

    def decoded(works: list[Work]) -> list[Work]:
        held.add(works[0].index)
        assert len(held) == 1 or not held & {2, 3}, "beside 2 and 3 there is no room"
        return works

    done = []
    for (work,) in ahead(decoded, [[_work(k, None)] for k in range(6)], lambda works: works[0].index in (2, 3)):
        assert work.index in held
        held.discard(work.index)
        done.append(work.index)
    assert done == list(range(6))


def test_what_is_heavy_is_told_by_the_headers() -> None:
    stage = FusedStage(replace(CONFIG, run=replace(CONFIG.run, megapixels=1)), NETWORKS, Place())
    stage._budget = 320 * 240 - 1
    (group,) = groups([_work(0, _square())], CONFIG.decode, stage._budget, Asleep())
    assert stage._is_heavy(group)
    stage._budget += 1
    assert not stage._is_heavy(group)


def test_what_goes_wrong_ahead_is_told() -> None:
    def broken(works: list[Work]) -> list[Work]:
        raise MemoryError("ahead")

    with pytest.raises(MemoryError, match="ahead"):
        list(ahead(broken, [[_work(0, None)]], lambda _: False))


def test_decoding_ahead_changes_nothing_but_the_time() -> None:
    beside = FusedStage(replace(CONFIG, run=replace(CONFIG.run, megapixels=1)), NETWORKS, Place(threads=2))
    beside._ahead, beside._most = True, 1
    assert all(map(_alike, beside(_works() * 3), _fused(_works() * 3)))
