"""CLEAR's strength against its rank, and its rank picked anew by a rule (the paper's figures 3 and 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.rounds import Arm, Round
from benchmarks.studies_plan import RANKS, STRENGTHS
from benchmarks.studies_table import TITLES, figure, first_scores, first_trials, table, tested
from prismrec.figures import heatmap

HOSTS = ("vbpr", "freedom")


def section(plan: Round) -> list[str]:
    """Heat maps, rules and the test part of every data set and host of which something was run."""
    lines = ["## CLEAR: strength λ against rank k", ABOUT]
    for data in plan.data:
        for name in HOSTS:
            grid, host = plan.arm(f"{name}+clear"), plan.arm(name)
            if grid is None or host is None or not grid.is_on(data):
                continue
            if any(map(math.isfinite, first_scores(plan, grid, data))):
                lines += [f"### {name} on {TITLES[data]}", *_map(plan, grid, host, data)]
                rules = plan.arm(f"{name}+clear by rule")
                if rules is not None:
                    lines += _rules(plan, rules, data)
                lines.append(tested(plan, (name, f"{name}+clear", f"{name}+clear by rule"), data))
    return [line for line in lines if line]


def grid_of(plan: Round, arm: Arm, data: str) -> np.ndarray:
    """Validation, strengths × ranks, NaN where nothing was run."""
    cells = [(one["clear.strength"], one["clear.rank"]) for one in arm.tried]
    known = dict(zip(cells, first_scores(plan, arm, data), strict=True))
    return np.array([[known[strength, rank] for rank in RANKS] for strength in STRENGTHS])


def _map(plan: Round, arm: Arm, host: Arm, data: str) -> list[str]:
    values = grid_of(plan, arm, data)
    known = values[np.isfinite(values)]
    theirs = plan.best_score(host, data)
    svg = heatmap(
        values.tolist(), [f"{s:g}" for s in STRENGTHS], [str(k) for k in RANKS], f"validation {arm.metric}", "k", "λ"
    )
    says = f"{arm.name} on {TITLES[data]}: validation {arm.metric} for each strength and rank"
    line = f"{len(known)} of {values.size} cells, from {known.min():.4f} to {known.max():.4f}, mean {known.mean():.4f}"
    if theirs is not None:
        line += f"; without CLEAR {theirs:.4f}, which {int((known > theirs).sum())} cells exceed"
    by_strength, by_rank = (means(names, lines) for names, lines in ((STRENGTHS, values), (RANKS, values.T)))
    return [
        figure(f"studies-clear-{host.name}-{data}", svg, says),
        f"{line}. Means by λ: {by_strength}; by k: {by_rank}.",
    ]


def means(names: Sequence[float], lines: np.ndarray) -> str:
    """The mean of what is known of each line, by name."""
    known = {name: line[np.isfinite(line)] for name, line in zip(names, lines, strict=True)}
    return ", ".join(f"{name:g}: {line.mean():.4f}" for name, line in known.items() if len(line))


def _rules(plan: Round, arm: Arm, data: str) -> list[str]:
    rows = []
    for record in first_trials(plan, arm, data):
        if record is not None:
            asked = record["settings"]
            rule = asked["clear.rank"] + (f", share {asked['clear.share']:g}" if "clear.share" in asked else "")
            counts = sorted(set(record["directions"].values()))
            told = [rule, f"{asked['clear.strength']:g}", " and ".join(map(str, counts))]
            rows.append([*told, f"{record['valid'][arm.metric]:.4f}"])
    head = ["rule for k", "λ", "k at the best epoch", f"validation {arm.metric}"]
    return [table(head, rows)] if rows else []


ABOUT = """\
Each cell is one training (seed {first}) on top of the host's settings, which were chosen without CLEAR; the frame is on
the best cell. The best of 30 cells can be ahead of the host by luck: the table below a map says what is left of that
with five seeds on the test part, which is opened only where validation prefers CLEAR. A dot was not run. The rules pick
k anew at the start of every epoch: *energy*, the fewest directions that hold a share of the squared singular values;
*spectrum*, the paper's eq. 13."""
