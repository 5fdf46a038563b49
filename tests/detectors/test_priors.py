"""Decoding of priors against the published formulas, written out prior by prior."""

from __future__ import annotations

import numpy as np
import pytest

from facebatch.detectors.priors import decode, priors
from facebatch.errors import UsageError
from facebatch.packs import Anchors, pack


def _of(name: str) -> Anchors:
    anchors = pack(name, "detector").anchors
    assert anchors
    return anchors


EXTD, RETINA, ULTRA = _of("extd-32"), _of("retinaface-mobilenet0.25"), _of("slim-640")


def _written_out(anchors: Anchors, width: int, height: int) -> list[list[float]]:
    found = []
    for step, sizes in zip(anchors.steps, anchors.sizes, strict=True):
        columns, rows = int(np.ceil(width / step)), int(np.ceil(height / step))
        for i in range(rows):
            for j in range(columns):
                for size in sizes:
                    if anchors.grid == "pixels":
                        cx, cy = (j + 0.5) * step / width, (i + 0.5) * step / height
                    else:
                        cx, cy = (j + 0.5) / columns, (i + 0.5) / rows
                    share = [cx, cy, size / width, size / height]
                    share = [min(max(s, 0), 1) for s in share] if anchors.clip else share
                    found.append([share[0] * width, share[1] * height, share[2] * width, share[3] * height])
    return found


@pytest.mark.parametrize(
    ("anchors", "width", "height", "count"),
    [(EXTD, 640, 640, 34_125), (RETINA, 640, 640, 16_800), (ULTRA, 640, 480, 17_640), (ULTRA, 320, 240, 4_420)],
)
def test_there_are_as_many_as_published(anchors: Anchors, width: int, height: int, count: int) -> None:
    assert priors(anchors, width, height).shape == (count, 4)


@pytest.mark.parametrize(("width", "height"), [(256, 256), (640, 480), (321, 200)])
@pytest.mark.parametrize("anchors", [EXTD, RETINA, ULTRA], ids=["extd", "retinaface", "ultra"])
def test_they_lie_where_the_definition_puts_them(anchors: Anchors, width: int, height: int) -> None:
    assert np.allclose(priors(anchors, width, height), _written_out(anchors, width, height), atol=1e-3)


@pytest.mark.parametrize("anchors", [EXTD, RETINA], ids=["boxes", "landmarks"])
def test_boxes_and_landmarks_are_shifts_of_their_prior(anchors: Anchors) -> None:
    width, height = 160, 96
    prior = _written_out(anchors, width, height)
    random = np.random.default_rng(0)
    outputs = {
        "loc": random.normal(0, 1, (2, len(prior), 4)).astype(np.float32),
        "conf": random.uniform(0, 1, (2, len(prior), 2)).astype(np.float32),
    }
    if anchors is RETINA:
        outputs["landms"] = random.normal(0, 1, (2, len(prior), 10)).astype(np.float32)
    found = decode(outputs, width, height, 0.9, anchors)
    for i in range(2):
        kept = [k for k in range(len(prior)) if outputs["conf"][i, k, 1] >= np.float32(0.9)]
        assert len(kept) > 10
        boxes, points = [], []
        for k in kept:
            cx, cy, w, h = prior[k]
            dx, dy, dw, dh = outputs["loc"][i, k]
            x, y = cx + dx * 0.1 * w, cy + dy * 0.1 * h
            w2, h2 = w * np.exp(dw * 0.2), h * np.exp(dh * 0.2)
            boxes.append([x - w2 / 2, y - h2 / 2, x + w2 / 2, y + h2 / 2])
            if "landms" in outputs:
                shifts = outputs["landms"][i, k]
                points.append([[cx + shifts[2 * p] * 0.1 * w, cy + shifts[2 * p + 1] * 0.1 * h] for p in range(5)])
        assert np.allclose(found[i].boxes, boxes, atol=1e-2)
        assert found[i].scores.tolist() == outputs["conf"][i, kept, 1].tolist()
        landmarks = found[i].landmarks
        assert (landmarks is None) == (anchors is EXTD)
        if landmarks is not None:
            assert np.allclose(landmarks, points, atol=1e-2)


def test_a_pack_without_anchors_is_told_so() -> None:
    with pytest.raises(UsageError, match="needs `anchors`"):
        decode({}, 64, 64, 0.5, None)
