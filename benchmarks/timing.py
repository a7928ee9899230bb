"""Things timed by turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable


def rounds(lines: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every line, round after round, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    for turn in range(repeats + 1):
        for name, run in lines.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds
