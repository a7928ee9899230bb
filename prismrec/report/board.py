"""The page of a comparison: a ``Board`` for the eye, with the learning, settings and diagnoses of the runs behind it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prismrec import panels
from prismrec.figures import curves, differences, heatmap, scatter
from prismrec.report.diagnosis import saved_findings
from prismrec.report.page import write_page
from prismrec.run_folder import finished
from prismrec.runs import Run
from prismrec.studies import sheets
from prismrec.studies.board import Board
from prismrec.studies.row import Comparison, Row
from prismrec.studies.sheets import Cell, Sheet

_CURVES = 8  # arms whose learning is drawn: as many as there are colours
_GROUPS = {
    "activity": ("By how much is known of a user", "training items of a user"),
    "popularity": ("By how popular the targets are", "mean training users of a user’s targets"),
    "cold items": ("By the coldest target", "training users of a user’s rarest target"),
}
"""Grouping → title of its heat map, and what its columns are."""


def write_board(
    path: str | Path,
    board: Board,
    title: str = "Comparison",
    command: str = "",
    more: Sequence[Mapping[str, Any]] = (),
    last: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the page of a board to ``path``; ``command`` is what makes it again.

    ``more``: sections of a study's own (``name``, ``title``, ``note``, ``figures``, ``clouds``, ``sheets``, and ``folds``:
    such sections again), which come after the leaderboard; ``last``: those after the costs. Runs are read where they are
    still found, in ``runs`` beside the page or in the folders that the board names.
    """
    path = Path(path)
    runs = {row.arm: found for row in board.rows if (found := _runs(row, path.parent))}
    looked = {arm: of_arm[0].folder / "diagnosis" for arm, of_arm in runs.items()}
    return write_page(
        path,
        "board.html",
        title=f"{title} on {board.data.name}",
        heading=title,
        data=board.data.name,
        says=said(board),
        facts=_facts(board),
        table=_leaderboard(board, runs, path.parent),
        figures=_figures(board, runs),
        gains=sheet(sheets.gains(board)),
        rivals=sheet(sheets.rivals(board)),
        groups=group_maps(board),
        by_group=[sheet(found) for found in sheets.by_group(board)],
        costs=sheet(sheets.costs(board)),
        more=list(more),
        last=list(last),
        diagnoses=[
            {"arm": arm, "link": _link(folder / "index.html", path.parent), "findings": findings}
            for arm, folder in looked.items()
            if (findings := saved_findings(folder))
        ],
        settings=[(arm, panels.flat(of_arm[0].result["config"])) for arm, of_arm in runs.items()],
        environment=panels.flat(next(iter(runs.values()))[0].environment) if runs else [],
        command=command,
    )


def said(board: Board) -> list[str]:
    """What a board comes to, in words."""
    best, metric = board.best, board.metric
    value = best.metrics[metric]
    spread = "" if value.sd is None else f" ± {value.sd:.4f} over {len(best.seeds)} seeds"
    first = f"{best.arm} is first of {len(board.rows)} in {metric}, with {value.mean:.4f}{spread}."
    close = [r.arm for r in board.rows if metric in r.against_best and r.against_best[metric].verdict == 0]
    if close:
        first += f" No test tells it from {_listed(close)}."
    elif len(board.rows) > 1:
        first += " It is significantly better than every other."
    told = [first]
    built = [(r, r.against_host[metric]) for r in board.rows if r.plugins and metric in r.against_host]
    if built:
        told.append(_plugins(built, metric))
    floors = [row for row in board.rows if not row.cost.parameters]
    if floors and floors[0] is not best:
        base = floors[0].metrics[metric].mean
        gain = "" if base <= 0 else f": the first one is {value.mean / base - 1:+.1%} against it"
        told.append(f"The strongest arm without training is {floors[0].arm}, with {base:.4f}{gain}.")
    single = [row.arm for row in board.rows if len(row.seeds) == 1 and row.cost.parameters]
    if single:
        told.append(f"One seed stands behind {_listed(single)}: another one may order them otherwise.")
    return told


def _plugins(built: Sequence[tuple[Row, Comparison]], metric: str) -> str:
    """How many plug-ins help."""
    up, down = ([row.arm for row, found in built if found.verdict == sign] for sign in (1, -1))
    parts = [f"{_listed(arms)} significantly {word}" for arms, word in ((up, "better"), (down, "worse")) if arms]
    rest = len(built) - len(up) - len(down)
    if rest:
        parts.append(f"{rest} of {len(built)} neither" if parts else f"none of {len(built)} differs significantly")
    return f"Plug-ins against their hosts in {metric}: {'; '.join(parts)}."


def _listed(names: Sequence[str], most: int = 3) -> str:
    some = list(names[:most]) + ([f"{len(names) - most} more"] if len(names) > most else [])
    return some[0] if len(some) == 1 else f"{', '.join(some[:-1])} and {some[-1]}"


def _facts(board: Board) -> list[tuple[str, str]]:
    seeds = sorted({len(row.seeds) for row in board.rows if row.cost.parameters}) or [1]
    return [
        ("users", f"{board.data.users:,}"),
        ("items", f"{board.data.items:,}"),
        ("interactions", f"{board.data.interactions:,}"),
        ("part", board.part),
        ("protocol", board.protocol),
        ("seeds", "–".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))),
        ("data fingerprint", board.data.fingerprint),
    ]


def _runs(row: Row, folder: Path) -> list[Run]:
    """Finished runs of an arm that can still be found; those beside the page first, for a study may have been copied."""
    places = [
        (folder / "runs" / row.arm / f"seed-{seed}", Path(known))
        for known, seed in zip(row.folders, row.seeds, strict=True)
    ]
    there = [next((place for place in both if finished(place)), None) for both in places]
    return [Run.read(place) for place in there if place is not None]


def _link(target: Path, folder: Path) -> str | None:
    return Path(os.path.relpath(target, folder)).as_posix() if target.is_file() else None


def sheet(found: Sheet) -> dict[str, Any]:
    """A sheet for its template."""
    rows = [[_cell(cell) for cell in row] for row in found.rows]
    return {"name": found.name, "title": found.title, "note": found.note, "columns": list(found.columns), "rows": rows}


def _cell(cell: Cell) -> dict[str, Any]:
    return {"text": cell.text, "aside": cell.aside, "marks": cell.marks, "place": ("", "best", "second")[cell.place]}


def _leaderboard(board: Board, runs: Mapping[str, Sequence[Run]], folder: Path) -> dict[str, Any]:
    """The sheet of the board with a picture of the main metric, links to the runs, and what a run costs."""
    made = sheet(sheets.leaderboard(board))
    found = [row.metrics[board.metric] for row in board.rows]
    ends = [(one.mean if one.low is None else one.low, one.mean if one.high is None else one.high) for one in found]
    span = min(low for low, _ in ends), max(high for _, high in ends)
    rows = []
    for row, cells, one, (low, high) in zip(board.rows, made["rows"], found, ends, strict=True):
        pages = [_link(run.folder / "report.html", folder) for run in runs.get(row.arm, ())]
        rows.append(
            {
                "cells": cells,
                "link": next(filter(None, pages), None),
                "forest": panels.interval_mark(low, one.mean, high, span, one.runs),
                "seconds": row.cost.seconds,
                "time": panels.duration(row.cost.seconds),
            }
        )
    return {**made, "rows": rows, "metric": board.metric}


def _figures(board: Board, runs: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """Gains over hosts, quality against cost, learning."""
    metric, figures = board.metric, []
    found = [(row, row.against_host[metric]) for row in board.rows if metric in row.against_host]
    if found:
        names = [f"{row.arm} – {c.other}" for row, c in found]
        ends = [c.low for _, c in found], [c.high for _, c in found]
        sure = [c.verdict != 0 for _, c in found]
        svg = differences(names, [c.mean for _, c in found], *ends, f"difference in {metric}", sure)
        caption = (
            "Paired difference with its 95 % interval over users. Full: significant, corrected by Holm; hollow: not."
        )
        figures.append({"svg": svg, "title": "Gain over the host", "caption": caption})
    names = [row.arm for row in board.rows]
    seconds = [max(row.cost.seconds, 1e-3) for row in board.rows]
    values = [row.metrics[metric].mean for row in board.rows]
    svg = scatter(names, seconds, values, "seconds of a training (or building)", f"{board.part} {metric}", front=True)
    caption = "Higher is better, further left is cheaper. Nothing beats the dashed line at its price."
    figures.append({"svg": svg, "title": "Quality against cost", "caption": caption})
    drawn = learning(runs)
    if drawn is not None:
        figures.append(drawn)
    return figures


def learning(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any] | None:
    """Validation by epoch: the mean over seeds as far as all of them go, between the least and the most of them."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    bands: dict[str, tuple[list[float], list[float]]] = {}
    metric = next(iter(runs.values()))[0].metric if runs else ""
    for arm, of_arm in runs.items():
        known = [dict(zip(*run.curve(metric), strict=True)) for run in of_arm]
        epochs = sorted(set.intersection(*map(set, known)))
        if epochs and len(lines) < _CURVES:
            values = np.array([[curve[epoch] for epoch in epochs] for curve in known])
            lines[arm] = epochs, values.mean(0).tolist()
            if len(known) > 1:
                bands[arm] = values.min(0).tolist(), values.max(0).tolist()
    if not lines:
        return None
    caption = "Mean over seeds, as far as all of them were trained; the band goes from the worst to the best seed."
    if len(lines) == _CURVES:
        caption += f" The first {_CURVES} arms."
    svg = curves(lines, f"validation {metric}", bands=bands)
    return {"svg": svg, "title": "Learning", "caption": caption}


def group_maps(board: Board) -> list[dict[str, Any]]:
    """Gains over hosts in each group of users: a heat map for each grouping that tells users apart."""
    found = [(row, c) for row in board.rows if (c := row.against_host.get(board.metric)) is not None]
    figures = []
    for by, (title, what) in _GROUPS.items():
        places = [i for i, group in enumerate(board.groups) if group.by == by]
        if len(places) < 2 or not found:
            continue
        values = [[c.groups[i].mean for i in places] for _, c in found]
        columns = [board.groups[i].label.partition(" training")[0] for i in places]
        svg = heatmap(
            values,
            [row.arm for row, _ in found],
            columns,
            f"gain in {board.metric} over the host",
            what,
            diverging=True,
            form="+.3f",
            mark="none",
        )
        caption = f"{sum(board.groups[i].users for i in places):,} users. Blue: better than the host; orange: worse."
        figures.append({"svg": svg, "title": title, "caption": caption})
    return figures
