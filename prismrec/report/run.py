"""The page of a run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from prismrec import panels
from prismrec.compare import bootstrap_means, interval
from prismrec.data.dataset import Dataset
from prismrec.figures import bars
from prismrec.metrics import Metric
from prismrec.report.diagnosis import saved_findings
from prismrec.report.page import write_page
from prismrec.run_folder import check_same_data, saved_config
from prismrec.runs import Run
from prismrec.studies.groups import rows_by_group

_GROUPINGS = {
    "activity": ("How much is known of them", "By the number of a user’s training interactions."),
    "popularity": ("How popular their targets are", "By the mean number of training users of a user’s held-out items."),
    "cold items": ("How cold their coldest target is", "By the training users of a user’s rarest held-out item."),
    "missing features": ("What their targets lack", "By whether one of a user’s held-out items lacks a modality."),
}
"""Grouping → title and caption of its figure."""


def write_run_report(run_dir: str | Path, dataset: Dataset, users: int = 6) -> Path:
    """Write ``report.html`` into a run folder; ``dataset`` is the one that it was trained on.

    ``users``: how many are shown with their lists, drawn at random. A diagnosis in RUN/diagnosis is shown too.
    """
    run = Run.read(run_dir)
    _, known = saved_config(run.folder)
    check_same_data(run.folder, {"fingerprint": run.result["data_fingerprint"]}, dataset)
    result, folder = run.result, shlex.quote(str(run.folder))
    data = "DATA" if known.get("path") is None else shlex.quote(known["path"])
    return write_page(
        run.folder / "report.html",
        "run.html",
        title=f"{run.label} on {result['data']}",
        label=run.label,
        data=result["data"],
        says=_says(run, dataset),
        facts=_facts(run),
        tiles=panels.headline(run),
        n_users=f"{len(run.test):,}",
        curves=panels.learning(run),
        table=panels.metrics_table(run),
        groups=group_figures(run, dataset),
        findings=saved_findings(run.folder / "diagnosis"),
        users=panels.lists_of_users(dataset, {"Recommended": run.reps}, str(result["protocol"]), users),
        settings=panels.flat(result["config"]),
        environment=panels.flat(run.environment),
        remake=f"prismrec train {data} --config {folder}/config.yaml --out {folder}-again",
        again=f"prismrec report {folder}",
    )


def _says(run: Run, dataset: Dataset) -> list[str]:
    """What came of a run, in words."""
    result, main = run.result, Metric.parse(run.main)
    mean, ends = run.test.mean[run.main], run.test.interval(run.main)
    within = "" if ends is None else f" (95 %: {ends[0]:.4f} to {ends[1]:.4f})"
    told = f"For {len(run.test):,} users with held-out items it ranks {dataset.n_items:,} items and reaches {run.main} "
    told += f"{mean:.4f}{within}."
    recall, hits = (run.test.mean.get(f"{name}@{main.k}") for name in ("recall", "hitrate"))
    if recall is not None and hits is not None:
        times = recall / min(1.0, main.k / dataset.n_items)
        told += f" So a list of {main.k} holds {recall:.1%} of what was held out of a user’s history, {times:.1f} times what "
        told += f"a list drawn at random would, and {hits:.0%} of the users find something of theirs in it."
    if not result["epochs"]:
        return [told, f"Nothing is trained: it is computed in one step, in {panels.duration(result['seconds'])}."]
    learnt = f"Validation chose epoch {result['best_epoch']} of {result['epochs']}; training took "
    learnt += f"{panels.duration(result['seconds'])} and ended for this reason: {result['stopped']}."
    if result["best_epoch"] == result["epochs"] > 1:
        learnt += " The best epoch is the last one: it was still getting better, and more epochs may give more."
    return [told, learnt]


def _facts(run: Run) -> list[tuple[str, str]]:
    result, environment = run.result, run.environment
    device = environment.get("cuda") if result["config"]["run"]["device"] != "cpu" else None
    return [
        ("seed", str(result["seed"])),
        ("protocol", result["protocol"]),
        ("device", device or "CPU"),
        ("parameters", f"{result['parameters']:,}"),
        ("data fingerprint", result["data_fingerprint"]),
    ]


def group_figures(run: Run, dataset: Dataset) -> list[dict[str, Any]]:
    """The main metric of users in groups: bars with intervals, a figure for each grouping that tells users apart."""
    values, user = run.test.values(run.main), dataset.users.encode(run.test.per_user["user"])
    found: dict[str, dict[str, np.ndarray]] = {}
    for (by, label), rows in rows_by_group(dataset, "test", user).items():
        found.setdefault(by, {})[label] = values[rows]
    figures = []
    for by, groups in found.items():
        if len(groups) < 2:
            continue
        title, caption = _GROUPINGS[by]
        ends = [interval(bootstrap_means(group)) for group in groups.values()]
        svg = bars(
            [label.partition(" training")[0] for label in groups],
            [float(group.mean()) for group in groups.values()],
            [float(low) for low, _ in ends],
            [float(high) for _, high in ends],
            f"test {run.main}",
            width=3.6,
        )
        sizes = [len(group) for group in groups.values()]
        caption += f" Groups of {min(sizes):,} to {max(sizes):,} users."
        figures.append({"svg": svg, "title": title, "caption": caption})
    return figures
