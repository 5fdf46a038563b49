"""Plots of evaluations as PNG: curves and planes with the names beside what they name.

White ground and dark colours, so that a page may be light or dark. Matplotlib's figures are used directly, without
pyplot and so without its global state. Every function raises UsageError where matplotlib is absent or the file cannot
be written. Numbers that are not finite have no place in a plot: points of a curve that have any are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facebatch.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0b62a4", "#c8441b", "#2e7d32", "#7b3fa0", "#8a5a00", "#b0126b", "#00797f", "#4d4d4d")
_DASHES = ("-", "--", ":", "-.")
_SIZE, _DPI, _SMALL = (6.4, 4.0), 200, 7.5
_GAP = 0.05
"""Axes heights from one name beside the axes to the next."""
_AWAY = (10, 24, 45, 70, 100, 140)
"""Pixels from a dot at which its name is tried."""
Floats = NDArray[np.float64]


def precision_recall(file: str | Path, curves: Mapping[str, tuple[ArrayLike, ArrayLike, float]]) -> None:
    """Precision over recall. curves: name to recall, precision (each n, 0..1) and the average precision to print. Names
    are listed by it, the best above: the curves' ends lie in a heap."""
    figure, axes = _axes("Recall", "Precision")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    _draw(axes, {name: _finite(recall, precision) for name, (recall, precision, _) in curves.items()})
    best = sorted(zip(curves.items(), axes.lines, strict=True), key=lambda one: -one[0][1][2])
    for (name, (_, _, ap)), line in best:
        line.set_label(f"{ap:.3f}  {name}")
    if best:
        lines = [line for _, line in best]
        key = axes.legend(handles=lines, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        for text, line in zip(key.get_texts(), lines, strict=True):
            text.set(color=line.get_color(), fontsize=_SMALL)
    _save(figure, file)


def roc(file: str | Path, curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    """TAR over FAR, logarithmic in FAR. curves: name to FAR and TAR (each n, 0..1, rising). A FAR of 0 has no place on
    the axis: each curve begins at the first that its pairs can show. Names stand on the left, where curves differ."""
    figure, axes = _axes("FAR", "TAR", left=0.24, right=0.91)
    axes.yaxis.set_label_position("right")
    axes.yaxis.tick_right()
    axes.set_xscale("log")
    shown = {}
    for name, curve in curves.items():
        far, tar = _finite(*curve)
        shown[name] = far[far > 0], tar[far > 0]
    _draw(axes, shown)
    lowest = min((float(far.min()) for far, _ in shown.values() if len(far)), default=1e-4)
    axes.set_xlim(min(lowest, 0.1), 1)  # of a handful of pairs the lowest may be 1 itself
    axes.set_ylim(top=1 + 0.02 * (1 - axes.get_ylim()[0]))
    _name(axes, shown, 0)
    _save(figure, file)


def plane(file: str | Path, points: Sequence[tuple[str, float, float, str]]) -> None:
    """Accuracy over speed. points: name, milliseconds an image (logarithmic), AP, and the variant, which the colour
    shows (weights, a canvas, a provider; one for all needs no legend). A name stands beside its dot, or as near as
    there is room, with a line to it. Raises UsageError for a time that is not above 0 or an AP that is no number."""
    for name, ms, ap, _ in points:
        if not (0 < ms < math.inf and math.isfinite(ap)):
            raise UsageError(f"{name} has {ms} ms and AP {ap}: expected a time above 0 and a number")
    figure, axes = _axes("Milliseconds an image", "AP", right=0.97)
    axes.set_xscale("log")
    variants = list(dict.fromkeys(variant for *_, variant in points))
    colours = {variant: _COLOURS[k % len(_COLOURS)] for k, variant in enumerate(variants)}
    for variant in variants:
        places = np.array([(ms, ap) for _, ms, ap, v in points if v == variant])
        axes.scatter(places[:, 0], places[:, 1], s=22, color=colours[variant], label=variant)
    axes.margins(0.12)
    axes.autoscale_view()  # not put off until it is drawn: names need to know where dots are
    _plain_numbers(axes)
    if len(variants) > 1:
        axes.legend(fontsize=_SMALL, frameon=False, loc="lower left", bbox_to_anchor=(0, 0.99), ncols=len(variants))
    _name_dots(figure, axes, [(name, ms, ap, colours[variant]) for name, ms, ap, variant in points])
    _save(figure, file)


def reject(file: str | Path, curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    """EER over the share of images that is rejected for their quality. curves: name to shares and EERs (each n)."""
    figure, axes = _axes("Share of images rejected", "EER")
    shown = {name: _finite(*curve) for name, curve in curves.items()}
    _draw(axes, shown)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    _name(axes, shown, -1)
    _save(figure, file)


def panels(file: str | Path, x: str, curves: Sequence[tuple[str, tuple[ArrayLike, ArrayLike]]]) -> None:
    """Curves of other units over one quantity, each in a panel of its own. curves: name to abscissae and values."""
    figure, axes = _axes(x, "")
    axes.remove()
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure.set_size_inches(_SIZE[0] * columns / 2, 2.2 * rows)
    for k, (name, curve) in enumerate(curves):
        panel = figure.add_subplot(rows, columns, k + 1)
        panel.plot(*_finite(*curve), color=_COLOURS[0], linewidth=1.2)
        panel.set_title(name, fontsize=9, loc="left")
        panel.set_xlabel(x, fontsize=_SMALL)
        panel.tick_params(labelsize=_SMALL)
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    _save(figure, file)


def bars(file: str | Path, x: str, values: Mapping[str, Sequence[float]]) -> None:
    """A bar for each name, as long as the median of its values, the first above; each value is a dot on it."""
    figure, axes = _axes(x, "", left=0.2, right=0.97)
    figure.set_size_inches(_SIZE[0], 0.9 + 0.4 * len(values))
    for k, each in enumerate(values.values()):
        middle = float(np.median(each))
        axes.barh(k, middle, height=0.6, color=_COLOURS[k % len(_COLOURS)], alpha=0.85)
        axes.scatter(each, [k] * len(each), s=9, color="#202020", zorder=3)
        axes.annotate(f"{middle:.1f}", (max(each), k), (6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)
    _save(figure, file)


def _axes(x: str, y: str, left: float = 0.1, right: float = 0.74) -> tuple[Figure, Axes]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("plots need matplotlib: pip install 'facebatch[eval]'") from None
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white")
    axes = figure.add_axes((left, 0.13, right - left, 0.8), facecolor="white")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8, which="both")
    axes.grid(alpha=0.25, linewidth=0.6)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _finite(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    shown = np.isfinite(xs) & np.isfinite(ys)
    return xs[shown], ys[shown]


def _style(k: int) -> tuple[str, str]:
    return _COLOURS[k % len(_COLOURS)], _DASHES[k // len(_COLOURS) % len(_DASHES)]


def _draw(axes: Axes, curves: Mapping[str, tuple[Floats, Floats]]) -> None:
    for k, (x, y) in enumerate(curves.values()):
        colour, dashes = _style(k)
        axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.4)


def _name(axes: Axes, curves: Mapping[str, tuple[Floats, Floats]], end: int) -> None:
    """Names beside the axes at the height of the curves' ends (-1, right) or beginnings (0, left), or as near as there
    is room, with a line to them."""
    styles = [(name, x[end], y[end], *_style(k)) for k, (name, (x, y)) in enumerate(curves.items()) if len(x)]
    to_axes = axes.transData + axes.transAxes.inverted()
    styles.sort(key=lambda one: one[2])
    heights = _spread([float(to_axes.transform((x, y))[1]) for _, x, y, _, _ in styles])
    for (name, x, y, colour, _), height in zip(styles, heights, strict=True):
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 1}
        axes.annotate(
            name,
            (x, y),
            (1.03 if end else -0.03, height),
            textcoords="axes fraction",
            horizontalalignment="left" if end else "right",
            verticalalignment="center",
            color=colour,
            fontsize=_SMALL,
            arrowprops=line | {"relpos": (float(not end), 0.5)},
            annotation_clip=False,
        )


def _spread(heights: list[float]) -> list[float]:
    """Rising heights moved as little (in squares) as a gap between them and a place within 0..1 allow: an isotonic
    regression, by pooling neighbours that stand too near."""
    gap = min(_GAP, 1 / max(len(heights) - 1, 1))
    pools: list[tuple[float, int]] = []
    for k, height in enumerate(heights):
        pools.append((height - k * gap, 1))
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (one, n), (other, m) = pools[-2:]
            pools[-2:] = [((one * n + other * m) / (n + m), n + m)]
    room = 1 - gap * (len(heights) - 1)
    return [min(max(lowest, 0.0), room) + k * gap for k, lowest in enumerate(v for v, n in pools for _ in range(n))]


def _plain_numbers(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name_dots(figure: Figure, axes: Axes, dots: Sequence[tuple[str, float, float, str]]) -> None:
    """Names beside dots: each where it covers least of the dots and of the names before it, the nearest of such
    places."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if not dots:
        return
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    places = axes.transData.transform([(x, y) for _, x, y, _ in dots])
    taken = [np.concatenate([place - 8, place + 8]) for place in places]
    ways = [np.array(way) for way in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))]
    for (name, x, y, colour), place in zip(dots, places, strict=True):
        text = figure.text(0, 0, name, fontsize=_SMALL)
        half = np.array(text.get_window_extent(renderer).size) / 2 + 2
        text.remove()
        boxes = []
        for away in _AWAY:
            for way in ways:
                middle = place + way * (half + away / np.hypot(*way))
                boxes.append(np.concatenate([middle - half, middle + half]))
        covered = [_covered(box, taken, np.array(axes.bbox.extents)) for box in boxes]
        best = int(np.argmin(covered))
        taken.append(boxes[best])
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            name,
            (x, y),
            tuple(((boxes[best][:2] + boxes[best][2:]) / 2 - place) * 72 / _DPI),
            textcoords="offset points",
            horizontalalignment="center",
            verticalalignment="center",
            color=colour,
            fontsize=_SMALL,
            arrowprops=line if best >= len(ways) else None,
        )


def _covered(box: Floats, taken: Sequence[Floats], within: Floats) -> float:
    """Square pixels of a box (x, y, x, y) that others take, and of it that lie outside."""
    others = np.array(taken)
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inside = np.minimum(box[2:], within[2:]) - np.maximum(box[:2], within[:2])
    area = float(np.prod(box[2:] - box[:2]))
    return float(np.clip(sides, 0, None).prod(axis=1).sum()) + area - float(np.clip(inside, 0, None).prod())


def _save(figure: Figure, file: str | Path) -> None:
    try:
        with Path(file).open("wb") as stream:
            figure.savefig(stream, format="png", bbox_inches="tight", pad_inches=0.1)  # long names widen the page
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None
