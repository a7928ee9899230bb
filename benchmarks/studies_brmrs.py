"""BR-MRS: components, negatives, sensitivity, cut-offs and user subsets (table 2, sections 5.4 to 5.6, figure 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.rounds import Record, Round
from benchmarks.studies_plan import BACKBONE, PULLED, SWEPT
from benchmarks.studies_table import TITLES, figure, first_scores, first_trials, table, tested
from prismrec.figures import Line, curves

COMPONENTS = (BACKBONE, f"{BACKBONE} wider", "br-mrs", "br-mrs-chns", "br-mrs-synergy")
STRATEGIES = ("br-mrs-chns", "br-mrs-chns own", "br-mrs-chns fused", "br-mrs-chns uniform")
CUTOFFS = (5, 10, 20, 50)
GROUPS = (("chns.weight", "synergy.weight"), ("synergy.margin",), ("chns.candidates",))  # a figure each
SIGNS = {"chns.weight": "λ_h", "synergy.weight": "λ_s", "synergy.margin": "θ", "chns.candidates": "n, candidates"}


def section(plan: Round) -> list[str]:
    """Everything of it that was run, data set by data set."""
    lines = ["## BR-MRS", ABOUT]
    for data in plan.data:
        title = TITLES[data]
        found = tested(plan, COMPONENTS, data)
        lines += [f"### Components on {title}", found, *_cutoffs(plan, data)] * bool(found)
        others = tested(plan, STRATEGIES, data)
        if plan.arm(STRATEGIES[1]) is not None and any(name in others for name in STRATEGIES[1:]):
            lines += [f"### Whose hard negatives: {title}", others]
        lines += _subsets(plan, data) + _sweeps(plan, data) + _pulls(plan, data)
    return lines


def shares(records: Sequence[Record], cell: str) -> str:
    """Mean ± standard deviation over runs of the share of a cell, in percent."""
    values = [100 * r["subsets"][cell] for r in records if "subsets" in r]
    if not values:
        return ""
    return f"{np.mean(values):.2f}" + (f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


def told_cells(record: Record) -> list[str]:
    """The paper's four subsets among the cells of a record."""
    return [*(cell for cell in record["subsets"] if cell.startswith("unique ")), "synergy", "degradation"]


def _cutoffs(plan: Round, data: str) -> list[str]:
    rows = []
    host = plan.arm(BACKBONE)
    for name in COMPONENTS[1:]:
        arm = plan.arm(name)
        if arm is None or host is None:
            continue
        ours, theirs = plan.runs(arm, data), plan.runs(host, data)
        seeds = [s for s in plan.seeds if s in ours and s in theirs]
        if len(seeds) > 1:
            cells = [_relative(ours, theirs, seeds, f"{m}@{k}") for m in ("recall", "ndcg") for k in CUTOFFS]
            rows.append([name, str(len(seeds)), *cells])
    head = ["over the backbone, test", "seeds", *(f"{m}@{k}" for m in ("recall", "ndcg") for k in CUTOFFS)]
    return [table(head, rows)] if rows else []


def _relative(ours: Mapping[int, Record], theirs: Mapping[int, Record], seeds: Sequence[int], metric: str) -> str:
    mine, other = (float(np.mean([found[s]["test"][metric] for s in seeds])) for found in (ours, theirs))
    return f"{mine / other - 1:+.1%}"


def _subsets(plan: Round, data: str) -> list[str]:
    rows, cells = [], []
    for name in dict.fromkeys((*COMPONENTS, *STRATEGIES)):
        arm = plan.arm(name)
        if arm is None or not arm.is_on(data) or plan.best_trial(arm, data) is None:
            continue
        number = plan.best_trial(arm, data)
        found = list(plan.runs(arm, data).values()) or [plan.trials(arm, data)[number or 0]]
        cells = told_cells(found[0])
        rows.append([name, str(len(found)), *(shares(found, cell) for cell in cells)])
    head = ["% of pairs, validation, K = 20", "seeds", *cells]
    return [f"### Who is hit by what: {TITLES[data]}", table(head, rows)] if len(rows) > 1 else []


def _sweeps(plan: Round, data: str) -> list[str]:
    lines: list[str] = []
    host = plan.arm(BACKBONE)
    alone = None if host is None else plan.best_score(host, data)
    for group in GROUPS:
        drawn: dict[str, Line] = {}
        marks = sorted({x for key in group for x in SWEPT[key]})
        for key in group:
            arm = plan.arm(f"br-mrs by {key}")
            if arm is None or not arm.is_on(data):
                continue
            scores = zip(SWEPT[key], first_scores(plan, arm, data), strict=False)
            found = [(float(marks.index(x)), v) for x, v in scores if math.isfinite(v)]
            if len(found) > 2:
                drawn[SIGNS[key] if len(group) > 1 else "br-mrs"] = ([x for x, _ in found], [v for _, v in found])
        if not drawn:
            continue
        if alone is not None:
            drawn["the backbone alone"] = ([0.0, len(marks) - 1.0], [alone, alone])
        names = ", ".join(SIGNS[key] for key in group)
        svg = curves(drawn, "validation recall@20", x=names, ticks=[f"{x:g}" for x in marks])
        says = f"br-mrs on {TITLES[data]}: validation by {names}"
        lines.append(figure(f"studies-br-mrs-{'-'.join(k.replace('.', '-') for k in group)}-{data}", svg, says))
    return [f"### Sensitivity on {TITLES[data]}: one setting at a time, the others as chosen", *lines] if lines else []


def _pulls(plan: Round, data: str) -> list[str]:
    host, lines = plan.arm(BACKBONE), []
    for name, weights in PULLED.items():
        arm = plan.arm(f"{BACKBONE} by {name}")
        if arm is None or host is None or not arm.is_on(data) or plan.best_trial(host, data) is None:
            continue
        start = plan.trials(host, data)[plan.best_trial(host, data) or 0]
        found = [(0.0, start), *_done(weights, first_trials(plan, arm, data))]
        if len(found) < 3:
            continue
        cells = told_cells(start)
        marks = [f"{w:g}" for w, _ in found]
        drawn: dict[str, Line] = {
            cell: ([float(n) for n in range(len(found))], [100 * r["subsets"][cell] for _, r in found])
            for cell in cells
        }
        svg = curves(drawn, "% of pairs, K = 20", x=f"weight of {name}", ticks=marks)
        says = f"{BACKBONE} on {TITLES[data]}: user subsets of validation by the weight of {name}"
        rows = [[cell, *(f"{v:.2f}" for v in drawn[cell][1])] for cell in cells]
        rows.append(["validation recall@20", *(f"{r['valid'][arm.metric]:.4f}" for _, r in found)])
        lines += [figure(f"studies-subsets-{name}-{data}", svg, says), table([f"weight of {name}", *marks], rows)]
    return [f"### User subsets against alignment and orthogonality: {TITLES[data]}", *lines] if lines else []


def _done(weights: Sequence[float], records: Sequence[Record | None]) -> list[tuple[float, Record]]:
    return [(w, r) for w, r in zip(weights, records, strict=False) if r is not None]


ABOUT = """\
All arms have the backbone's chosen settings below their own, and as many trials as it. Hard negatives alone keep the
model's own BPR. Subsets are shares of validation pairs of a user and a held-out item, training items masked: *unique* to
one modality's own scores, *synergy* where only the fused scores hit, *degradation* where every modality hits and fusion
does not."""
