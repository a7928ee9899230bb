"""One self-contained HTML page of a run, of several runs, of a diagnosis: no network, light and dark, wide and narrow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prismrec import __version__, panels
from prismrec.data.dataset import Dataset
from prismrec.diagnostics import Diagnosis, Subject
from prismrec.errors import PrismError, nearest
from prismrec.evaluate import Evaluation, protocol
from prismrec.figures import PALETTE, standalone
from prismrec.io import atomic, write_text
from prismrec.run_folder import check_same_data
from prismrec.runs import Run, Scores
from prismrec.types import Reps

_ROWS = 60  # of a table that a page shows; its file holds all

SHOWN = ("recall@20", "ndcg@20", "hitrate@20", "coverage@20")
"""Columns of a leaderboard, where the runs have them."""


def write_run_report(run_dir: str | Path, dataset: Dataset, users: int = 6) -> Path:
    """Write ``report.html`` into a run folder; ``dataset`` is the one that it was trained on.

    ``users``: how many are shown with their lists, drawn at random.
    """
    run = Run.read(run_dir)
    check_same_data(run.folder, {"fingerprint": run.result["data_fingerprint"]}, dataset)
    result = run.result
    page = _render(
        "run.html",
        title=f"{run.label} on {result['data']}",
        label=run.label,
        result=result,
        what=_what(result, run.environment),
        tiles=panels.headline(run),
        n_users=f"{len(run.test):,}",
        curves=panels.learning(run),
        table=panels.metrics_table(run),
        activity=panels.activity(run, dataset),
        users=panels.lists_of_users(dataset, {"Recommended": run.reps}, str(result["protocol"]), users),
        settings=panels.flat(result["config"]),
        environment=panels.flat(run.environment),
    )
    return _write(run.folder / "report.html", page)


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
    page = _render(
        "leaderboard.html",
        title=title,
        about=about,
        what=_data_line(dataset, rules),
        metrics=metrics,
        has_oracle=oracle is not None,
        rows=leaderboard_rows(read, labels, metrics, oracle, Path(out_dir)),
        n_users=f"{len(best.test):,}",
        figures=panels.board_figures(read, labels, metric, oracle, dataset),
        users=panels.lists_of_users(dataset, lists, rules, users),
    )
    return _write(Path(out_dir) / "index.html", page)


def write_diagnosis(out_dir: str | Path, diagnosis: Diagnosis) -> Path:
    """Write ``index.html`` into ``out_dir``, and beside it each table (CSV, Parquet) and each figure (SVG) by name."""
    folder, subject = Path(out_dir), diagnosis.subject
    for finding in diagnosis.findings:
        with atomic(folder / f"{finding.name}.csv") as part:
            finding.table.write_csv(part)
        with atomic(folder / f"{finding.name}.parquet") as part:
            finding.table.write_parquet(part)
        for number, svg in enumerate(finding.figures, 1):
            write_text(folder / f"{finding.name}-{number}.svg", standalone(svg))
    page = _render(
        "diagnosis.html",
        title=f"{subject.label} on {subject.dataset.name}: diagnosis",
        label=subject.label,
        data=subject.dataset.name,
        what=_how(subject),
        findings=[
            {
                "name": finding.name,
                "title": finding.title,
                "says": finding.says,
                "figures": [{"svg": svg} for svg in finding.figures],
                "table": panels.rows_of(finding.table, _ROWS),
            }
            for finding in diagnosis.findings
        ],
        skipped=[list(pair) for pair in diagnosis.skipped],
        settings=[] if subject.config is None else panels.flat(subject.config.tree()),
    )
    return _write(folder / "index.html", page)


def leaderboard_rows(
    runs: Sequence[Run],
    labels: Sequence[str],
    metrics: Sequence[str],
    oracle: Evaluation | None = None,
    out_dir: Path | None = None,
) -> list[dict[str, Any]]:
    """Rows of a table, in order: label, cells (value, interval, best, tied), share of the oracle, cost, link.

    The first of ``metrics`` is the one that ``share`` is about. The oracle's row comes last.
    """
    best = {m: max(runs, key=lambda run: run.test.mean[m]) for m in metrics}
    top = None if oracle is None else oracle.mean[metrics[0]]
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
                "epochs": run.result["epochs"] or "–",
                "per_epoch": panels.duration(run.result["seconds_per_epoch"]) if run.result["epochs"] else "–",
                "seconds": panels.duration(run.result["seconds"]),
                "oracle": False,
            }
        )
    if oracle is not None:
        known = Scores.of(oracle)
        cells = [{**panels.with_interval(known, m), "best": False, "tied": False} for m in metrics]
        empty = dict.fromkeys(("epochs", "per_epoch", "seconds"), "")
        rows.append({"label": "oracle", "link": None, "cells": cells, "share": "100%", **empty, "oracle": True})
    return rows


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


def _what(result: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    device = environment.get("cuda") if result["config"]["run"]["device"] != "cpu" else None
    stopped = f" It stopped: {result['stopped']}." if result["epochs"] else ""
    return (
        f"Seed {result['seed']}, protocol “{result['protocol']}”, on {device or 'CPU'}; "
        f"data fingerprint {result['data_fingerprint']}.{stopped}"
    )


def _how(subject: Subject) -> str:
    """What a diagnosis looks at, in a paragraph."""
    view = subject.view
    if subject.reps is None:
        return f"Data alone: nothing was trained. Data fingerprint {subject.dataset.fingerprint}."
    left_out = " and ".join({"train": "training", "valid": "validation"}[p] for p in subject.rules.masks[view.part])
    part = {"valid": "the validation part; the test part was not opened", "test": "the TEST part, as was asked for"}
    return (
        f"The epoch that validation chose. Hits are those of {part[view.part]}. Lists hold {view.k} items; "
        f"{f'a user’s {left_out} items are left out' if view.masked else 'nothing is left out of them'}."
    )


def _data_line(dataset: Dataset, rules: str) -> str:
    n = len(dataset.interactions)
    share = n / (dataset.n_users * dataset.n_items)
    known = ", ".join(f"{m} ({v.width}-d, {v.present.mean():.0%} of items)" for m, v in dataset.modalities.items())
    return (
        f"{dataset.name}: {dataset.n_users:,} users, {dataset.n_items:,} items, {n:,} interactions ({share:.2%} of all "
        f"pairs); features: {known or 'none'}. Protocol “{rules}”: all items are ranked but those masked "
        f"({' and '.join(protocol(rules).masks['test'])})."
    )


def _render(template: str, **values: Any) -> str:
    import jinja2
    from markupsafe import Markup

    def safe(value: Any) -> Any:
        """SVG comes from ``figures`` and is markup; everything else is text and is escaped."""
        if isinstance(value, dict):
            return {k: Markup(v) if k == "svg" else safe(v) for k, v in value.items()}
        return [safe(v) for v in value] if isinstance(value, list) else value

    folder = jinja2.PackageLoader("prismrec", "templates")
    environment = jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.get_template(template)
    colours = Markup(PALETTE)
    return page.render(version=__version__, palette=colours, **{k: safe(v) for k, v in values.items()})


def _write(path: Path, page: str) -> Path:
    write_text(path, page)
    return path
