"""Points with labels that give way to each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from prismrec.figures.canvas import INK, LINE, MUTED, SERIES, as_svg, canvas, plain_numbers

_ALL, _SOME = 14, 10  # labels of a scatter plot: of up to so many points all, of more the best so many


def scatter(names: Sequence[str], xs: Sequence[float], ys: Sequence[float], x: str, y: str, front: bool = False) -> str:
    """A labelled point for each name, x on a logarithmic axis; labels give way to each other.

    ``front``: a line through those that no other is both above and to the left of. Of more than fourteen points only
    those and the highest have a label.
    """
    with canvas(3.6) as (figure, axes):
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
        axes.scatter(xs, ys, s=34, color=SERIES[0], zorder=3)
        best = _front(xs, ys) if front else []
        if front:
            line = [xs[k] for k in best], [ys[k] for k in best]
            axes.plot(*line, color=SERIES[2], linewidth=1.5, linestyle=(0, (4, 2)), drawstyle="steps-post", zorder=2)
        span = (max(ys) - min(ys)) or abs(max(ys)) or 1.0
        axes.set_ylim(min(ys) - 0.1 * span, max(ys) + 0.12 * span)
        axes.set_xlim(min(xs) / 1.6, max(xs) * 1.6)
        figure.draw_without_rendering()  # settles the layout, so that places on the axes are known
        points = axes.transAxes.inverted().transform(axes.transData.transform(list(zip(xs, ys, strict=True))))
        box = axes.get_window_extent()
        letter = (0.6 * 9 / 72 * figure.dpi / box.width, 1.25 * 9 / 72 * figure.dpi / box.height)
        spots, told = points.tolist(), _told(ys, best)
        others = [(spots[k][0], spots[k][1]) for k in range(len(names)) if k not in told] + _steps(spots, best)
        places = labels([spots[k] for k in told], [len(names[k]) for k in told], letter, others)
        for k, place in zip(told, places, strict=True):
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


def cloud(xs: Sequence[Any], ys: Sequence[float], x: str, y: str) -> str:
    """A point for each pair, the best one in another colour; a logarithmic x where it spans 30-fold, words side by side."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in xs)
    with canvas(2.5, 3.6) as (figure, axes):
        names = [] if numbers else list(dict.fromkeys(map(str, xs)))
        places = list(xs) if numbers else [names.index(str(v)) for v in xs]
        if numbers and min(places) > 0 and max(places) >= 30 * min(places):
            axes.set_xscale("log")
            plain_numbers(axes.xaxis, max(places) / min(places))
        best = max(range(len(ys)), key=lambda k: ys[k])
        axes.scatter(places, ys, s=22, color=SERIES[0], alpha=0.7, linewidths=0)
        axes.scatter(places[best], ys[best], s=44, color=SERIES[1], zorder=3)
        if names:
            axes.set_xticks(range(len(names)), names)
            axes.margins(x=0.15)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(color=LINE, linewidth=0.7)
        return as_svg(figure, f"{y} of {len(ys)} trials by {x}: the best {ys[best]:.4f} at {xs[best]}")


def _front(xs: Sequence[float], ys: Sequence[float]) -> list[int]:
    """Points with nothing better at their price or below it, cheapest first."""
    front: list[int] = []
    for k in sorted(range(len(xs)), key=lambda k: (xs[k], -ys[k])):
        if not front or ys[k] > ys[front[-1]]:
            front.append(k)
    return front


def _told(ys: Sequence[float], front: Sequence[int]) -> list[int]:
    """Which points have a label: all, or of many the front and the highest, in their order."""
    if len(ys) <= _ALL:
        return list(range(len(ys)))
    highest = sorted(range(len(ys)), key=lambda k: -ys[k])
    return sorted(list(dict.fromkeys([*front, *highest]))[: max(len(front), _SOME)])


def _steps(points: Sequence[Sequence[float]], front: Sequence[int]) -> list[tuple[float, float]]:
    """Places along the line through the front: labels give way to it, too."""
    places = []
    for a, b in pairwise(front):
        (x, y), (right, up) = points[a], points[b]
        places += [(x + (right - x) * step / 24, y) for step in range(2, 25)]
        places += [(right, y + (up - y) * step / 12) for step in range(11)]
    return places


def labels(
    points: Sequence[Sequence[float]],
    lengths: Sequence[int],
    letter: tuple[float, float],
    others: Sequence[tuple[float, float]] = (),
) -> list[tuple[float, float]]:
    """Centres of labels on the unit square: each the nearest place that hides no point and no earlier label.

    ``lengths`` in letters, ``letter``: width and height of one. Where nothing is free, the least covered place is taken.
    """
    dot = 0.012
    taken = [(x - dot, y - dot, x + dot, y + dot) for x, y in points]
    taken += [(x - dot / 3, y - dot / 3, x + dot / 3, y + dot / 3) for x, y in others]
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
