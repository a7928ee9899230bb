"""The page of a round, made from its kept records alone."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from benchmarks.rounds import METRICS, RESULTS, Arm, Round, mean_and_spread
from benchmarks.rounds_train import unpack
from prismrec.compare import paired


def records(plan: Round, arm: Arm, data: str) -> list[dict[str, Any]]:
    """The finished runs of an arm."""
    return list(plan.runs(arm, data).values())


def recalls(found: list[dict[str, Any]], cutoff: int) -> np.ndarray:
    """Recall of each user, averaged over runs."""
    values = [unpack(run[f"hits@{cutoff}"]) / unpack(run["relevant"]) for run in found]
    return np.asarray(np.mean(values, axis=0))


def gain(plan: Round, arm: Arm, data: str) -> tuple[str, str]:
    """Gain over the arm that it is compared with, on seeds that both have, and what the paired test says of it."""
    host = plan.arm(arm.against)
    ours = records(plan, arm, data)
    theirs = [] if host is None else records(plan, host, data)
    seeds = {r["seed"] for r in ours} & {r["seed"] for r in theirs}
    if not seeds:
        return "", ""
    a, b = (recalls([r for r in side if r["seed"] in seeds], arm.cutoff) for side in (ours, theirs))
    test = paired(a, b)
    return f"{a.mean() / b.mean() - 1:+.1%}", f"{test.mean:+.4f} [{test.low:+.4f}, {test.high:+.4f}], p = {test.p:.2g}"


def published_gain(plan: Round, arm: Arm, metric: str) -> str:
    """What the paper gains by its own values."""
    host = plan.arm(arm.against)
    if host is None or metric not in arm.published or metric not in host.published:
        return ""
    return f"{arm.published[metric] / host.published[metric] - 1:+.1%}"


def settings(record: dict[str, Any]) -> str:
    """The chosen settings in a line."""
    return " ".join(f"{key.removeprefix('model.')}={value}" for key, value in record["settings"].items())


def results(plan: Round, data: str) -> list[str]:
    """The table of one data set, grouped by the metric that chose."""
    lines: list[str] = []
    for chosen in dict.fromkeys(arm.metric for arm in plan.arms):
        arms = [arm for arm in plan.arms if arm.metric == chosen and records(plan, arm, data)]
        if not arms:
            continue
        k = arms[0].cutoff
        shown = [f"{m}@{k}" for m in METRICS[: 2 if k > 5 else 4]] + (
            [f"{m}@10" for m in METRICS[:2]] if k > 10 else []
        )
        lines += [f"### Chosen by {chosen}", ""]
        head = ["arm", "seeds", *shown, f"gain in {chosen}", "paired difference", "published", "published gain"]
        lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for arm in arms:
            found = records(plan, arm, data)
            told = arm.published if data == "baby" else {}
            cells = [arm.name, str(len(found)), *(mean_and_spread(found, m) for m in shown), *gain(plan, arm, data)]
            cells += [
                f"{told[chosen]:.4f}" if chosen in told else "",
                published_gain(plan, arm, chosen) if told else "",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def search(plan: Round, data: str) -> list[str]:
    """What each arm tried, best first."""
    lines = ["| arm | settings | validation | best epoch | epochs | seconds |", "|---|---|---|---|---|---|"]
    for arm in plan.arms:
        for r in sorted(plan.trials(arm, data).values(), key=lambda r: -r["valid"][arm.metric]):
            row = [
                arm.name,
                settings(r),
                f"{r['valid'][arm.metric]:.4f}",
                r.get("best_epoch", ""),
                r.get("epochs", ""),
                round(r.get("seconds", 0)),
            ]
            lines.append("| " + " | ".join(map(str, row)) + " |")
    return lines


def write(plan: Round, preface: str) -> str:
    """Write the page of today and say where. ``preface`` may name {date}, {trials}, {first} seed and {seeds}."""
    date = datetime.date.today().isoformat()
    trials = max(len(arm.tried) for arm in plan.arms)
    lines = [preface.format(date=date, trials=trials, first=plan.seeds[0], seeds=", ".join(map(str, plan.seeds)))]
    for data in plan.data:
        lines += [f"## {data.capitalize()}", "", *results(plan, data)]
    notes = (plan.kept / "notes.md").read_text(encoding="utf-8")  # ours, written by hand after reading the tables
    lines += ["## What we found", "", notes, "## Not run", ""]
    lines += [line for data in plan.data for line in plan.missing(data)] or ["Everything planned was run."]
    for data in plan.data:
        lines += ["", f"## Search on {data.capitalize()}: validation, seed {plan.seeds[0]}", "", *search(plan, data)]
    path = RESULTS / f"{plan.name}-{date}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)
