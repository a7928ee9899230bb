"""Hosts with and without MRdIB, its ablations, its weights one by one and by themselves (its tables 1 and 2, figure 4)."""

from __future__ import annotations

import math

from benchmarks.rounds import Round
from benchmarks.studies_plan import ALPHAS, TERMS
from benchmarks.studies_table import TITLES, figure, first_scores, table, tested
from prismrec.figures import Line, curves

WHOLE = ("vbpr", "freedom")
HOSTS = (*WHOLE, "dualgnn", "mmgcn", "soil", "mgcn")
NAMES = {"compress": "α₁, compress", "redundant": "α₂, redundant", "unique": "α₃, unique"}


def section(plan: Round) -> list[str]:
    """The table of hosts, and for two of them ablations, curves and draws."""
    lines = ["## MRdIB", ABOUT]
    for data in plan.data:
        found = tested(plan, [name for host in HOSTS for name in (f"{host}@5", f"{host}+mrdib@5")], data)
        lines += [f"### Hosts with and without it on {TITLES[data]}", found] * bool(found)
    for data in plan.data:
        for host in WHOLE:
            lines += _draws(plan, host, data) + _ablation(plan, host, data) + _weights(plan, host, data)
    return lines


def ranked(plan: Round, host: str, data: str) -> tuple[list[float], float | None, float | None]:
    """Validation of the draws, best first; of the weights that set themselves; of the host alone. None: not run."""
    whole, auto, alone = (plan.arm(f"{host}{end}") for end in ("+mrdib@5", "+mrdib@5 auto", "@5"))
    assert whole is not None and auto is not None and alone is not None
    known = [v for v in first_scores(plan, whole, data) if math.isfinite(v)] if whole.is_on(data) else []
    return sorted(known, reverse=True), plan.best_score(auto, data), plan.best_score(alone, data)


def _draws(plan: Round, host: str, data: str) -> list[str]:
    values, auto, alone = ranked(plan, host, data)
    if len(values) < 2 or auto is None or alone is None:
        return []
    ends = [1.0, float(len(values))]
    lines: dict[str, Line] = {
        "draws of the grid, best first": ([float(n) for n in range(1, len(values) + 1)], values),
        "weights that set themselves": (ends, [auto, auto]),
        f"{host} alone": (ends, [alone, alone]),
    }
    place = 1 + sum(v > auto for v in values)
    says = f"{host} on {TITLES[data]}: {len(values)} draws of the grid against weights that set themselves"
    return [
        f"### Weights that set themselves: {host} on {TITLES[data]}",
        figure(f"studies-mrdib-draws-{host}-{data}", curves(lines, "validation recall@5", x="draw"), says),
        f'`balance="auto"` has {auto:.4f} on validation, which would be place {place} among {len(values)} draws (best '
        f"{values[0]:.4f}, median {values[len(values) // 2]:.4f}, worst {values[-1]:.4f}); {host} alone {alone:.4f}.",
        tested(plan, (f"{host}+mrdib@5", f"{host}+mrdib@5 auto"), data),
    ]


def _ablation(plan: Round, host: str, data: str) -> list[str]:
    whole = f"{host}+mrdib@5"
    ends = [*TERMS, "redundant and unique"]
    found = tested(plan, [f"{host}@5", whole, *(f"{whole} without {end}" for end in ends)], data)
    first = plan.arm(f"{whole} without {TERMS[0]}")
    if first is None or not first.is_on(data) or plan.best_score(first, data) is None:
        return []
    return [f"### Terms left out: {host} on {TITLES[data]}", found]


def _weights(plan: Round, host: str, data: str) -> list[str]:
    lines: dict[str, Line] = {}
    rows = []
    for term in TERMS:
        arm = plan.arm(f"{host}+mrdib@5 by {term}")
        if arm is None or not arm.is_on(data):
            return []
        found = [(a, v) for a, v in zip(ALPHAS, first_scores(plan, arm, data), strict=False) if math.isfinite(v)]
        if len(found) > 1:
            lines[NAMES[term]] = ([a for a, _ in found], [v for _, v in found])
            rows.append([NAMES[term], *(f"{dict(found)[a]:.4f}" if a in dict(found) else "" for a in ALPHAS)])
    if not lines:
        return []
    alone = ranked(plan, host, data)[2]
    if alone is not None:
        lines[f"{host} alone"] = ([ALPHAS[0], ALPHAS[-1]], [alone, alone])
    says = (
        f"{host} with MRdIB on {TITLES[data]}: validation by each of its weights, the others as the best draw has them"
    )
    svg = curves(lines, "validation recall@5", x="weight", multiples=True)
    head = ["weight", *(f"{a:g}" for a in ALPHAS)]
    return [
        f"### Each weight by itself: {host} on {TITLES[data]}",
        figure(f"studies-mrdib-weights-{host}-{data}", svg, says),
        table(head, rows),
    ]


ABOUT = """\
K = 5, as the paper has it. VBPR and FREEDOM had twenty seeded draws of the paper's grid (five values for each of three
weights), on top of the host's chosen settings, the others the three settings of [the first round](methods-2026-11-22.md).
The noise starts small (log σ² −10) with the draws: of short features the default is as large as the codes. Terms are left
out of the best draw, all else as it is."""
