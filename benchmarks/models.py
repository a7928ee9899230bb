"""Every model on Baby beside the published figures.

    python -m benchmarks.models run DATA_FOLDER --work DIR [--jobs 4] [--hours 6] [--only ARM ...]
    python -m benchmarks.models table                       # writes benchmarks/results/models-<date>.md

How a round of runs works, and how it goes on where it was: ``benchmarks/rounds.py``. The arms: ``benchmarks/models_plan.py``.
"""

from __future__ import annotations

import datetime

from benchmarks.models_plan import ROUND
from benchmarks.rounds import RESULTS, Arm, main, mean_and_spread
from benchmarks.rounds_table import records, search
from benchmarks.setting import table

SHOWN = ("recall@20", "ndcg@20", "recall@10", "ndcg@10")
NEAR = (0.97, 1.03)  # ours over published that needs no explanation
PREFACE = """\
# Every model on Baby

{date}. Protocol of the published tables (`--protocol mmrec`): 8:1:1 split as shipped, all items ranked, training items masked,
at most 1000 epochs, stopped after 20 without a gain on validation. The settings that a model's authors state, or the best of a
few of their grid on validation (below); seeds {seeds}, the test part evaluated once each. One thread a run, several runs
side by side: seconds an epoch are those of a busy machine (the [speed table](speed-2026-11-23.md) has quiet ones).

```sh
python -m benchmarks.models run DATA_FOLDER --work work    # goes on where it was
python -m benchmarks.models table
```

**Read this beside every number:** the features here are *neighbourhood-faithful stand-ins*, 128-d unit vectors fitted so that
their ten nearest neighbours are those of the published features; similarity beyond the neighbourhood is invented. What hangs on
the item graph is nearly the published experiment; what hangs on the features' own geometry is not. Published tables choose
settings by test score; these choose by validation. A ratio outside {low} to {high} is explained below the table.
"""


def row(arm: Arm, data: str) -> list[str]:
    """A line of the table."""
    found = records(ROUND, arm, data)
    ours = sum(r["test"]["recall@20"] for r in found) / len(found)
    published = arm.published.get("recall@20")
    ratio = "" if published is None else f"{ours / published:.3f}"
    if published is not None and not NEAR[0] <= ours / published <= NEAR[1]:
        ratio = f"**{ratio}**"
    seconds = [r["seconds_epoch"] for r in found if "seconds_epoch" in r]
    peaks = [r["peak_mb"] for r in found if "peak_mb" in r]
    return [
        arm.name,
        str(len(found)),
        *(mean_and_spread(found, m) for m in SHOWN),
        "" if published is None else f"{published:.4f}",
        ratio,
        f"{min(seconds):.1f}" if seconds else "",
        str(max(r["epochs"] for r in found)) if seconds else "",
        f"{max(peaks):,}" if peaks else "",
    ]


def write() -> str:
    """Write the page of today and say where."""
    (data,) = ROUND.data
    date = datetime.date.today().isoformat()
    done = [arm for arm in ROUND.arms if records(ROUND, arm, data)]
    head = ["model", "seeds", *SHOWN, "published recall@20", "ratio", "s an epoch", "epochs", "peak MB"]
    lines = [
        PREFACE.format(date=date, seeds=" and ".join(map(str, ROUND.seeds)), low=NEAR[0], high=NEAR[1]),
        table(head, [row(arm, data) for arm in done]),
        "## What we found",
        (ROUND.kept / "notes.md").read_text(encoding="utf-8"),  # ours, written by hand after reading the table
        "## Not run",
        "\n".join(ROUND.missing(data)) or "Everything planned was run.",
        f"## Search: validation, seed {ROUND.seeds[0]}",
        "\n".join(search(ROUND, data)),
    ]
    path = RESULTS / f"{ROUND.name}-{date}.md"
    path.write_text("\n\n".join(line.strip() for line in lines) + "\n", encoding="utf-8")
    return str(path)


if __name__ == "__main__":
    main(ROUND, write, __doc__)
