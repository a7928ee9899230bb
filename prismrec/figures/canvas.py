"""What all figures share: the palette, the canvas, and SVG text whose colours follow the page.

Colours are drawn as placeholders that become the CSS variables of ``PALETTE``, which the page holds once. Text stays text.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DAY = {
    "ground": "#f3f5f9", "paper": "#ffffff", "panel": "#f3f5f9", "ink": "#1a1e27", "muted": "#586070", "line": "#dde2ea",
    "accent": "#2a5bd7", "hit": "#0c6f3f", "hit-paper": "#e0f4e9",
    "c0": "#3a6fd8", "c1": "#d4562a", "c2": "#1f9268", "c3": "#a14bc4",
    "c4": "#b0830c", "c5": "#d13d78", "c6": "#1795ad", "c7": "#6b7280",
}  # fmt: skip
NIGHT = {
    "ground": "#0e1117", "paper": "#161b23", "panel": "#1e2530", "ink": "#e7eaf0", "muted": "#a3acbb", "line": "#313a48",
    "accent": "#93b5ff", "hit": "#78dfaa", "hit-paper": "#143a28",
    "c0": "#6d9bff", "c1": "#ff8a5c", "c2": "#4ecb9b", "c3": "#cd8cf0",
    "c4": "#e2b84a", "c5": "#ff7fae", "c6": "#54cbe2", "c7": "#a5adba",
}  # fmt: skip
"""Colours of pages and figures, by day and by night: ``paper`` is what a figure lies on, ``ground`` what a page lies on."""


def _palette() -> str:
    day, night = ("".join(f"--{name}: {value}; " for name, value in tones.items()) for tones in (DAY, NIGHT))
    font = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Ubuntu, sans-serif'
    return f"""\
:root {{ --font: {font}; color-scheme: light; {day}}}
@media (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ color-scheme: dark; {night}}} }}
:root[data-theme="dark"] {{ color-scheme: dark; {night}}}
@media print {{ :root:root:root {{ color-scheme: light; {day}}} }}"""


PALETTE = _palette()
"""Style sheet of those colours: as the system has it, unless ``data-theme`` on the root says otherwise; on paper by day."""

INK, MUTED, LINE, PAPER = "#0101f1", "#0202f2", "#0303f3", "#0404f4"
SERIES = tuple(f"#05{k:02x}f5" for k in range(8))
"""Placeholders of the page's colours: what a figure is drawn in. Shades of them come by ``alpha``."""
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"} | {
    colour: f"--c{k}" for k, colour in enumerate(SERIES)
}
_DASHES = ("-", (0, (4, 1.6)), (0, (1, 1.2)))
WIDTH = 4.7  # inches: on a telephone the letters shrink by a fifth, not by half


def style(position: int) -> tuple[str, Any]:
    """Colour and dashes of the series at a position (from 0): eight colours, then again with other dashes."""
    return SERIES[position % len(SERIES)], _DASHES[position // len(SERIES) % len(_DASHES)]


def plain_numbers(axis: Axis, span: float = 1.0) -> None:
    """0.1, 1, 10 and a few in between on a logarithmic axis: powers would need mathematics in names as well.

    ``span``: largest value over smallest; where it is wide there is room for powers of ten alone.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 3) if span < 300 else (1,), numticks=6))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def whole_numbers(axes: Axes, xs: Sequence[float]) -> None:
    """Epochs and counts on the x axis, which ends where they end."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if max(xs) > min(xs):
        axes.set_xlim(min(xs), max(xs) + 0.02 * (max(xs) - min(xs)))


def legend(figure: Figure, names: Sequence[str]) -> None:
    """A legend below the drawing, in as many columns as the names leave room for, three at most."""
    room = figure.get_figwidth() * 72 / (0.56 * 9)  # letters of nine points side by side

    def width(columns: int) -> int:
        size = -(-len(names) // columns)
        return sum(6 + max(map(len, names[start : start + size])) for start in range(0, len(names), size))

    columns = next((n for n in (3, 2) if n <= len(names) and width(n) <= room), 1)
    figure.legend(loc="outside lower left", ncols=columns, frameon=False, fontsize=9, labelcolor=INK)


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[tuple[Figure, Axes]]:
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
        figure = Figure(figsize=(width, height), layout="constrained")
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


def standalone(svg: str) -> str:
    """A figure as a file of its own: with the palette, a ground and its size in pixels."""
    head = svg[: svg.index(">") + 1]
    width, height = (float(v) for v in re.findall(r"[\d.]+", head[head.index("viewBox") :])[2:4])
    size = f'<svg width="{width * 1.6:.0f}" height="{height * 1.6:.0f}"'
    ground = '<rect width="100%" height="100%" style="fill: var(--paper)"/>'
    return f"{head.replace('<svg', size, 1)}<style>{PALETTE}</style>{ground}{svg[len(head) :]}"


def embedded(svg: str) -> str:
    """What ``standalone`` made a file of: a figure that takes palette, ground and size from the page it goes into."""
    text = re.sub(r"<style>.*?</style><rect [^>]*/>", "", svg, count=1, flags=re.DOTALL)
    return re.sub(r' width="\d+" height="\d+"', "", text, count=1)


def signed(value: float, form: str = "+.4f") -> str:
    """A number with a true minus sign, and 0 without any."""
    text = f"{value:{form}}"
    return text.lstrip("+-") if not text.strip("+-0.") else text.replace("-", "−")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
