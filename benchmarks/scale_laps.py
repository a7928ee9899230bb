"""Seconds and memory of the parts of a piece of work, in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_EVERY = 0.02  # seconds between two looks at the memory


class Laps:
    """``with laps("split"): …`` → seconds, and the most memory that the process held meanwhile, in MB of 2²⁰ bytes.

    What counts is anonymous memory, as Linux tells it: pages of files that are mapped can be dropped at any time.
    """

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        done = threading.Event()
        peak = anonymous_mb()

        def look() -> None:
            nonlocal peak
            while not done.wait(_EVERY):
                peak = max(peak, anonymous_mb())

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            done.set()
            watcher.join()
            self.found[name] = {
                "seconds": round(seconds, 3),
                "peak_mb": round(max(peak, anonymous_mb()), 1),
                "left_mb": round(anonymous_mb(), 1),
            }

    def record(self, **more: Any) -> dict[str, Any]:
        """All of it, and the highest peak."""
        return {**more, "laps": self.found, "peak_mb": max(lap["peak_mb"] for lap in self.found.values())}


def anonymous_mb() -> float:
    """Memory of this process that no file stands behind, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise OSError("This system does not tell a process its anonymous memory; run the benchmark on Linux.")
