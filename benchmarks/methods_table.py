"""The page of the first round of evidence, made from the kept records alone."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from benchmarks.methods_plan import ARMS, ROUND, TRIALS
from benchmarks.rounds import METRICS, Arm, mean_and_spread, unpack
from prismrec.compare import paired

PREFACE = """\
# Do the methods help? First evidence

{date}. Protocol of the published tables (`--protocol mmrec`): 8:1:1 split as shipped, all items ranked, training items masked,
at most 1000 epochs, stopped after 20 without a gain on validation.

```sh
python -m benchmarks.methods run DATA_FOLDER --work work    # goes on where it was
python -m benchmarks.methods table
```

**Read this beside every number of Baby:** its features here are *neighbourhood-faithful stand-ins*, 128-d unit vectors fitted
so that their ten nearest neighbours are those of the published features; similarity beyond the neighbourhood is invented. What
hangs on the features' own geometry (VBPR, any φ of them, any method that acts on it) is therefore not the published experiment;
what hangs on the item graph (FREEDOM, MGCN, the CLEAR and BR-MRS backbones) nearly is. TikTok has its original image and audio
features and no text; nothing is published for it in these papers.

Each arm tried {trials} settings on validation with seed {first}; the best was trained with the seeds {seeds}, and the test part
evaluated once each. *Gain* is that of the means. *p* is of a paired t-test over users on the recall that chose the epoch,
averaged over seeds first, with the 95 % interval of the difference by bootstrap over users; it speaks of users, not of seeds.
"""


def records(arm: Arm, data: str) -> list[dict[str, Any]]:
    """The finished runs of an arm."""
    return list(ROUND.runs(arm, data).values())


def recalls(found: list[dict[str, Any]], cutoff: int) -> np.ndarray:
    """Recall of each user, averaged over runs."""
    values = [unpack(run[f"hits@{cutoff}"]) / unpack(run["relevant"]) for run in found]
    return np.asarray(np.mean(values, axis=0))


def gain(arm: Arm, data: str) -> tuple[str, str]:
    """Gain over the arm that it is compared with, on seeds that both have, and what the paired test says of it."""
    host = ROUND.arm(arm.against)
    ours = records(arm, data)
    theirs = [] if host is None else records(host, data)
    seeds = {r["seed"] for r in ours} & {r["seed"] for r in theirs}
    if not seeds:
        return "", ""
    a, b = (recalls([r for r in side if r["seed"] in seeds], arm.cutoff) for side in (ours, theirs))
    test = paired(a, b)
    return f"{a.mean() / b.mean() - 1:+.1%}", f"{test.mean:+.4f} [{test.low:+.4f}, {test.high:+.4f}], p = {test.p:.2g}"


def published_gain(arm: Arm, metric: str) -> str:
    """What the paper gains by its own values."""
    host = ROUND.arm(arm.against)
    if host is None or metric not in arm.published or metric not in host.published:
        return ""
    return f"{arm.published[metric] / host.published[metric] - 1:+.1%}"


def settings(record: dict[str, Any]) -> str:
    """The chosen settings in a line."""
    return " ".join(f"{key.removeprefix('model.')}={value}" for key, value in record["settings"].items())


def results(data: str) -> list[str]:
    """The table of one data set, grouped by the metric that chose."""
    lines: list[str] = []
    for chosen in dict.fromkeys(arm.metric for arm in ARMS):
        arms = [arm for arm in ARMS if arm.metric == chosen and records(arm, data)]
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
            found = records(arm, data)
            told = arm.published if data == "baby" else {}
            cells = [arm.name, str(len(found)), *(mean_and_spread(found, m) for m in shown), *gain(arm, data)]
            cells += [f"{told[chosen]:.4f}" if chosen in told else "", published_gain(arm, chosen) if told else ""]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def search(data: str) -> list[str]:
    """What each arm tried, best first."""
    lines = ["| arm | settings | validation | best epoch | epochs | seconds |", "|---|---|---|---|---|---|"]
    for arm in ARMS:
        for r in sorted(ROUND.trials(arm, data).values(), key=lambda r: -r["valid"][arm.metric]):
            row = [
                arm.name,
                settings(r),
                f"{r['valid'][arm.metric]:.4f}",
                r["best_epoch"],
                r["epochs"],
                round(r["seconds"]),
            ]
            lines.append("| " + " | ".join(map(str, row)) + " |")
    return lines


def write() -> str:
    """Write the page of today and say where."""
    date = datetime.date.today().isoformat()
    first, *others = ROUND.seeds
    seeds = ", ".join(map(str, (first, *others)))
    lines = [PREFACE.format(date=date, trials=TRIALS, first=first, seeds=seeds)]
    for data in ROUND.data:
        lines += [f"## {data.capitalize()}", "", *results(data)]
    notes = (ROUND.kept / "notes.md").read_text(encoding="utf-8")  # ours, written by hand after reading the tables
    lines += ["## What we found", "", notes, "## Not run", ""]
    lines += [line for data in ROUND.data for line in ROUND.missing(data)] or ["Everything planned was run."]
    for data in ROUND.data:
        lines += ["", f"## Search on {data.capitalize()}: validation, seed {first}", "", *search(data)]
    path = ROUND.kept.parent / f"methods-{date}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)
