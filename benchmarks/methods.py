"""Do the methods help? Hosts with and without them on Baby and TikTok.

    python -m benchmarks.methods run DATA_FOLDER --work DIR [--jobs 4] [--hours 4] [--only ARM ...] [--data baby ...]
    python -m benchmarks.methods table                      # writes benchmarks/results/methods-<date>.md

How a round of runs works, and how it goes on where it was: ``benchmarks/rounds.py``. The arms: ``benchmarks/methods_plan.py``.
"""

from __future__ import annotations

from benchmarks.methods_plan import ROUND
from benchmarks.methods_table import write
from benchmarks.rounds import main

if __name__ == "__main__":
    main(ROUND, write, __doc__)
