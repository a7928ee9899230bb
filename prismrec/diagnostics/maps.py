"""How far apart the modalities lie: t-SNE maps with marginals, overlap coefficients, sliced Wasserstein distances.

H. Zhan et al., *CLEAR*, 2026, arXiv:2603.01536, eq. 17 and figure 6. The paper does not define its overlap; here it is the
overlapping coefficient ∫ min(p, q) of two densities, on the map and, free of any map, along random directions of the features.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from prismrec.diagnostics.finding import Finding
from prismrec.diagnostics.stages import Tables, complete, pairs, stages
from prismrec.diagnostics.subject import Subject
from prismrec.errors import PrismError
from prismrec.figures import INK, LINE, as_svg, canvas, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = NDArray[np.float64]
"""(n, D)."""

DIRECTIONS = 256
_MOST = 10_000  # items that distances and overlaps look at
_CELLS = {1: 512, 2: 96}  # of a grid, along each side


def overlap(a: Points, b: Points) -> float:
    """Overlapping coefficient ∫ min(p, q) in [0, 1] of the densities behind (n, D) and (m, D) points, D = 1 or 2.

    Kernel densities on a common grid, a Gaussian of Scott's width for each set. 1: the same density. 0: apart.
    """
    low, high = np.minimum(a.min(0), b.min(0)), np.maximum(a.max(0), b.max(0))
    margin = 0.1 * np.maximum(high - low, 1e-12)
    grid = list(zip(low - margin, high + margin, strict=True))
    p, q = _density(a, grid), _density(b, grid)
    return float(np.minimum(p, q).sum())


def _density(points: Points, grid: Sequence[tuple[float, float]], cells: int = 0) -> NDArray[np.float64]:
    """Probabilities of the cells of a grid, smoothed; they sum to one."""
    n, dims = points.shape
    cells = cells or _CELLS[dims]
    counts, _ = np.histogramdd(points, bins=cells, range=grid)
    width = points.std(0) * n ** (-1 / (dims + 4))  # Scott's rule
    step = np.array([(high - low) / cells for low, high in grid])
    smooth: NDArray[np.float64] = gaussian_filter(counts, width / step, mode="constant")
    smooth /= smooth.sum()
    return smooth


def sliced_overlap(a: Points, b: Points, seed: int = 0) -> float:
    """Mean overlapping coefficient of (n, d) and (m, d) along random directions: in [0, 1], high where they are alike."""
    directions = np.random.default_rng(seed).standard_normal((a.shape[1], DIRECTIONS))
    p, q = a @ directions, b @ directions  # their lengths do not matter: the coefficient knows no scale
    return float(np.mean([overlap(p[:, [i]], q[:, [i]]) for i in range(DIRECTIONS)]))


def sliced_wasserstein(a: Points, b: Points, seed: int = 0) -> float:
    """SWD(a, b) = 1/L Σ_l W₁(θ_lᵀa, θ_lᵀb) over L = 256 random unit vectors (eq. 17), in the units of the features."""
    ot = _library("ot", "POT", "The sliced Wasserstein distance")
    return float(ot.sliced_wasserstein_distance(a, b, n_projections=DIRECTIONS, p=1, seed=seed))


def tsne(points: Points, seed: int = 0) -> Points:
    """A t-SNE map (n, 2) of (n, d) points (van der Maaten and Hinton, 2008), from their principal components.

    The same points and seed give the same bits on one machine, for it runs on one thread.
    """
    library = _library("openTSNE", "openTSNE", "A t-SNE map")
    perplexity = min(30.0, max(2.0, (len(points) - 1) / 4))
    fitted = library.TSNE(perplexity=perplexity, initialization="pca", random_state=seed, n_jobs=1).fit(points)
    return np.asarray(fitted, dtype=np.float64)


def _library(module: str, package: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise PrismError(
            f"{what} needs {package}, which is not installed; get it with: pip install 'prismrec[diagnose]'"
        ) from missing


def modality_map(subject: Subject, at_most: int = 1000) -> Finding:
    """t-SNE of all modalities' features together, before and after the plug-ins, and how far apart they lie.

    ``at_most``: items on the map, drawn at random where there are more; distances and overlaps along random directions take
    up to 10,000. Items that lack a modality stay out. Raises ``PrismError`` where widths differ: there is no common space.
    """
    if at_most < 10:
        raise PrismError(f"A map of {at_most} items shows nothing; allow at least 10.")
    by_stage = stages(subject)
    tables = next(iter(by_stage.values()))
    widths = {m: values.shape[1] for m, values in tables.items()}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{m} {width}" for m, width in widths.items())
        raise PrismError(f"It compares modalities in one space, and their widths differ: {found}.")
    seed = subject.view.seed
    everyone = _drawn(complete(subject, tables).numpy(), _MOST, seed)
    some = _drawn(everyone, at_most, seed)
    maps, rows = {}, []
    for stage, values in by_stage.items():
        maps[stage] = _map(values, some, seed)
        for a, b in pairs(values):
            v, t = values[a].double().numpy()[everyone], values[b].double().numpy()[everyone]
            swd, spread = sliced_wasserstein(v, t, seed), _spread(v, t)
            rows.append(
                {
                    "stage": stage,
                    "a": a,
                    "b": b,
                    "swd": swd,
                    "swd_per_spread": swd / spread if spread > 0 else 0.0,
                    "overlap": sliced_overlap(v, t, seed),
                    "overlap_on_map": overlap(maps[stage][a], maps[stage][b]),
                    "items": len(everyone),
                    "items_on_map": len(some),
                }
            )
    table = pl.DataFrame(rows)
    return Finding("modality_map", "How far apart the modalities lie", _says(table), table, (_figure(maps, table),))


def _drawn(items: NDArray[np.int64], at_most: int, seed: int) -> NDArray[np.int64]:
    """The items, or so many of them at random, in order."""
    if len(items) <= at_most:
        return items
    return np.sort(np.random.default_rng(seed).choice(items, at_most, replace=False))


def _map(values: Tables, some: NDArray[Any], seed: int) -> dict[str, Points]:
    joint = tsne(np.concatenate([table[torch.from_numpy(some)].double().numpy() for table in values.values()]), seed)
    return dict(zip(values, np.split(joint, len(values)), strict=True))


def _spread(a: Points, b: Points) -> float:
    """Root mean square distance of a coordinate from its modality's mean: the unit in which a scale has no say."""
    return float(np.sqrt((a.var(0).mean() + b.var(0).mean()) / 2))


def _says(table: pl.DataFrame) -> str:
    sentences = []
    for a, b in table.select("a", "b").unique(maintain_order=True).rows():
        rows = table.filter((pl.col("a") == a) & (pl.col("b") == b))
        stage, swd, scaled, shared, mapped = (
            rows[name].to_list() for name in ("stage", "swd", "swd_per_spread", "overlap", "overlap_on_map")
        )

        def change(values: Sequence[float], digits: str) -> str:
            return " → ".join(format(value, digits) for value in values)

        sentences.append(
            f"{a.capitalize()} and {b} ({' → '.join(stage)}): sliced Wasserstein distance {change(swd, '.3g')}, "
            f"{change(scaled, '.3g')} in units of the features' spread; overlap {change(shared, '.2f')} along random "
            f"directions and {change(mapped, '.2f')} on the map."
        )
    on_map, items = table["items_on_map"][0], table["items"][0]
    if on_map < items:
        sentences.append(f"The map shows {on_map:,} of {items:,} items, drawn at random.")
    return " ".join(sentences)


def _figure(maps: Mapping[str, Mapping[str, Points]], table: pl.DataFrame) -> str:
    """A square map for each stage, side by side, with the density of each modality along its top and its right."""
    with canvas(4.3 if len(maps) == 1 else 2.95) as (figure, axes):
        axes.remove()
        ratios = [1.0, 0.22, 0.06] * len(maps)
        grid = figure.add_gridspec(2, 3 * len(maps) - 1, width_ratios=ratios[:-1], height_ratios=[0.22, 1.0])
        for place, (stage, points) in enumerate(maps.items()):
            middle = figure.add_subplot(grid[1, 3 * place])
            _cloud(middle, points)
            _margin(figure.add_subplot(grid[0, 3 * place], sharex=middle), points, 0)
            _margin(figure.add_subplot(grid[1, 3 * place + 1], sharey=middle), points, 1)
            shared = np.mean(table.filter(pl.col("stage") == stage)["overlap_on_map"].to_numpy())
            middle.set_xlabel(f"{stage}: map overlap {shared:.2f}", fontsize=9, color=INK)
        _legend(figure, list(next(iter(maps.values()))))
        text = "t-SNE of " + ", ".join(next(iter(maps.values()))) + ", " + " and ".join(maps)
        return as_svg(figure, text)


def _cloud(axes: Axes, points: Mapping[str, Points]) -> None:
    """Points as one path a modality, each a dot of a round pen: a tenth of the bytes of a marker each."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    for position, places in enumerate(points.values()):
        codes = np.tile([Path.MOVETO, Path.LINETO], len(places)).astype(Path.code_type)
        path = Path(np.repeat(places, 2, axis=0), codes)
        path.should_simplify = False
        dots: Any = PathCollection([path], facecolors="none", edgecolors=style(position)[0], linewidths=2.0, alpha=0.55)
        dots.set_capstyle("round")
        axes.add_collection(dots)
    everything = np.concatenate(list(points.values()))
    margin = 0.05 * np.ptp(everything, axis=0)
    axes.set_xlim(everything[:, 0].min() - margin[0], everything[:, 0].max() + margin[0])
    axes.set_ylim(everything[:, 1].min() - margin[1], everything[:, 1].max() + margin[1])
    axes.tick_params(labelbottom=False, labelleft=False, length=0)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(LINE)


def _margin(axes: Axes, points: Mapping[str, Points], axis: int) -> None:
    """Densities along the first (drawn on top) or second coordinate (drawn at the right)."""
    for position, places in enumerate(points.values()):
        line = places[:, [axis]]
        low, high = float(line.min()), float(line.max())
        margin = 0.15 * (high - low)
        density = _density(line, [(low - margin, high + margin)], cells=80)
        at = np.linspace(low - margin, high + margin, len(density))
        colour = style(position)[0]
        fill, plot = (axes.fill_between, (at, density)) if axis == 0 else (axes.fill_betweenx, (at, density))
        fill(*plot, color=colour, alpha=0.25, linewidth=0)
        axes.plot(*(plot if axis == 0 else plot[::-1]), color=colour, linewidth=1.1)
    axes.tick_params(labelbottom=False, labelleft=False, length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=style(position)[0], marker="o", markersize=5, linestyle="none", label=name)
        for position, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
