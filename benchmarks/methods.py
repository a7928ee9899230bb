"""Do the methods help? Hosts with and without them on Baby and TikTok.

    python -m benchmarks.methods run DATA_FOLDER --work DIR [--jobs 4] [--hours 4] [--only ARM ...] [--data baby ...]
    python -m benchmarks.methods table                      # writes benchmarks/results/methods-<date>.md

How a round of runs works, and how it goes on where it was: ``benchmarks/rounds.py``. The arms: ``benchmarks/methods_plan.py``.
"""

from __future__ import annotations

from benchmarks.methods_plan import ROUND
from benchmarks.rounds import main
from benchmarks.rounds_table import write

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

if __name__ == "__main__":
    main(ROUND, lambda: write(ROUND, PREFACE), __doc__)
