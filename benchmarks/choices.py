"""What was left open by the papers and settled by measurement: hard negatives, their pool, weights that set themselves.

    python -m benchmarks.choices run DATA_FOLDER --work DIR [--jobs 4] [--hours 4] [--only ARM ...]
    python -m benchmarks.choices table                      # writes benchmarks/results/choices-<date>.md

How a round of runs works, and how it goes on where it was: ``benchmarks/rounds.py``.
"""

from __future__ import annotations

from benchmarks.rounds import Arm, Round, Settings, main, vary
from benchmarks.rounds_table import write

PREFACE = """\
# What the papers leave open, measured

{date}. TikTok, its own image and audio features, protocol of the published tables (`--protocol mmrec`). Settings are chosen on
validation with seed {first}; the chosen ones are trained with the seeds {seeds}, and the test part evaluated once each.

```sh
python -m benchmarks.choices run DATA_FOLDER --work work    # goes on where it was
python -m benchmarks.choices table
```

- **Negatives** (`chns`, on BR-MRS's backbone, its own BPR kept): the hardest of 16 candidates by the *other* modality (cross,
  the paper's), by the modality itself (own), by the fused scores (fused), or any (uniform). Candidates come from the
  batch's other rows unless the arm is called *fresh*; *refresh 16*: representations of up to 16 steps ago choose. Weight 0.3.
- **MRdIB's weights**: four points of the paper's grid against `balance="auto"` with four shares. The same number of trainings
  for each, chosen by validation recall@5.

*Gain* and the paired test over users are against the arm named first in each group.
"""

BACKBONE: Settings = {"model.ids": True, "model.reg": 0.01}
VBPR: Settings = {"model.reg": 0.5, "mrdib.noise": -10.0}
GRID = ((1e-3, 1e-2, 5e-3), (5e-3, 5e-2, 5e-3), (1e-4, 5e-3, 5e-3), (1e-3, 1e-3, 5e-2))
SHARES = (0.1, 0.03, 0.3, 1.0)


def negatives(name: str, **settings: object) -> Arm:
    """CHNS on the backbone, one setting."""
    tried = ({**BACKBONE, "chns.weight": 0.3, **{f"chns.{key}": value for key, value in settings.items()}},)
    return Arm(f"chns {name}", "br-mrs-backbone", tried, ("chns",), against="" if name == "cross" else "chns cross")


ARMS = (
    negatives("cross"),
    negatives("own", strategy="own"),
    negatives("fused", strategy="fused"),
    negatives("uniform", strategy="uniform"),
    negatives("cross, fresh", pool="fresh"),
    negatives("cross, refresh 16", refresh=16),
    Arm(
        "mrdib grid",
        "vbpr",
        vary(VBPR, *({"mrdib.compress": a, "mrdib.redundant": b, "mrdib.unique": c} for a, b, c in GRID)),
        ("mrdib",),
        "recall@5",
    ),
    Arm(
        "mrdib auto",
        "vbpr",
        vary({**VBPR, "mrdib.balance": "auto"}, *({"mrdib.share": share} for share in SHARES)),
        ("mrdib",),
        "recall@5",
        against="mrdib grid",
    ),
)
ROUND = Round("choices", ARMS, data=("tiktok",), seeds=(999, 1, 2))

if __name__ == "__main__":
    main(ROUND, lambda: write(ROUND, PREFACE), __doc__)
