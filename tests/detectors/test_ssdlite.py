"""SSDLite's decode against TensorFlow's definition, written out anchor by anchor."""

from __future__ import annotations

import numpy as np

from facebatch.detectors import ssdlite


def test_anchors_have_the_sizes_that_the_card_lists() -> None:
    pixels: np.ndarray = ssdlite.boxes()[:, 2:][:, ::-1] * 300  # width, height
    assert len(pixels) == 1917
    first: list[list[float]] = [[30, 30], [84.85, 42.43], [42.43, 84.85]]
    assert np.allclose(pixels[:3], first, atol=0.01)
    second: list[list[float]] = [
        [105, 105],
        [148.49, 74.25],
        [74.25, 148.49],
        [181.87, 60.62],
        [60.62, 181.87],
        [125.50, 125.50],
    ]
    assert np.allclose(pixels[1083:1089], second, atol=0.01)


def test_people_are_decoded_as_tensorflow_does() -> None:
    random = np.random.default_rng(0)
    codes = random.normal(0, 1, (2, 1917, 4)).astype(np.float32)
    scores = random.uniform(0, 1, (2, 1917, 91)).astype(np.float32)
    width, height = 300, 200
    expected, kept, number = [], [], 0
    for level, cells in enumerate((19, 10, 5, 3, 2, 1)):
        scale, following = 0.2 + 0.15 * level, 1.0 if level == 5 else 0.35 + 0.15 * level
        shapes = [(scale, r) for r in (1, 2, 0.5, 3, 0.3333)] + [((scale * following) ** 0.5, 1)]
        shapes = [(0.1, 1), (scale, 2), (scale, 0.5)] if level == 0 else shapes
        for row in range(cells):
            for column in range(cells):
                for size, ratio in shapes:
                    if scores[1, number, 1] >= np.float32(0.8):
                        ty, tx, th, tw = codes[1, number]
                        h, w = size / ratio**0.5, size * ratio**0.5
                        y, x = ty / 10 * h + (row + 0.5) / cells, tx / 10 * w + (column + 0.5) / cells
                        h, w = h * np.exp(th / 5), w * np.exp(tw / 5)
                        box = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
                        expected.append(box)
                        kept.append(scores[1, number, 1])
                    number += 1
    assert number == 1917
    (_, found) = ssdlite.decode({"boxes": codes, "scores": scores}, width, height, 0.8)
    assert found.scores.tolist() == kept
    assert np.allclose(found.boxes, expected, atol=1e-2)
    assert found.landmarks is None
