"""Curves and densities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prismrec.figures.canvas import LINE, as_svg, canvas, legend, plain_numbers, style, whole_numbers

Line = tuple[Sequence[float], Sequence[float]]
"""x and y of a curve."""


def curves(
    lines: Mapping[str, Line],
    y: str,
    best: Mapping[str, float] | None = None,
    x: str = "epoch",
    ticks: Sequence[str] | None = None,
    order: Sequence[str] | None = None,
    multiples: bool = False,
    bands: Mapping[str, Line] | None = None,
    dots: Mapping[str, Line] | None = None,
) -> str:
    """One curve for each name; a dot where x is ``best[name]``. A logarithmic axis where values span 30-fold.

    ``ticks``: names of x = 0, 1, …, where x is no number. ``order``: names in the order of colours, where several
    figures of one page show some of them each. ``multiples``: x is positive and goes on a logarithmic axis.
    ``bands``: lower and upper ends of a shaded band around a curve, at its x.
    ``dots``: points without a line, by name, in the colours after those of the lines.
    """
    with canvas(3.1) as (figure, axes):
        for name, (xs, ys) in lines.items():
            colour, dash = style((order or list(lines)).index(name))
            axes.plot(xs, ys, color=colour, linestyle=dash, linewidth=1.6, label=name)
            if name in (bands or {}):
                axes.fill_between(xs, *(bands or {})[name], color=colour, alpha=0.16, linewidth=0)
            at = (best or {}).get(name)
            if at is not None and at in list(xs):
                axes.plot([at], [ys[list(xs).index(at)]], "o", color=colour, markersize=5)
        for number, (name, (xs, ys)) in enumerate((dots or {}).items(), len(order or lines)):
            axes.plot(xs, ys, "o", color=style(number)[0], markersize=4, alpha=0.75, markeredgewidth=0, label=name)
        every = {**lines, **(dots or {})}
        values = [v for _, ys in every.values() for v in ys]
        if min(values) > 0 and max(values) > 30 * min(values):
            axes.set_yscale("log")
            plain_numbers(axes.yaxis)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if multiples:
            axes.set_xscale("log")
            plain_numbers(axes.xaxis)
            marks = sorted({v for xs, _ in lines.values() for v in xs})
            axes.set_xticks(marks, [f"{v:g}" for v in marks])
        elif ticks is None:
            whole_numbers(axes, [v for xs, _ in every.values() for v in xs])
        else:
            axes.set_xticks(range(len(ticks)), ticks)
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        if len(every) > 1:
            legend(figure, list(every))
        return as_svg(figure, f"{y} by {x}: " + ", ".join(lines))


def densities(samples: Mapping[str, Sequence[float]], x: str, order: Sequence[str] | None = None) -> str:
    """A smoothed histogram of each sample, of area one; ``order`` as of ``curves``."""
    import numpy as np

    low, high = (float(f([f(values) for values in samples.values()])) for f in (np.min, np.max))
    room = 0.08 * (high - low) or 1e-3  # for the curves to come down to zero
    edges = np.linspace(low - room, high + room, 71)
    middle = (edges[1:] + edges[:-1]) / 2
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.5) ** 2)
    with canvas(2.8) as (figure, axes):
        for name, values in samples.items():
            colour, dash = style((order or list(samples)).index(name))
            counts = np.histogram(values, edges, density=True)[0]
            smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
            axes.plot(middle, smooth, color=colour, linestyle=dash, linewidth=1.6, label=name)
            axes.fill_between(middle, smooth, color=colour, alpha=0.13, linewidth=0)
        axes.set_ylim(0, None)
        axes.set_xlabel(x)
        axes.set_yticks([])
        legend(figure, list(samples))
        return as_svg(figure, f"density of {x}: " + ", ".join(samples))
