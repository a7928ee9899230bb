"""The stages of ``benchmarks.scale``, each run in a process of its own: from raw rows to lists, timed lap by lap."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.scale_laps import Laps, anonymous_mb

WIDTH = 512
USERS_EVALUATED = 1000


def draw(size: int, folder: Path) -> dict[str, Any]:
    """Raw rows and features."""
    from prismrec.data.power_law import PowerLaw, write

    laps = Laps()
    spec = PowerLaw(max(size // 10, 1), max(size // 100, 1), size, {"image": WIDTH})
    with laps("draw"):
        write(spec, folder / "raw")
    return laps.record()


def prepare(size: int, folder: Path) -> dict[str, Any]:
    """Read, duplicates, 5-core, ids, split, save."""
    from prismrec.data import prepare as steps
    from prismrec.data import splits, store
    from prismrec.data.sources import read

    laps = Laps()
    start = anonymous_mb()
    with laps("read, ids"):
        dataset = read(folder / "raw")
    with laps("duplicates"):
        dataset = steps.drop_duplicates(dataset, "last")
    with laps("5-core"):
        dataset = steps.core(dataset, 5, 5)
    with laps("split"):
        dataset = splits.by_ratio(dataset, seed=0)
    with laps("save"):
        store.save(dataset, folder / "data", overwrite=True)
    left = {"users": dataset.n_users, "items": dataset.n_items, "interactions": len(dataset.interactions)}
    return laps.record(libraries_mb=start, left=left)
