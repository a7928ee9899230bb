"""Finished runs made up from values per user, and boards of them: what tests of leaderboards start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from program import dataset as drawn

from prismrec.compare import Values
from prismrec.data.dataset import Dataset
from prismrec.runs import Run, Scores
from prismrec.studies.board import Board

METRICS = ("recall@20", "ndcg@20", "coverage@20")


@cache
def dataset() -> Dataset:
    return drawn(n_users=200, n_items=80, interactions=10.0)


@cache
def users() -> pl.Series:
    """Everybody with a test item, as a run names them."""
    data = dataset()
    return data.users.decode(np.unique(data.interactions.part("test").user))


def run(
    model: str = "bpr",
    plugins: Sequence[str] = (),
    seed: int = 0,
    values: Values | float = 0.5,
    *,
    parameters: int = 100,
    epochs: int = 4,
    **changed: Any,
) -> Run:
    """A run whose recall@20 of each user is ``values``, and whose ndcg@20 is half of it."""
    recall = np.broadcast_to(np.asarray(values, np.float64), len(users()))
    table = pl.DataFrame({"user": users(), "recall@20": recall, "ndcg@20": recall / 2})
    log = [{"epoch": e, "seconds": 2.0, "seconds_evaluation": 0.5} for e in range(1, epochs + 1)]
    result = {
        "model": model,
        "plugins": list(plugins),
        "data_fingerprint": dataset().fingerprint,
        "seed": seed,
        "protocol": "default",
        "epochs": epochs,
        "best_epoch": max(epochs - 1, 0),
        "seconds": 2.5 * epochs,
        "seconds_per_epoch": 2.0,
        "seconds_per_evaluation": 0.25,
        "peak_memory_mb": 100.0 + seed,
        "parameters": parameters,
        "config": {"model": {"name": model}, "plugins": {p: {} for p in plugins}, "train": {}, "run": {"seed": seed}},
        **changed,
    }
    means = {"recall@20": float(recall.mean()), "ndcg@20": float(recall.mean() / 2), "coverage@20": 0.25}
    return Run(Path(f"runs/{model}/{seed}"), result, log, {}, Scores(means, table))


def floor(model: str = "mostpop", values: Values | float = 0.1, seed: int = 0, **changed: Any) -> Run:
    return run(model, (), seed, values, parameters=0, epochs=0, **changed)


def hits(share: float | Values, seed: int) -> Values:
    """A hit or none for each user, with probability ``share``."""
    return (np.random.default_rng(seed).random(len(users())) < share).astype(np.float64)


def seeds(model: str, plugins: Sequence[str], values: Sequence[Values | float], **changed: Any) -> list[Run]:
    return [run(model, plugins, seed, value, **changed) for seed, value in enumerate(values)]


def example() -> dict[str, list[Run]]:
    """Two floors, a model, and the model with two plug-ins, of which the first helps everybody it can and the second nobody."""
    base = [hits(0.4, seed) for seed in range(3)]
    better = [np.maximum(values, hits(0.4, 10 + seed)) for seed, values in enumerate(base)]
    return {
        "mostpop": [floor(values=hits(0.1, 90))],
        "ease": [floor("ease", hits(0.3, 91))],
        "freedom": seeds("freedom", (), base),
        "freedom+clear": seeds("freedom", ("clear",), better, parameters=120),
        "freedom+infonce": seeds("freedom", ("infonce",), [np.zeros_like(v) for v in base[:2]]),
    }


def board(arms: Mapping[str, Sequence[Run]] | None = None, **options: Any) -> Board:
    return Board.of(example() if arms is None else arms, dataset(), METRICS, **options)
