"""What the pages of a report hold: figures in words, tables, SVG, lists of users. No files and no HTML but SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from prismrec.data.dataset import Dataset
from prismrec.evaluate import Evaluator, protocol, seen_for
from prismrec.figures import curves
from prismrec.metrics import Metric
from prismrec.runs import Run, Scores
from prismrec.types import Reps

_LIST = 10  # places of a list that is shown
_HISTORY = 14  # titles of a history that are shown
_FAR = 100  # ranks beyond are not told


def headline(run: Run) -> list[dict[str, str]]:
    """Name, value and note of the figures at the top: the main metrics, time, memory."""
    result, main = run.result, run.main
    tiles = []
    k = Metric.parse(main).k
    for m in dict.fromkeys([main, f"recall@{k}", f"ndcg@{k}"]):
        if m in result["test"]:
            cell = with_interval(run.test, m)
            tiles.append({"name": m, "value": cell["value"], "note": cell["interval"]})
    if result["epochs"]:
        note = f"{result['epochs']} epochs of {duration(result['seconds_per_epoch'])}, best {result['best_epoch']}"
        tiles.append({"name": "Training", "value": duration(result["seconds"]), "note": note})
    else:
        tiles.append({"name": "Building", "value": duration(result["seconds"]), "note": "nothing to train"})
    note = f"{len(run.test):,} users, all items"
    tiles.append({"name": "One evaluation", "value": duration(result["seconds_per_evaluation"]), "note": note})
    peak = result["peak_memory_mb"]
    if peak is not None:
        tiles.append(
            {"name": "Peak memory", "value": f"{peak:,.0f} MB", "note": f"{result['parameters']:,} parameters"}
        )
    return tiles


def learning(run: Run) -> list[dict[str, Any]]:
    """Validation and loss by epoch; nothing for a model that is not trained."""
    figures = []
    epochs, values = run.curve(run.metric)
    if epochs:
        best = run.result["best_epoch"]
        svg = curves({run.metric: (epochs, values)}, f"validation {run.metric}", {run.metric: best})
        figures.append({"svg": svg, "title": "Validation", "caption": f"The dot is the epoch that was kept ({best})."})
    names = list(run.epochs[0]["terms"]) if run.epochs else []
    if names:
        at = [float(e["epoch"]) for e in run.epochs]
        lines = {name: (at, [e["terms"][name] for e in run.epochs]) for name in names}
        if len(names) > 1:
            lines = {"sum": (at, [e["loss"] for e in run.epochs]), **lines}
        figures.append(
            {
                "svg": curves(lines, "loss"),
                "title": "Loss",
                "caption": "Its weighted terms, mean over the rows of an epoch.",
            }
        )
    return figures


def metrics_table(run: Run) -> dict[str, Any]:
    """All test metrics: a row for each, a column for each cut-off."""
    metrics = [Metric.parse(name) for name in run.test.mean]
    cutoffs = sorted({m.k for m in metrics})
    have = {(m.name, m.k): with_interval(run.test, str(m)) for m in metrics}
    names = dict.fromkeys(m.name for m in metrics)
    rows = [{"name": name, "cells": [have.get((name, k)) for k in cutoffs]} for name in names]
    return {"cutoffs": cutoffs, "rows": rows}


Span = tuple[float, float]


def scale(scores: Sequence[Scores], metric: str, *marks: float | None) -> Span:
    """The smallest and largest value that intervals of a metric, and ``marks``, reach."""
    ends = [end for known in scores for end in known.interval(metric) or (known.mean[metric],) * 2]
    ends += [mark for mark in marks if mark is not None]
    return min(ends), max(ends)


def forest(scores: Scores, metric: str, span: Span) -> dict[str, str]:
    """The interval of a mean as a line with a dot, on the scale that a column shares: for eyes only, a cell beside says it."""
    low, high = scores.interval(metric) or (scores.mean[metric],) * 2
    return interval_mark(low, scores.mean[metric], high, span)


def interval_mark(low: float, value: float, high: float, span: Span, single: Sequence[float] = ()) -> dict[str, str]:
    """The same for ends and a middle; ``single`` values, such as those of each seed, are strokes where they fall."""
    room = span[1] - span[0] or 1.0
    a, x, b, *each = (3 + 144 * (min(max(v, span[0]), span[1]) - span[0]) / room for v in (low, value, high, *single))
    line = f'<line class="rule" x1="0" y1="9" x2="150" y2="9"/><line x1="{a:.1f}" y1="9" x2="{b:.1f}" y2="9"/>'
    if len(each) > 1:
        line += "".join(f'<line class="seed" x1="{at:.1f}" y1="3" x2="{at:.1f}" y2="15"/>' for at in each)
    return {"svg": f'<svg viewBox="0 0 150 18" aria-hidden="true">{line}<circle cx="{x:.1f}" cy="9" r="4"/></svg>'}


def lists_of_users(dataset: Dataset, lists: Mapping[str, Reps], rules: str, count: int) -> list[dict[str, Any]]:
    """Random users with held-out items: what they took, what each of ``lists`` ranks first, what it missed."""
    test = dataset.interactions.part("test")
    if count == 0:
        return []
    everyone = np.unique(test.user)
    some = np.sort(np.random.default_rng(0).choice(everyone, min(count, len(everyone)), replace=False))
    depth = min(_FAR, dataset.n_items)
    target = test.take(np.isin(test.user, some))
    evaluator = Evaluator(target, seen_for(dataset, "test", protocol(rules)), dataset.n_items, [f"recall@{depth}"])
    ranked = {name: evaluator.rank(reps) for name, reps in lists.items()}
    known = dataset.interactions.part("train", "valid")
    title = _titles(dataset)
    people = []
    for row, user in enumerate(some):
        history, held = known.item[known.user == user], set(target.item[target.user == user].tolist())
        shown = []
        for name, found in ranked.items():
            places = [(int(i), float(s)) for i, s in zip(found.items[row], found.scores[row], strict=True) if i >= 0]
            rows = [{"title": title[i], "hit": i in held, "score": f"{s:.2f}"} for i, s in places[:_LIST]]
            rank = {i: r for r, (i, _) in enumerate(places, 1)}
            missed = sorted((rank.get(i, depth + 1), title[i]) for i in held if rank.get(i, depth + 1) > _LIST)
            later = [{"title": t, "rank": f"rank {r}" if r <= depth else f"beyond {depth}"} for r, t in missed]
            shown.append({"name": name, "rows": rows, "missed": later})
        people.append(
            {
                "id": dataset.users.external[int(user)],
                "n_history": len(history),
                "history": [title[int(i)] for i in history[:_HISTORY]],
                "lists": shown,
            }
        )
    return people


def _titles(dataset: Dataset) -> list[str]:
    table = dataset.item_table
    if "title" not in table.columns:
        return [str(i) for i in dataset.items.external]
    return [t or str(i) for t, i in zip(table["title"].cast(pl.String), dataset.items.external, strict=True)]


def with_interval(scores: Scores, metric: str) -> dict[str, Any]:
    """A mean and its interval as text, and the mean as it is."""
    value, ends = scores.mean[metric], scores.interval(metric)
    digits = 4 if abs(value) < 10 else 1
    text = "" if ends is None else f"{ends[0]:.{digits}f}–{ends[1]:.{digits}f}"
    return {"value": f"{value:.{digits}f}", "interval": text, "number": repr(float(value))}


def rows_of(table: pl.DataFrame, most: int) -> dict[str, Any]:
    """A table as text: its columns, its first rows, and how many it has."""
    rows = [[short(cell) for cell in row] for row in table.head(most).iter_rows()]
    return {"columns": table.columns, "rows": rows, "height": table.height}


def short(value: Any) -> str:
    """A cell as text: four decimals, fewer where the number is large, three digits where it is small; a tick for True."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "✓" if value else ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if abs(value) >= 100:
        return f"{value:,.1f}"
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.3g}"


def duration(value: float) -> str:
    """Seconds as text, in the unit that suits them."""
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted keys and values of a nested table."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows
