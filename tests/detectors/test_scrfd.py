"""SCRFD's decode against its definition, written out cell by cell."""

from __future__ import annotations

import numpy as np

from facebatch.detectors import scrfd


def test_each_cell_has_two_candidates_measured_from_its_top_left_corner() -> None:
    width, height = 96, 64
    random = np.random.default_rng(0)
    outputs, expected = {}, []
    for level, stride in enumerate((8, 16, 32)):
        cells = (width // stride) * (height // stride) * 2
        score = outputs[f"out{level}"] = random.uniform(0, 1, (2, cells, 1)).astype(np.float32)
        reach = outputs[f"out{level + 3}"] = random.uniform(0, 4, (2, cells, 4)).astype(np.float32)
        shift = outputs[f"out{level + 6}"] = random.normal(0, 1, (2, cells, 10)).astype(np.float32)
        for k in range(cells):
            row, column = divmod(k // 2, width // stride)
            x, y = column * stride, row * stride
            if score[1, k, 0] >= np.float32(0.6):
                left, top, right, bottom = reach[1, k] * stride
                points = [[x + shift[1, k, 2 * p] * stride, y + shift[1, k, 2 * p + 1] * stride] for p in range(5)]
                expected.append((score[1, k, 0], [x - left, y - top, x + right, y + bottom], points))
    (_, found) = scrfd.decode(outputs, width, height, 0.6)
    assert found.scores.tolist() == [e[0] for e in expected]
    assert np.allclose(found.boxes, [e[1] for e in expected], atol=1e-3)
    assert found.landmarks is not None
    assert np.allclose(found.landmarks, [e[2] for e in expected], atol=1e-3)


def test_outputs_are_told_apart_by_shape_whatever_their_names_and_order() -> None:
    random = np.random.default_rng(1)
    shapes = [(n, k) for k in (10, 1, 4) for n in (32, 512, 128)]
    outputs = {str(i): random.uniform(0, 1, (1, *shape)).astype(np.float32) for i, shape in enumerate(shapes)}
    backwards = dict(reversed(list(outputs.items())))
    one, other = scrfd.decode(outputs, 128, 128, 0.5)[0], scrfd.decode(backwards, 128, 128, 0.5)[0]
    assert len(one.scores) > 100
    assert np.array_equal(one.boxes, other.boxes)
