"""What the pages of the studies share: names, tables of arms on the test part, figures as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.rounds import RESULTS, Arm, Record, Round, Settings, mean_and_spread
from benchmarks.rounds_table import recalls
from prismrec.compare import gains, paired, with_runs
from prismrec.figures import standalone

TITLES = {
    "ml100k": "ML-100k",
    "ml100k-loo": "ML-100k, one left out",
    "tiktok": "TikTok",
    "tiktok-loo": "TikTok, one left out",
    "baby": "Baby",
}
FIGURES = "figures"  # beside the pages


@dataclass(frozen=True)
class Gain:
    """What an arm gains over another on the test part, on seeds that both have.

    ``relative``: of the means. ``said``: the paired difference with its interval over users. ``users``: p over users;
    ``seeds``: p with the luck of seeds as well, None where it is unknown.
    """

    relative: float
    said: str
    users: float
    seeds: float | None


def gain(plan: Round, arm: Arm, other: Arm, data: str) -> Gain | None:
    """``arm`` over ``other``, in recall at the arm's cut-off; None while they have no seed in common."""
    ours, theirs = plan.runs(arm, data), plan.runs(other, data)
    seeds = [seed for seed in plan.seeds if seed in ours and seed in theirs]
    if not seeds:
        return None
    k = arm.cutoff
    sides = [[found[seed] for seed in seeds] for found in (ours, theirs)]
    a, b = (recalls(side, k) for side in sides)
    test = paired(a, b)
    luck = [[float(recalls([run], k).mean()) for run in side] for side in sides]
    said = f"{test.mean:+.4f} [{test.low:+.4f}, {test.high:+.4f}]"
    return Gain(float(a.mean() / b.mean() - 1), said, test.p, with_runs(gains(a, b), luck))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, for words as much as for numbers."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def arms_of(plan: Round, names: Sequence[str], data: str) -> list[Arm]:
    """Those of the named arms that are run on a data set."""
    found = [plan.arm(name) for name in names]
    return [arm for arm in found if arm is not None and arm.is_on(data)]


def tested(plan: Round, names: Sequence[str], data: str) -> str:
    """A table of arms: validation of the chosen settings; test over seeds; gain over the arm that each is compared with.

    Empty while nothing of it is chosen. An arm whose test part stayed closed has a dash.
    """
    rows, shown = [], [arm for arm in arms_of(plan, names, data) if plan.best_score(arm, data) is not None]
    for arm in shown:
        runs = plan.runs(arm, data)
        found = list(runs.values()) if plan.opens(arm, data) else []
        other = plan.arm(arm.against)
        told = gain(plan, arm, other, data) if found and other is not None else None
        row = [arm.name, chosen(plan, arm, data), f"{plan.best_score(arm, data):.4f}", str(len(found))]
        row += [mean_and_spread(found, f"{m}@{arm.cutoff}") or "–" for m in ("recall", "ndcg")]
        row += ["" if told is None else f"{told.relative:+.1%}", "" if told is None else told.said]
        row += ["" if told is None else f"{told.users:.2g}", p_of_seeds(told)]
        rows.append(row)
    if not rows:
        return ""
    k = shown[0].cutoff
    head = ["arm", "chosen", f"validation recall@{k}", "seeds", f"recall@{k}", f"ndcg@{k}", "gain", "difference"]
    return table([*head, "p, users", "p, users and seeds"], rows)


def p_of_seeds(told: Gain | None) -> str:
    """p with the luck of seeds, as text."""
    return "" if told is None or told.seeds is None else f"{told.seeds:.2g}"


def chosen(plan: Round, arm: Arm, data: str) -> str:
    """The chosen settings that an arm adds to its base's, in a line."""
    number = plan.best_trial(arm, data)
    assert number is not None
    return short(arm.tried_on.get(data, arm.tried)[number])


def short(settings: Settings) -> str:
    """Settings in a line, without the names of their sections."""
    return ", ".join(f"{key.partition('.')[2]} {value:g}" if isinstance(value, float) else
                     f"{key.partition('.')[2]} {value}" for key, value in settings.items()) or "as they are"  # fmt: skip


def first_scores(plan: Round, arm: Arm, data: str) -> list[float]:
    """Validation of each setting, averaged over the seeds that there are; NaN for one that was not run."""
    return [float(np.mean(values)) if values else float("nan") for values in plan.scores(arm, data)]


def first_trials(plan: Round, arm: Arm, data: str) -> list[Record | None]:
    """The record of each setting with the first seed; None for one that was not run."""
    found = plan.trials(arm, data)
    return [found.get(number) for number in range(len(plan.tried(arm, data)))]


def figure(name: str, svg: str, says: str) -> str:
    """Keep a figure as a file beside the pages; the line that shows it."""
    path = RESULTS / FIGURES / f"{name}.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(standalone(svg) + "\n", encoding="utf-8")
    return f"![{says}]({FIGURES}/{name}.svg)"


def effort(plan: Round) -> tuple[int, float]:
    """Trainings of this round that are kept, and the hours of one thread that they took."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(plan.kept.rglob("*.json"))]
    # a run with the first seed is its trial once more
    trained = {json.dumps([r["data"], r["arm"], r["settings"], r["seed"]]): r.get("seconds", 0.0) for r in found}
    return len(trained), sum(trained.values()) / 3600
