"""The stages of ``benchmarks.scale``, each run in a process of its own: from raw rows to lists, timed lap by lap."""

from __future__ import annotations

import itertools
import time
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


def graph(size: int, folder: Path, recall: float = 0.95, neighbours: int = 10) -> dict[str, Any]:
    """Neighbour lists of all items, approximate ones measured against exact ones on a sample."""
    from prismrec import cache, graphs

    laps, found = Laps(), []
    values = torch.from_numpy(np.load(folder / "data" / "features" / "image.npy", mmap_mode="c"))
    present = torch.ones(len(values), dtype=torch.bool)
    with laps("neighbours"):  # remembered: a model that is trained later does not search again
        ids, _ = cache.knn(values, present, neighbours, recall, found.append)
    with laps("matrix"):
        graphs.ItemGraph(graphs.knn_matrix(ids))
    return laps.record(
        found=found[0] if found else {"items": len(values), "recall": 1.0, "looked": 1, "cells": 1}, width=WIDTH
    )


def train(size: int, folder: Path, model: str, dim: int, batch: int, steps: int) -> dict[str, Any]:
    """A model built, trained for ``steps`` steps, kept and read back, and evaluated on a sample of users."""
    from prismrec.checkpoint import Checkpoints, Progress, pack, unpack
    from prismrec.data import store
    from prismrec.evaluate import METRICS, Evaluator
    from prismrec.experiment import assemble
    from prismrec.machine import memory_kept
    from prismrec.sampling import generator
    from prismrec.train import make_optimizer

    cfg = config(model, dim, batch)
    laps = Laps()
    with laps("load"):
        dataset = store.load(folder / "data").development()
    with laps("evaluator"):
        evaluator = Evaluator.of(dataset, "valid", metrics=METRICS, sample=USERS_EVALUATED)
    with laps("build"):
        assembly, sampler = assemble(cfg, dataset, torch.device("cpu"))
    optimizer, scaler = make_optimizer(assembly, cfg.train), torch.amp.GradScaler("cpu", enabled=False)
    with laps("start of an epoch"):
        assembly.start_epoch(0, generator(0, 0, 0))
    rows, trained, spent = len(sampler.user), 0, []

    def step(b: Any) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = sum(assembly.loss(b).values(), torch.zeros(()))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    with memory_kept(), laps("order"):
        torch.randperm(rows, dtype=torch.int32)
    batches = sampler.epoch(0)
    with laps("first batch"):
        first = next(batches)
    with laps("first step"):
        step(first)
    with laps("steps"):
        for b in itertools.islice(batches, steps):
            start = time.perf_counter()
            step(b)
            spent.append(time.perf_counter() - start)
            trained += len(b.user)
    checkpoints = Checkpoints(folder / f"checkpoint-{model}")
    with laps("checkpoint"):
        kept = pack(assembly, optimizer, scaler)
        checkpoints.save(Progress(epoch=1, best=0.0, best_epoch=1), kept, dict(assembly.state_dict()))
    del kept
    files = sum(file.stat().st_size for file in checkpoints.folder.iterdir())
    after = step(first)
    with laps("resume"):
        unpack(checkpoints.load()[1], assembly, optimizer, scaler)
    same = step(first) == after
    for file in checkpoints.folder.iterdir():
        file.unlink()
    checkpoints.folder.rmdir()
    with laps("represent"):
        reps = assembly.represent()
    with laps("evaluate"):
        found = evaluator(reps)
    stretch = min(len(first.user) * -(-(1 << 24) // len(first.user)), rows)
    best, median = min(spent), sorted(spent)[len(spent) // 2]
    return laps.record(
        model=model, dim=dim, batch=batch, steps=len(spent), rows=rows, stretch=stretch,
        seconds_step=median, seconds_best=best, seconds_million=1e6 * million(laps, rows, stretch, best, batch),
        parameters=sum(p.numel() for p in assembly.parameters()), checkpoint_mb=round(files / 2**20),
        resumed_equal=same, users_evaluated=len(evaluator.users), recall_20=found["recall@20"],
    )  # fmt: skip


def million(laps: Laps, rows: int, stretch: int, step: float, batch: int) -> float:
    """Seconds a row: an epoch's start and order spread over its rows, negatives over a stretch, a step over its batch.

    ``step``: the fastest one, which the rest of the machine disturbed least.
    """
    lap = {name: found["seconds"] for name, found in laps.found.items()}
    negatives = max(lap["first batch"] - lap["order"], 0.0)
    return (lap["start of an epoch"] + lap["order"]) / rows + negatives / stretch + step / min(batch, rows)


def config(model: str, dim: int, batch: int) -> Any:
    """The model's own defaults, but for width, batch and approximate neighbours."""
    from prismrec.config import resolve

    return resolve(
        {
            "model": {"name": model, "dim": dim},
            "train": {"batch_size": batch},
            "run": {"seed": 0, "device": "cpu", "neighbour_recall": 0.95},
        }
    )
