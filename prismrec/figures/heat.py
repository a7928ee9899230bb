"""A heat map: a value for each pair of two things."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from prismrec.figures.canvas import INK, MUTED, SERIES, as_svg, canvas, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEEPEST = 0.55
"""Opacity of the strongest colour: a number in its cell must be read on it, by day and by night."""
_FAINTEST = 0.04
_WRITTEN = 9  # columns: where there are more, a number would not fit its cell
_STEPS = 40  # of the scale below the map

Place = tuple[int, int]
"""Row and column of a cell."""


def heatmap(
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    what: str,
    x: str = "",
    y: str = "",
    *,
    diverging: bool = False,
    form: str = ".4f",
    mark: Literal["largest", "smallest", "none"] = "largest",
) -> str:
    """A cell for each of ``values`` (rows × columns), deeper in colour the larger it is; NaN, for what was not run, is a dot.

    ``diverging``: around 0, one colour above and another below. ``form``: how a number is written; none is where there are
    more than nine columns. ``mark``: which cell has a frame.
    """
    known = {(r, c): v for r, line in enumerate(values) for c, v in enumerate(line) if math.isfinite(v)}
    low, high = (min(known.values()), max(known.values())) if known else (0.0, 0.0)
    if diverging:
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    framed = _framed(known, mark)
    written = len(columns) <= _WRITTEN
    with canvas(0.95 + (0.22 if x else 0) + (0.36 if written else 0.2) * len(rows)) as (figure, axes):
        for r in range(len(rows)):
            for c in range(len(columns)):
                _cell(axes, (r, c), known.get((r, c)), low, high, diverging, (r, c) == framed)
                if (r, c) in known and written:
                    size = 9 if len(columns) <= 6 else 7.5
                    text = signed(known[r, c], form)
                    axes.text(c + 0.5, r + 0.5, text, ha="center", va="center", fontsize=size, color=INK)
        axes.set_xlim(0, len(columns))
        axes.set_ylim(len(rows), 0)
        told = range(0, len(columns), 1 + len(columns) // 17)
        axes.set_xticks([c + 0.5 for c in told], [columns[c] for c in told])
        axes.set_yticks([r + 0.5 for r in range(len(rows))], rows)
        if sum(map(len, columns)) > 62:
            axes.tick_params(axis="x", labelrotation=35)
            for tick in axes.get_xticklabels():
                tick.set_horizontalalignment("right")
                tick.set_rotation_mode("anchor")
        axes.tick_params(labelcolor=INK)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.spines["bottom"].set_visible(False)
        if low < high:
            _scale(figure, axes, (low, high), what, diverging, form)
        at = "" if framed is None else f"; {mark} {known[framed]:{form}} at {rows[framed[0]]}, {columns[framed[1]]}"
        return as_svg(
            figure, f"{what} for {y or 'rows'} {', '.join(rows)} by {x or 'columns'} {', '.join(columns)}{at}"
        )


def _framed(known: dict[Place, float], mark: str) -> Place | None:
    choose = {"largest": max, "smallest": min}.get(mark)
    return choose(known, key=known.__getitem__) if choose is not None and len(known) > 1 else None


def shade(value: float, low: float, high: float, diverging: bool) -> tuple[str, float]:
    """Colour and opacity of a value between the ends of its scale."""
    start = 0.0 if diverging else low
    share = abs(value - start) / (high - start) if high > start else 0.5
    return SERIES[1 if diverging and value < 0 else 0], _FAINTEST + (DEEPEST - _FAINTEST) * share


def _cell(axes: Axes, at: Place, value: float | None, low: float, high: float, diverging: bool, framed: bool) -> None:
    from matplotlib.patches import Rectangle

    (row, column), gap = at, 0.03
    corner, width, height = (column + gap / 2, row + gap), 1 - gap, 1 - 2 * gap
    if value is None:
        axes.text(column + 0.5, row + 0.5, "·", ha="center", va="center", fontsize=9, color=MUTED)
        return
    colour, alpha = shade(value, low, high, diverging)
    axes.add_patch(Rectangle(corner, width, height, facecolor=colour, alpha=alpha, linewidth=0))
    if framed:
        axes.add_patch(Rectangle(corner, width, height, facecolor="none", edgecolor=INK, linewidth=1.5))


def _scale(figure: Figure, axes: Axes, ends: tuple[float, float], what: str, diverging: bool, form: str) -> None:
    """A strip of the colours below the map, with the values at its ends."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize, to_rgba

    low, high = ends
    at = [low + (high - low) * (step + 0.5) / _STEPS for step in range(_STEPS)]
    colours = [to_rgba(*shade(value, low, high, diverging)) for value in at]
    strip = figure.colorbar(
        ScalarMappable(Normalize(low, high), ListedColormap(colours)),
        ax=axes, location="bottom", shrink=0.55, aspect=32, pad=0.04,
    )  # fmt: skip
    strip.outline.set_visible(False)
    marks = [low, 0.0, high] if diverging else [low, high]
    strip.set_ticks(marks, labels=[signed(mark, form) for mark in marks])
    strip.set_label(what)
    strip.ax.tick_params(length=0)
