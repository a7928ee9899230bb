"""The page of several runs on the same data, a seed each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prismrec import panels
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError, nearest
from prismrec.evaluate import Evaluation, protocol
from prismrec.figures import bars, curves, scatter
from prismrec.report.page import write_page
from prismrec.run_folder import check_same_data
from prismrec.runs import Run, Scores
from prismrec.studies.groups import rows_by_group
from prismrec.types import Reps

SHOWN = ("recall@20", "ndcg@20", "hitrate@20", "coverage@20")
"""Columns of a leaderboard, where the runs have them."""


def write_leaderboard(
    out_dir: str | Path,
    runs: Sequence[str | Path],
    dataset: Dataset,
    *,
    title: str = "Leaderboard",
    about: str = "",
    metric: str = "recall@20",
    oracle: Evaluation | None = None,
    truth: Reps | None = None,
    users: int = 6,
) -> Path:
    """Write ``index.html`` into ``out_dir``: finished runs on one data set under one protocol, best ``metric`` first.

    ``about``: what a reader should know of the data. ``oracle``: the best achievable, where the truth is known;
    ``truth``: its representations, whose lists are then shown beside those of the best run. Runs whose ``report.html``
    exists are linked.
    """
    read = [Run.read(folder) for folder in runs]
    if not read:
        raise PrismError("A leaderboard needs at least one finished run; none was given.")
    _comparable(read, dataset)
    common = [m for m in read[0].test.mean if all(m in run.test.mean for run in read)]
    if metric not in common:
        raise PrismError(f"Not all runs have the test metric {metric!r}. {nearest(metric, common)}")
    read.sort(key=lambda run: -run.test.mean[metric])
    labels = _labels(read)
    best = read[0]
    lists = {f"{labels[0]} recommends": best.reps} | ({"Best possible list": truth} if truth is not None else {})
    metrics = [m for m in dict.fromkeys([metric, *SHOWN]) if m in common and (oracle is None or m in oracle.mean)]
    rules = str(best.result["protocol"])
    return write_page(
        Path(out_dir) / "index.html",
        "leaderboard.html",
        title=title,
        about=about,
        says=_says(read, labels, metric, None if oracle is None else oracle.mean[metric]),
        what=_data_line(dataset, rules),
        metrics=metrics,
        has_oracle=oracle is not None,
        rows=leaderboard_rows(read, labels, metrics, oracle, Path(out_dir)),
        n_users=f"{len(best.test):,}",
        figures=board_figures(read, labels, metric, oracle, dataset),
        users=panels.lists_of_users(dataset, lists, rules, users),
    )


def leaderboard_rows(
    runs: Sequence[Run],
    labels: Sequence[str],
    metrics: Sequence[str],
    oracle: Evaluation | None = None,
    out_dir: Path | None = None,
) -> list[dict[str, Any]]:
    """Rows of a table, in order: label, cells (value, interval, best, tied), share of the oracle, costs, link.

    The first of ``metrics`` is the one that ``share`` is about. The oracle's row comes last.
    """
    best = {m: max(runs, key=lambda run: run.test.mean[m]) for m in metrics}
    top = None if oracle is None else oracle.mean[metrics[0]]
    scale = panels.scale([run.test for run in runs], metrics[0], top)
    rows = []
    for run, label in zip(runs, labels, strict=True):
        cells = []
        for m in metrics:
            close = run is not best[m] and run.test.indistinct(best[m].test, m)
            cells.append({**panels.with_interval(run.test, m), "best": run is best[m], "tied": close})
        report = run.folder / "report.html"
        linked = out_dir is not None and report.is_file()
        rows.append(
            {
                "label": label,
                "link": Path(os.path.relpath(report, out_dir)).as_posix() if linked and out_dir is not None else None,
                "cells": cells,
                "share": "" if top is None else f"{run.test.mean[metrics[0]] / top:.0%}",
                "forest": panels.forest(run.test, metrics[0], scale),
                "costs": _costs(run),
                "seconds": panels.duration(run.result["seconds"]),
                "oracle": False,
            }
        )
    if oracle is not None:
        known = Scores.of(oracle)
        cells = [{**panels.with_interval(known, m), "best": False, "tied": False} for m in metrics]
        drawn = panels.forest(known, metrics[0], scale)
        costs = [{"number": "", "value": ""}] * 3
        rows.append({"label": "oracle", "link": None, "cells": cells, "share": "100%", "forest": drawn, "costs": costs,
                     "seconds": "", "oracle": True})  # fmt: skip
    return rows


def _costs(run: Run) -> list[dict[str, str]]:
    """Epochs, time per epoch and in all: what is shown, and what it is sorted by."""
    result = run.result
    each = result["seconds_per_epoch"] if result["epochs"] else None
    return [
        {"number": str(result["epochs"]), "value": str(result["epochs"] or "–")},
        {"number": "" if each is None else str(each), "value": "–" if each is None else panels.duration(each)},
        {"number": str(result["seconds"]), "value": panels.duration(result["seconds"])},
    ]


def _says(runs: Sequence[Run], labels: Sequence[str], metric: str, best: float | None) -> list[str]:
    """Who is first, who cannot be told from it, and how far it is above what needs no training."""
    first = runs[0]
    told = f"{labels[0]} is first of {len(runs)} in {metric}, with {first.test.mean[metric]:.4f}"
    told += (
        "." if best is None else f", {first.test.mean[metric] / best:.0%} of the best that anybody could reach here."
    )
    tied = [label for run, label in zip(runs[1:], labels[1:], strict=True) if run.test.indistinct(first.test, metric)]
    if tied:
        told += f" These users do not tell it from {' and '.join(tied) if len(tied) < 3 else f'{len(tied)} others (marked ≈)'}."
    floor = next(((run, label) for run, label in zip(runs, labels, strict=True) if not run.result["epochs"]), None)
    if floor is None or floor[0] is first:
        return [told]
    gain = first.test.mean[metric] / floor[0].test.mean[metric] - 1 if floor[0].test.mean[metric] > 0 else None
    against = "" if gain is None else f"; the first one is {gain:+.0%} against it"
    return [
        told,
        f"The strongest model that needs no training is {floor[1]}, with {floor[0].test.mean[metric]:.4f}{against}.",
    ]


def board_figures(
    runs: Sequence[Run], labels: Sequence[str], metric: str, oracle: Evaluation | None, dataset: Dataset
) -> list[dict[str, Any]]:
    """Of several runs, best first: bars with the oracle, quality against cost, learning, users by activity."""
    values = [run.test.mean[metric] for run in runs]
    ends = [run.test.interval(metric) or (value, value) for run, value in zip(runs, values, strict=True)]
    low, high = [a for a, _ in ends], [b for _, b in ends]
    mark = None if oracle is None else ("oracle", oracle.mean[metric])
    svg = bars(labels, values, low, high, f"test {metric}", mark)
    figures = [{"svg": svg, "title": "How good", "caption": "With 95 % intervals over users."}]
    seconds = [max(run.result["seconds"], 1e-3) for run in runs]
    svg = scatter(labels, seconds, values, "seconds of training (or building)", f"test {metric}", front=True)
    caption = "Higher is better, further left is cheaper. Nothing beats the dashed line at its price."
    figures.append({"svg": svg, "title": "Quality against cost", "caption": caption})
    chosen = runs[0].metric
    lines = {label: run.curve(chosen) for run, label in zip(runs, labels, strict=True) if run.curve(chosen)[0]}
    if lines:
        kept = {label: run.result["best_epoch"] for run, label in zip(runs, labels, strict=True) if label in lines}
        svg = curves(lines, f"validation {chosen}", kept, order=labels)
        figures.append({"svg": svg, "title": "Learning", "caption": "Validation; dots are the epochs that were kept."})
    if all(metric in run.test.per_user for run in runs):
        user = dataset.users.encode(runs[0].test.per_user["user"])
        groups = {label: rows for (by, label), rows in rows_by_group(dataset, "test", user).items() if by == "activity"}
        at = [float(g) for g in range(len(groups))]
        lines = {
            label: (at, [float(run.test.values(metric)[rows].mean()) for rows in groups.values()])
            for run, label in zip(runs, labels, strict=True)
        }
        svg = curves(
            lines,
            f"test {metric}",
            x="training interactions of a user",
            ticks=[name.partition(" training")[0] for name in groups],
            order=labels,
        )
        caption = "Users in groups of about equal size by their number of training interactions."
        figures.append({"svg": svg, "title": "By how much is known of a user", "caption": caption})
    return figures


def _comparable(runs: Sequence[Run], dataset: Dataset) -> None:
    for run in runs:
        check_same_data(run.folder, {"fingerprint": run.result["data_fingerprint"]}, dataset)
    rules = {run.result["protocol"] for run in runs}
    if len(rules) > 1:
        raise PrismError(
            f"These runs follow different protocols ({', '.join(sorted(rules))}), whose numbers do not compare; "
            "give runs of one protocol, or evaluate them again under one."
        )


def _labels(runs: Sequence[Run]) -> list[str]:
    """Label of each run; those of one name are told apart by seed, or else by folder."""
    plain = [run.label for run in runs]
    seeded = [f"{run.label} (seed {run.result['seed']})" if plain.count(run.label) > 1 else run.label for run in runs]
    return [
        f"{run.label} ({run.folder.name})" if seeded.count(name) > 1 else name
        for run, name in zip(runs, seeded, strict=True)
    ]


def _data_line(dataset: Dataset, rules: str) -> str:
    n = len(dataset.interactions)
    share = n / (dataset.n_users * dataset.n_items)
    known = ", ".join(f"{m} ({v.width}-d, {v.present.mean():.0%} of items)" for m, v in dataset.modalities.items())
    return (
        f"{dataset.name}: {dataset.n_users:,} users, {dataset.n_items:,} items, {n:,} interactions ({share:.2%} of all "
        f"pairs); features: {known or 'none'}. Protocol “{rules}”: all items are ranked but those masked "
        f"({' and '.join(protocol(rules).masks['test'])})."
    )
