"""What the pages of a report hold: figures in words, tables, SVG, lists of users. No files and no HTML but SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from prismrec.compare import bootstrap_means, interval
from prismrec.data.dataset import Dataset
from prismrec.evaluate import Evaluation, Evaluator, protocol, seen_for
from prismrec.figures import bars, curves, scatter
from prismrec.metrics import Metric
from prismrec.runs import Run, Scores
from prismrec.types import Reps

_GROUPS = 5  # of users by activity
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
        figures.append(
            {"svg": svg, "caption": f"Validation, epoch by epoch. The dot is the epoch that was kept ({best})."}
        )
    names = list(run.epochs[0]["terms"]) if run.epochs else []
    if names:
        at = [float(e["epoch"]) for e in run.epochs]
        lines = {name: (at, [e["terms"][name] for e in run.epochs]) for name in names}
        if len(names) > 1:
            lines = {"sum": (at, [e["loss"] for e in run.epochs]), **lines}
        figures.append(
            {"svg": curves(lines, "loss"), "caption": "Weighted loss terms, mean over the rows of an epoch."}
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


def activity(run: Run, dataset: Dataset) -> dict[str, Any]:
    """The main metric of users in groups by their number of training interactions."""
    groups = _by_activity(run.test, dataset)
    values = run.test.values(run.main)
    ends = [interval(bootstrap_means(values[rows])) for _, rows in groups]
    svg = bars(
        [name for name, _ in groups],
        [float(values[rows].mean()) for _, rows in groups],
        [float(low) for low, _ in ends],
        [float(high) for _, high in ends],
        f"test {run.main}",
    )
    sizes = [len(rows) for _, rows in groups]
    caption = f"By a user's number of training interactions, in groups of {min(sizes):,} to {max(sizes):,} users."
    return {"svg": svg, "caption": caption}


def _by_activity(scores: Scores, dataset: Dataset) -> list[tuple[str, np.ndarray]]:
    """Users in groups of about equal size by their training interactions: the range of each group and its rows."""
    known = np.bincount(dataset.interactions.part("train").user, minlength=dataset.n_users)
    counts = known[dataset.users.encode(scores.per_user["user"])]
    edges = np.unique(np.quantile(counts, np.linspace(0, 1, _GROUPS + 1)).astype(np.int64))
    group = np.searchsorted(edges[1:-1], counts, side="right")
    rows = [np.flatnonzero(group == g) for g in np.unique(group)]
    spans = [(counts[r].min(), counts[r].max()) for r in rows]
    return [(f"{a}–{b}" if a < b else f"{a}", r) for (a, b), r in zip(spans, rows, strict=True)]


def board_figures(
    runs: Sequence[Run], labels: Sequence[str], metric: str, oracle: Evaluation | None, dataset: Dataset
) -> list[dict[str, Any]]:
    """Of several runs, best first: bars with the oracle, quality against cost, learning, users by activity."""
    values = [run.test.mean[metric] for run in runs]
    ends = [run.test.interval(metric) or (value, value) for run, value in zip(runs, values, strict=True)]
    low, high = [a for a, _ in ends], [b for _, b in ends]
    mark = None if oracle is None else ("oracle", oracle.mean[metric])
    figures = [{"svg": bars(labels, values, low, high, f"test {metric}", mark), "caption": "With 95 % intervals."}]
    seconds = [max(run.result["seconds"], 1e-3) for run in runs]
    svg = scatter(labels, seconds, values, "seconds of training (or building)", f"test {metric}")
    figures.append({"svg": svg, "caption": "Quality against cost: higher is better, further left is cheaper."})
    chosen = runs[0].metric
    lines = {label: run.curve(chosen) for run, label in zip(runs, labels, strict=True) if run.curve(chosen)[0]}
    if lines:
        kept = {label: run.result["best_epoch"] for run, label in zip(runs, labels, strict=True) if label in lines}
        svg = curves(lines, f"validation {chosen}", kept, order=labels)
        figures.append({"svg": svg, "caption": "Validation, epoch by epoch; dots are the epochs that were kept."})
    groups = _by_activity(runs[0].test, dataset)
    if all(metric in run.test.per_user for run in runs):
        at = [float(g) for g in range(len(groups))]
        lines = {
            label: (at, [float(run.test.values(metric)[rows].mean()) for _, rows in groups])
            for run, label in zip(runs, labels, strict=True)
        }
        svg = curves(
            lines,
            f"test {metric}",
            x="training interactions of a user",
            ticks=[name for name, _ in groups],
            order=labels,
        )
        figures.append({"svg": svg, "caption": "Users in groups of about equal size by how much is known of them."})
    return figures


def lists_of_users(dataset: Dataset, lists: Mapping[str, Reps], rules: str, count: int) -> list[dict[str, Any]]:
    """Random users with held-out items: what they took, what each of ``lists`` ranks first, what it missed."""
    test = dataset.interactions.part("test")
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
    """A mean and its interval as text."""
    value, ends = scores.mean[metric], scores.interval(metric)
    digits = 4 if abs(value) < 10 else 1
    text = "" if ends is None else f"{ends[0]:.{digits}f}–{ends[1]:.{digits}f}"
    return {"value": f"{value:.{digits}f}", "interval": text}


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
