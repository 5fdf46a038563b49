"""Plots: that they are pictures of what they are given, with every name in its place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from facebatch.errors import UsageError
from facebatch.evaluation import plots

NAMES = [f"model-{k}" for k in range(16)]
CURVE = (np.array([0.001, 0.01, 0.1, 1.0]), np.array([0.4, 0.7, 0.9, 1.0]))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved."""
    figures: list[Any] = []
    save = plots._save

    def keep(figure: Any, file: Path) -> None:
        figures.append(figure)
        save(figure, file)

    monkeypatch.setattr(plots, "_save", keep)
    return figures


def _boxes(figure: Any) -> dict[str, np.ndarray]:
    """Where each name stands, without the line to it: x, y, x, y in pixels."""
    (axes,) = figure.axes
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    for text in axes.texts:
        text.update_positions(renderer)  # they were last drawn on a page cut to what is on it
    return {text.get_text(): np.array(Text.get_window_extent(text).extents) for text in axes.texts}


def _overlap(boxes: list[np.ndarray]) -> float:
    pairs = [(a, b) for k, a in enumerate(boxes) for b in boxes[:k]]
    return sum(float(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()) for a, b in pairs)


ALL: list[tuple[Callable[..., None], Any]] = [
    (plots.precision_recall, {"slim-320": (*CURVE, 0.5)}),
    (plots.roc, {"slim-320": CURVE}),
    (plots.plane, [("slim-320", 5.0, 0.6, "fp32")]),
    (plots.reject, {"slim-320": CURVE}),
]


@pytest.mark.parametrize(("draw", "what"), ALL)
def test_a_plot_is_a_png_on_white_that_shows_something(draw: Callable[..., None], what: Any, tmp_path: Path) -> None:
    draw(tmp_path / "a.png", what)
    draw(tmp_path / "empty.png", type(what)())
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert image.format == "PNG"
    assert pixels.shape[1] > 1000
    assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    blue = (pixels[..., 2] - pixels[..., 0] > 100).sum()
    with Image.open(tmp_path / "empty.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert blue > 200
    assert not (pixels[..., 2] - pixels[..., 0] > 100).any()


@pytest.mark.parametrize(("draw", "what"), ALL)
def test_a_file_that_cannot_be_written_is_one_sentence(draw: Callable[..., None], what: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent/a.png cannot be written: No such file"):
        draw(tmp_path / "absent" / "a.png", what)


@pytest.mark.parametrize(("draw", "what"), ALL)
def test_without_matplotlib_the_extra_is_named(
    draw: Callable[..., None], what: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'facebatch\[eval\]'"):
        draw(tmp_path / "a.png", what)


def test_pyplot_and_its_state_are_not_touched(tmp_path: Path) -> None:
    import subprocess

    script = (
        "import sys, matplotlib; from facebatch.evaluation import plots; before = matplotlib.rcParams.copy()\n"
        f"plots.roc({str(tmp_path / 'a.png')!r}, {{'a': ([0.1, 1], [0.5, 1])}})\n"
        "assert 'matplotlib.pyplot' not in sys.modules; assert matplotlib.rcParams.copy() == before"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_precision_and_recall_are_listed_by_average_precision(tmp_path: Path, drawn: list[Any]) -> None:
    plots.precision_recall(tmp_path / "a.png", {"a": (*CURVE, 0.5), "b": (*CURVE, 0.75), "c": (*CURVE, 0.25)})
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0.750  b", "0.500  a", "0.250  c"]
    assert axes.lines[0].get_color() == axes.get_legend().get_texts()[1].get_color()
    assert axes.lines[1].get_xdata().tolist() == CURVE[0].tolist()


def test_sixteen_names_beside_the_axes_do_not_overlap_and_keep_the_order_of_the_curves(
    tmp_path: Path, drawn: list[Any]
) -> None:
    ends = {name: 0.5 + 0.001 * k for k, name in enumerate(NAMES)}
    plots.reject(tmp_path / "a.png", {name: ([0, 0.5], [0.9, end]) for name, end in ends.items()})
    plots.roc(tmp_path / "b.png", {name: ([0.01, 1], [end, 1.0]) for name, end in ends.items()})
    for figure in drawn:
        boxes = _boxes(figure)
        assert sorted(boxes, key=lambda name: boxes[name][1]) == NAMES
        assert _overlap(list(boxes.values())) == 0
        area = figure.axes[0].bbox.extents
        assert all(box[0] >= area[2] or box[2] <= area[0] for box in boxes.values())
        assert all(area[1] - 20 < box[1] < box[3] < area[3] + 20 for box in boxes.values())


def test_a_name_alone_stands_at_the_height_of_its_curve(tmp_path: Path, drawn: list[Any]) -> None:
    plots.reject(tmp_path / "a.png", {"a": ([0, 0.5], [0.4, 0.1]), "b": ([0, 0.5], [0.4, 0.3])})
    to_pixels = drawn[0].axes[0].transData
    for box, end in zip(_boxes(drawn[0]).values(), (0.1, 0.3), strict=True):
        assert (box[1] + box[3]) / 2 == pytest.approx(to_pixels.transform((0.5, end))[1], abs=3)


def test_spreading_moves_as_little_as_the_gap_allows() -> None:
    assert plots._spread([0.2, 0.5, 0.9]) == pytest.approx([0.2, 0.5, 0.9])
    assert plots._spread([0.5, 0.5]) == pytest.approx([0.475, 0.525])
    assert plots._spread([0.3, 0.5, 0.5, 0.5]) == pytest.approx([0.3, 0.45, 0.5, 0.55])
    assert plots._spread([-3.0, 0.0]) == pytest.approx([0, 0.05])
    assert plots._spread([1.0] * 3) == pytest.approx([0.9, 0.95, 1])
    assert plots._spread([0.5] * 41) == pytest.approx(np.linspace(0, 1, 41).tolist())
    assert plots._spread([]) == []


def test_a_roc_begins_at_the_first_far_above_zero(tmp_path: Path, drawn: list[Any]) -> None:
    plots.roc(tmp_path / "a.png", {"a": ([0, 0.02, 1], [0.3, 0.5, 1]), "b": ([0, 0.5, 1], [0, 0.1, 1])})
    (axes,) = drawn[0].axes
    assert axes.lines[0].get_xdata().tolist() == [0.02, 1]
    assert axes.get_xlim() == (0.02, 1)
    assert axes.get_xscale() == "log"


def test_what_is_nan_is_left_out_of_a_curve(tmp_path: Path, drawn: list[Any]) -> None:
    nan = float("nan")
    plots.reject(tmp_path / "a.png", {"a": ([0, 0.1, 0.2], [0.3, 0.2, nan]), "b": ([0, 0.1], [nan, nan])})
    (axes,) = drawn[0].axes
    assert axes.lines[0].get_xdata().tolist() == [0, 0.1]
    assert [text.get_text() for text in axes.texts] == ["a"]


def test_names_in_a_plane_cover_neither_each_other_nor_other_dots(tmp_path: Path, drawn: list[Any]) -> None:
    random = np.random.default_rng(4)
    points = [
        (name, float(5 * 1.5 ** random.random()), float(random.random()), "ab"[k % 2]) for k, name in enumerate(NAMES)
    ]
    points += [("near-1", 6.0, 0.5, "a"), ("near-2", 6.0, 0.5, "b"), ("near-3", 6.05, 0.505, "b")]
    plots.plane(tmp_path / "a.png", points)
    (axes,) = drawn[0].axes
    boxes = _boxes(drawn[0])
    assert set(boxes) == {name for name, *_ in points}
    assert _overlap(list(boxes.values())) == 0
    for _, ms, ap, _ in points:
        x, y = axes.transData.transform((ms, ap))
        assert not any(box[0] < x < box[2] and box[1] < y < box[3] for box in boxes.values())
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert axes.get_xscale() == "log"


def test_one_variant_needs_no_legend(tmp_path: Path, drawn: list[Any]) -> None:
    plots.plane(tmp_path / "a.png", [("a", 1.0, 0.5, "fp32"), ("b", 2.0, 0.6, "fp32")])
    assert drawn[0].axes[0].get_legend() is None


@pytest.mark.parametrize(
    ("ms", "ap"), [(0.0, 0.5), (-1.0, 0.5), (float("nan"), 0.5), (float("inf"), 0.5), (1.0, float("nan"))]
)
def test_what_has_no_place_in_a_plane_is_named(ms: float, ap: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="slim-320 has .* ms and AP .*: expected a time above 0"):
        plots.plane(tmp_path / "a.png", [("slim-320", ms, ap, "fp32")])


def test_a_roc_of_a_handful_of_pairs_can_be_drawn(tmp_path: Path) -> None:
    """Its only FAR above 0 is 1, which is also where the axis ends."""
    plots.roc(tmp_path / "roc.png", {"some": ([0.0, 1.0], [1.0, 1.0])})
    assert (tmp_path / "roc.png").stat().st_size > 0
