"""Figures as SVG text that goes into a page: no files, no screen, and colours that follow the page, light or dark.

Colours are drawn as placeholders that become the CSS variables of ``PALETTE``, which the page holds once. Text stays text.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Line = tuple[Sequence[float], Sequence[float]]
"""x and y of a curve."""

PALETTE = """:root {
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Ubuntu, sans-serif;
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1b1f27; --muted: #5c6472; --line: #dfe3ea;
  --accent: #2a5bd7; --hit: #0f7b46; --hit-paper: #e2f5ea;
  --c0: #3a6fd8; --c1: #d4562a; --c2: #1f9268; --c3: #a14bc4;
  --c4: #b0830c; --c5: #d13d78; --c6: #1795ad; --c7: #6b7280;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12151b; --panel: #1a1f28; --ink: #e7eaf0; --muted: #a0a9b8; --line: #303846;
    --accent: #8fb2ff; --hit: #6fdba4; --hit-paper: #143526;
    --c0: #6d9bff; --c1: #ff8a5c; --c2: #4ecb9b; --c3: #cd8cf0;
    --c4: #e2b84a; --c5: #ff7fae; --c6: #54cbe2; --c7: #a5adba;
  }
}"""
"""Colours and font of pages and figures, by day and by night."""

INK, MUTED, LINE, PAPER = "#0101f1", "#0202f2", "#0303f3", "#0404f4"
SERIES = tuple(f"#05{k:02x}f5" for k in range(8))
"""Placeholders of the page's colours: what a figure is drawn in. Shades of them come by ``alpha``."""
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"} | {
    colour: f"--c{k}" for k, colour in enumerate(SERIES)
}
_DASHES = ("-", (0, (4, 1.6)), (0, (1, 1.2)))
_WIDTH = 4.7  # inches: on a telephone the letters shrink by a fifth, not by half


def curves(
    lines: Mapping[str, Line],
    y: str,
    best: Mapping[str, float] | None = None,
    x: str = "epoch",
    ticks: Sequence[str] | None = None,
    order: Sequence[str] | None = None,
    multiples: bool = False,
) -> str:
    """One curve for each name; a dot where x is ``best[name]``. A logarithmic axis where values span 30-fold.

    ``ticks``: names of x = 0, 1, …, where x is no number. ``order``: names in the order of colours, where several
    figures of one page show some of them each. ``multiples``: x is positive and goes on a logarithmic axis.
    """
    with canvas(3.1) as (figure, axes):
        for name, (xs, ys) in lines.items():
            colour, dash = style((order or list(lines)).index(name))
            axes.plot(xs, ys, color=colour, linestyle=dash, linewidth=1.6, label=name)
            at = (best or {}).get(name)
            if at is not None and at in list(xs):
                axes.plot([at], [ys[list(xs).index(at)]], "o", color=colour, markersize=5)
        values = [v for _, ys in lines.values() for v in ys]
        if min(values) > 0 and max(values) > 30 * min(values):
            axes.set_yscale("log")
            _plain(axes.yaxis)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if multiples:
            axes.set_xscale("log")
            _plain(axes.xaxis)
            marks = sorted({v for xs, _ in lines.values() for v in xs})
            axes.set_xticks(marks, [f"{v:g}" for v in marks])
        elif ticks is None:
            _whole_numbers(axes, [v for xs, _ in lines.values() for v in xs])
        else:
            axes.set_xticks(range(len(ticks)), ticks)
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        if len(lines) > 1:
            figure.legend(loc="outside lower left", ncols=min(3, len(lines)), frameon=False, fontsize=9, labelcolor=INK)
        return as_svg(figure, f"{y} by {x}: " + ", ".join(lines))


def bars(
    names: Sequence[str],
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    x: str,
    mark: tuple[str, float] | None = None,
) -> str:
    """A bar for each name, first on top, with its interval; ``mark``: a line across all of them, with its name."""
    with canvas(0.75 + 0.29 * len(names)) as (figure, axes):
        places = list(range(len(names)))[::-1]
        axes.barh(places, values, height=0.66, color=SERIES[0])
        error = [[v - a for v, a in zip(values, low, strict=True)], [b - v for v, b in zip(values, high, strict=True)]]
        axes.errorbar(values, places, xerr=error, fmt="none", color=INK, elinewidth=1.1, capsize=2.5)
        top = max([*high, mark[1] if mark else 0.0, 1e-9])
        for place, value, end in zip(places, values, high, strict=True):
            axes.text(end + 0.015 * top, place, f"{value:.4f}", va="center", fontsize=9, color=INK)
        if mark is not None:
            axes.axvline(mark[1], color=SERIES[1], linewidth=1.6, linestyle=(0, (4, 2)))
            axes.text(
                mark[1] - 0.012 * top, places[-1] - 0.1, mark[0], ha="right", va="center", fontsize=9, color=SERIES[1]
            )
        axes.set_xlim(0, top * (1.04 if mark and mark[1] == top else 1.2))
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.set_xlabel(x)
        axes.grid(axis="x", color=LINE, linewidth=0.7)
        axes.spines["bottom"].set_visible(False)
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
        axes.set_ylim(-0.5, len(names) - 0.5)
        axes.set_yticks(range(len(names))[::-1], names)
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.set_xlabel(x)
        axes.grid(axis="x", color=LINE, linewidth=0.7)
        axes.spines["bottom"].set_visible(False)
        figure.legend(loc="outside lower left", ncols=min(3, len(series)), frameon=False, fontsize=9, labelcolor=INK)
        return as_svg(figure, f"{x}: {', '.join(names)} by {', '.join(series)}")


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
        figure.legend(loc="outside lower left", ncols=min(3, len(samples)), frameon=False, fontsize=9, labelcolor=INK)
        return as_svg(figure, f"density of {x}: " + ", ".join(samples))


def scatter(names: Sequence[str], xs: Sequence[float], ys: Sequence[float], x: str, y: str) -> str:
    """A labelled point for each name, x on a logarithmic axis; labels give way to each other."""
    with canvas(3.6) as (figure, axes):
        axes.set_xscale("log")
        _plain(axes.xaxis)
        axes.scatter(xs, ys, s=34, color=SERIES[0], zorder=3)
        span = (max(ys) - min(ys)) or abs(max(ys)) or 1.0
        axes.set_ylim(min(ys) - 0.1 * span, max(ys) + 0.12 * span)
        axes.set_xlim(min(xs) / 1.6, max(xs) * 1.6)
        figure.draw_without_rendering()  # settles the layout, so that places on the axes are known
        points = axes.transAxes.inverted().transform(axes.transData.transform(list(zip(xs, ys, strict=True))))
        box = axes.get_window_extent()
        letter = (0.6 * 9 / 72 * figure.dpi / box.width, 1.25 * 9 / 72 * figure.dpi / box.height)
        for k, place in enumerate(_labels(points.tolist(), [len(name) for name in names], letter)):
            axes.annotate(
                names[k],
                points[k],
                xycoords="axes fraction",
                xytext=place,
                textcoords="axes fraction",
                ha="center",
                va="center",
                fontsize=9,
                color=INK,
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3},
            )
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(color=LINE, linewidth=0.7)
        return as_svg(figure, f"{y} against {x}: " + ", ".join(names))


def standalone(svg: str) -> str:
    """A figure as a file of its own: with the palette, a ground and its size in pixels."""
    head = svg[: svg.index(">") + 1]
    width, height = (float(v) for v in re.findall(r"[\d.]+", head[head.index("viewBox") :])[2:4])
    size = f'<svg width="{width * 1.6:.0f}" height="{height * 1.6:.0f}"'
    ground = '<rect width="100%" height="100%" style="fill: var(--paper)"/>'
    return f"{head.replace('<svg', size, 1)}<style>{PALETTE}</style>{ground}{svg[len(head) :]}"


def _labels(
    points: Sequence[Sequence[float]], lengths: Sequence[int], letter: tuple[float, float]
) -> list[tuple[float, float]]:
    """Centres of labels on the unit square: each the nearest place that hides no point and no earlier label.

    ``lengths`` in letters, ``letter``: width and height of one. Where nothing is free, the least covered place is taken.
    """
    dot = 0.012
    taken = [(x - dot, y - dot, x + dot, y + dot) for x, y in points]
    places = []
    for (x, y), length in zip(points, lengths, strict=True):
        w, h = length * letter[0] / 2, letter[1] / 2
        tries = [
            (x + right * (w + 1.6 * dot) * (1 if up == 0 else step), y + up * (h + 1.4 * dot) * step)
            for step in (1.0, 1.8, 2.8, 4.0, 5.5)
            for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
        ]

        def hidden(place: tuple[float, float], w: float = w, h: float = h) -> float:
            a, b, c, d = place[0] - w, place[1] - h, place[0] + w, place[1] + h
            over = [max(0.0, min(c, r) - max(a, left)) * max(0.0, min(d, t) - max(b, low)) for left, low, r, t in taken]
            return sum(over) + max(0.0, -a, c - 1.02) + max(0.0, -b, d - 1.0)

        best = min(tries, key=hidden)  # the first, hence the nearest, of equals
        if hidden(best) > 0:  # crowded: look over the whole square, nearest first
            grid = [(i / 48, j / 48) for i in range(49) for j in range(49)]
            best = min(sorted(grid, key=lambda at, x=x, y=y: (at[0] - x) ** 2 + (at[1] - y) ** 2), key=hidden)  # type: ignore[misc]
        places.append(best)
        taken.append((best[0] - w, best[1] - h, best[0] + w, best[1] + h))
    return places


def style(position: int) -> tuple[str, Any]:
    """Colour and dashes of the series at a position (from 0): eight colours, then again with other dashes."""
    return SERIES[position % len(SERIES)], _DASHES[position // len(SERIES) % len(_DASHES)]


def _plain(axis: Axis) -> None:
    """0.1, 1, 10 and a few in between on a logarithmic axis: powers would need mathematics in names as well."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _whole_numbers(axes: Axes, xs: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if max(xs) > min(xs):
        axes.set_xlim(min(xs), max(xs) + 0.02 * (max(xs) - min(xs)))


@contextmanager
def canvas(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of its own, without pyplot: nothing global is touched or left behind."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.edgecolor": LINE,
        "axes.labelcolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.tick_params(which="both", length=0)
        yield figure, axes


def as_svg(figure: Figure, label: str) -> str:
    """SVG of a figure with ids of its own, CSS variables for colours, the page's font, and a label for readers."""
    import matplotlib as mpl

    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": label}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace("'DejaVu Sans'", "var(--font)")
    text = re.sub(r' d="[^"]+"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)  # 1/7200 inch is enough
    prefix = f"f{zlib.crc32(label.encode()):08x}-"
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{prefix}", text)
    head = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert head is not None
    opening = f'<svg role="img" aria-label="{_escape(label)}" viewBox="{head[0][9:-1]}"'
    opening += ' xmlns:xlink="http://www.w3.org/1999/xlink" xmlns="http://www.w3.org/2000/svg">'
    return opening + text[text.index(">", text.index("<svg")) + 1 :]


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
