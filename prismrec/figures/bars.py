"""Bars and differences: a value for each name, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prismrec.figures.canvas import INK, LINE, MUTED, PAPER, SERIES, WIDTH, as_svg, canvas, legend, signed, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def bars(
    names: Sequence[str],
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    x: str,
    mark: tuple[str, float] | None = None,
    width: float = WIDTH,
) -> str:
    """A bar for each name, first on top, with its interval; ``mark``: a line across all of them, with its name.

    ``width``: inches of the drawing: fewer where it stands in a narrow column, so that letters keep their size.
    """
    with canvas(0.75 + 0.29 * len(names), width) as (figure, axes):
        places = list(range(len(names)))[::-1]
        axes.barh(places, values, height=0.66, color=SERIES[0])
        error = [[v - a for v, a in zip(values, low, strict=True)], [b - v for v, b in zip(values, high, strict=True)]]
        if any(a < b for a, b in zip(low, high, strict=True)):
            axes.errorbar(values, places, xerr=error, fmt="none", color=INK, elinewidth=1.1, capsize=2.5)
        top = max([*high, mark[1] if mark else 0.0, 1e-9])
        for place, value, end in zip(places, values, high, strict=True):
            axes.text(end + 0.015 * top, place, f"{value:.4f}", va="center", fontsize=9, color=INK)
        if mark is not None:
            axes.axvline(mark[1], color=SERIES[1], linewidth=1.6, linestyle=(0, (4, 2)))
            axes.text(mark[1] - 0.012 * top, places[-1] - 0.1, mark[0], ha="right", va="center", fontsize=9, color=INK)
        axes.set_xlim(0, top * (1.04 if mark and mark[1] == top else 1.2))
        _rows(axes, names, x)
        return as_svg(figure, f"{x}: " + ", ".join(f"{n} {v:.4f}" for n, v in zip(names, values, strict=True)))


def grouped(names: Sequence[str], series: Mapping[str, Sequence[float]], x: str) -> str:
    """For each name a bar of each series, first on top: the same things counted in several ways."""
    with canvas(0.95 + 0.21 * len(names) * len(series) + 0.1 * len(names)) as (figure, axes):
        height = 0.8 / len(series)
        everything = [v for values in series.values() for v in values]
        low, top = min([*everything, 0.0]), max([*everything, 0.0])
        span = top - low or 1e-9
        for number, (title, values) in enumerate(series.items()):
            places = [len(names) - 1 - row + 0.4 - height * (number + 0.5) for row in range(len(names))]
            axes.barh(places, values, height=0.92 * height, color=style(number)[0], label=title)
            for place, value in zip(places, values, strict=True):
                axes.text(max(value, 0.0) + 0.015 * span, place, f"{value:.4f}", va="center", fontsize=8, color=INK)
        axes.set_xlim(low, top + 0.2 * span)
        _rows(axes, names, x)
        if len(series) > 1:
            legend(figure, list(series))
        return as_svg(figure, f"{x}: {', '.join(names)} by {', '.join(series)}")


def differences(
    names: Sequence[str],
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    x: str,
    sure: Sequence[bool] | None = None,
) -> str:
    """A difference for each name, first on top, with its interval, around 0.

    A dot is full where the difference is ``sure``, in one colour above 0 and in another below, and hollow where it is not.
    Without ``sure``, it is where the interval leaves 0 out.
    """
    told = [a > 0 or b < 0 for a, b in zip(low, high, strict=True)] if sure is None else sure
    with canvas(0.8 + 0.3 * len(names)) as (figure, axes):
        axes.axvline(0, color=MUTED, linewidth=1)
        span = max([*map(abs, low), *map(abs, high), 1e-9])
        for place, value, a, b, full in zip(range(len(names))[::-1], values, low, high, told, strict=True):
            colour = MUTED if not full else SERIES[2] if value > 0 else SERIES[1]
            axes.plot([a, b], [place, place], color=colour, linewidth=2, solid_capstyle="round")
            face = colour if full else PAPER
            axes.plot([value], [place], "o", markersize=6.5, markerfacecolor=face, markeredgecolor=colour)
            axes.text(
                1.02, place, signed(value), transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=INK
            )
        axes.set_xlim(-1.08 * span, 1.08 * span)
        axes.locator_params(axis="x", nbins=5)
        _rows(axes, names, x)
        return as_svg(figure, f"{x}: " + ", ".join(f"{n} {v:+.4f}" for n, v in zip(names, values, strict=True)))


def _rows(axes: Axes, names: Sequence[str], x: str) -> None:
    """A line for each name, first on top, and a scale below."""
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names))[::-1], names)
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    axes.set_xlabel(x)
    axes.grid(axis="x", color=LINE, linewidth=0.7)
    axes.spines["bottom"].set_visible(False)
