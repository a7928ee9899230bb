"""Figures as SVG text that goes into a page: no files, no screen, and colours that follow the page, light or dark."""

from prismrec.figures.bars import bars, differences, grouped
from prismrec.figures.canvas import (
    INK,
    LINE,
    MUTED,
    PALETTE,
    PAPER,
    SERIES,
    as_svg,
    canvas,
    embedded,
    standalone,
    style,
)
from prismrec.figures.heat import heatmap
from prismrec.figures.lines import Line, curves, densities
from prismrec.figures.points import cloud, scatter

__all__ = [
    "INK", "LINE", "MUTED", "PALETTE", "PAPER", "SERIES", "Line", "as_svg", "bars", "canvas", "cloud", "curves", "densities",
    "differences", "embedded", "grouped", "heatmap", "scatter", "standalone", "style",
]  # fmt: skip
