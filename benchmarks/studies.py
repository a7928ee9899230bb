"""Studies on real data: what the papers' tables and figures look like on ML-100k, TikTok and Baby.

    python -m benchmarks.studies_data DATA_FOLDER STUDY_DATA --images FILE.npy     # data sets with their splits
    python -m benchmarks.studies run STUDY_DATA --work DIR [--jobs 2] [--hours 2] [--data ml100k ...] [--only 'vbpr*' ...]
    python -m benchmarks.studies table                      # writes benchmarks/results/studies-<date>.md and its figures

How a round of runs works, and how it goes on where it was: ``benchmarks/rounds.py``. The arms: ``benchmarks/studies_plan.py``.
"""

from __future__ import annotations

import datetime

from benchmarks import studies_brmrs, studies_clear, studies_mrdib
from benchmarks.rounds import RESULTS, Round, main
from benchmarks.studies_plan import FLOORS, ROUND
from benchmarks.studies_table import TITLES, chosen, effort, table, tested

PREFACE = """\
# Studies of the three papers on real data

{date}. Protocol of the published tables (`--protocol mmrec`): all items ranked, training items masked. Settings are
chosen on validation, with the test rows dropped, by seed {first}; heat maps, curves and subsets are of validation. The
chosen settings are trained with the seeds {seeds}, and the test part evaluated once each. {count} trainings so far,
{hours:.1f} hours of one thread of a busy machine.

```sh
python -m benchmarks.studies_data DATA_FOLDER STUDY_DATA --images ML100K_IMAGES.npy
python -m benchmarks.studies run STUDY_DATA --work work    # goes on where it was
python -m benchmarks.studies table
```

- **ML-100k** (943 users, 1,682 items, 100,000 ratings, each an interaction). Text: the 384 numbers that come with it. Image:
  colours and gradients of posters, taken by hand, 128 components; 15 items have none. Split 8:1:1 a user at random, as
  carried; *one left out*: one row a user for validation and one for test, at random (seed 0).
- **TikTok** (9,308 users, 6,710 items, 68,722 rows). Its own image and audio, no text. Split as carried; one left out
  as above.
- **Baby** (19,445 users, 7,050 items, 160,792 rows). *Stand-in features*, whose ten nearest neighbours are those of the
  published ones and whose other geometry is invented. Split as carried.

On ML-100k training stops after ten epochs without a gain (elsewhere twenty), and learning rates suit its size. *p, users*
is of a paired t-test over users on recall averaged over seeds; *p, users and seeds* adds the luck of the seeds of both
sides. The difference stands with its 95 % interval by bootstrap over users. Nothing is published for ML-100k or TikTok:
what can be compared with the papers is the direction of an effect."""


def write() -> str:
    """Write the page of today and its figures, and say where."""
    date = datetime.date.today().isoformat()
    count, hours = effort(ROUND)
    seeds = ", ".join(map(str, ROUND.seeds))
    lines = [PREFACE.format(date=date, first=ROUND.seeds[0], seeds=seeds, count=f"{count:,}", hours=hours)]
    notes = ROUND.kept / "notes.md"  # ours, written by hand after reading the tables
    lines += ["## What we found", notes.read_text(encoding="utf-8")] if notes.exists() else []
    lines += floors(ROUND)
    for part in (studies_clear, studies_mrdib, studies_brmrs):
        lines += [line.replace("{first}", str(ROUND.seeds[0])) for line in part.section(ROUND)]
    missing = [line.replace(f"- {data}", f"- {TITLES[data]}", 1) for data in ROUND.data for line in ROUND.missing(data)]
    lines += ["## Not run", "\n".join(missing) or "Everything planned was run."]
    lines += ["## What each arm chose", search(ROUND)]
    path = RESULTS / f"{ROUND.name}-{date}.md"
    path.write_text("\n\n".join(line.strip() for line in lines) + "\n", encoding="utf-8")
    return str(path)


def floors(plan: Round) -> list[str]:
    """What needs no features and no gradient, beside which all else is to be read."""
    found = {data: tested(plan, FLOORS, data) for data in plan.data}
    lines = [line for data, one in found.items() if one for line in (f"### {TITLES[data]}", one)]
    return ["## Floors: no features, no gradient", *lines] if lines else []


def search(plan: Round) -> str:
    """For each arm that has chosen: of how many trials, what, and how long the chosen one took."""
    rows = []
    for data in plan.data:
        for arm in plan.arms:
            number = plan.best_trial(arm, data) if arm.is_on(data) else None
            if number is None:
                continue
            record = plan.trials(arm, data)[number]
            told = [TITLES[data], arm.name, str(len(plan.planned(arm, data))), chosen(plan, arm, data)]
            told += [f"{plan.best_score(arm, data):.4f}", str(record.get("best_epoch", ""))]
            rows.append([*told, f"{record.get('seconds', 0.0):.0f}"])
    return table(["data", "arm", "trials", "chosen, on top of its base", "validation", "best epoch", "seconds"], rows)


if __name__ == "__main__":
    main(ROUND, write, __doc__)
