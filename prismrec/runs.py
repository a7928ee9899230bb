"""A finished run, read back from its folder, and its figures with intervals over users."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from prismrec.assembly import Assembly, build
from prismrec.checkpoint import Checkpoints, load_module
from prismrec.compare import Values, bootstrap_means, interval
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError
from prismrec.evaluate import Evaluation
from prismrec.experiment import context
from prismrec.io import read_json
from prismrec.recipes import label
from prismrec.run_folder import check_same_data, saved_config, saved_reps, saved_result
from prismrec.types import Reps


@dataclass(frozen=True)
class Scores:
    """What one ranking of a part reached: ``mean`` (metric → value) and a row of ``per_user`` values for each user.

    Metrics of all lists together (coverage) have a mean and no interval.
    """

    mean: Mapping[str, float]
    per_user: pl.DataFrame

    @staticmethod
    def of(evaluation: Evaluation) -> Scores:
        """Of an evaluation just made."""
        return Scores(evaluation.mean, evaluation.per_user)

    def __len__(self) -> int:
        """Users with a held-out item."""
        return len(self.per_user)

    def values(self, metric: str) -> Values:
        """Values (n,) of the users in order."""
        return self.per_user[metric].to_numpy().astype(np.float64)

    @cached_property
    def _redrawn(self) -> dict[str, Values]:
        """Bootstrap means of each metric: users are redrawn once, for all metrics together."""
        names = [name for name in self.mean if name in self.per_user.columns]
        means = bootstrap_means(self.per_user.select(names).to_numpy().astype(np.float64))
        return dict(zip(names, means.T, strict=True))

    def interval(self, metric: str) -> tuple[float, float] | None:
        """95 % interval of a mean over users; None for a metric of all lists together."""
        if metric not in self._redrawn:
            return None
        low, high = interval(self._redrawn[metric])
        return float(low), float(high)

    def indistinct(self, other: Scores, metric: str) -> bool:
        """Whether the 95 % interval of the paired difference from ``other``, over the same users in order, holds 0."""
        if metric not in self._redrawn:
            return False
        low, high = interval(self._redrawn[metric] - other._redrawn[metric])
        return bool(low <= 0 <= high)


@dataclass(frozen=True)
class Run:
    """A finished run as its folder holds it: result.json, the epochs, the environment, test values per user."""

    folder: Path
    result: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    test: Scores

    @staticmethod
    def read(folder: str | Path) -> Run:
        """From a folder that ``prismrec train`` wrote; an unfinished one is a ``PrismError``."""
        folder = Path(folder)
        result = saved_result(folder)
        log = folder / "metrics.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        test = Scores(result["test"], pl.read_parquet(folder / "per_user" / "test.parquet"))
        return Run(folder, result, [json.loads(line) for line in lines], read_json(folder / "environment.json"), test)

    @property
    def label(self) -> str:
        """The model, or recipe, and its plug-ins."""
        return label(self.result["model"], self.result["plugins"], " + ")

    @property
    def metric(self) -> str:
        """The validation metric that chose the epoch."""
        return str(self.result["config"]["train"]["metric"])

    @property
    def main(self) -> str:
        """The test metric to show first: the one that chose the epoch, if it has a value per user, else the first one."""
        have = [name for name in self.test.mean if name in self.test.per_user.columns]
        return self.metric if self.metric in have else have[0]

    def curve(self, metric: str) -> tuple[list[float], list[float]]:
        """Epochs and validation values."""
        known = [(e["epoch"], e["valid"][metric]) for e in self.epochs if e.get("valid") and metric in e["valid"]]
        return [epoch for epoch, _ in known], [value for _, value in known]

    @cached_property
    def reps(self) -> Reps:
        """Final representations."""
        return saved_reps(self.folder)


def data_of(folder: Path, known: Mapping[str, Any], data: str | Path | None, how: str) -> str:
    """Where the data of a run lies: as named, or as ``known``, which is what its config.yaml says of it, remembers.

    ``how``: a command or call that names it, for the sentence of the error.
    """
    where = data or known.get("path")
    if where is None:
        raise PrismError(f"{folder} was trained on data in memory, so it does not know where that lies; name it: {how}")
    if data is None and not Path(where).exists():
        raise PrismError(f"{folder} was trained on {where}, which is not there any more; say where it is now: {how}")
    return str(where)


def restore(folder: str | Path, dataset: Dataset, device: torch.device | str = "cpu") -> Assembly:
    """The model of a finished run with its plug-ins, as of its best epoch, in evaluation mode.

    ``dataset`` is the one that it was trained on; its test rows are not read. What is computed from the training rows alone
    is computed again.
    """
    folder = Path(folder)
    saved_result(folder)
    cfg, known = saved_config(folder)
    check_same_data(folder, known, dataset)
    place = torch.device(device)
    ctx = context(dataset.development(), place, cfg.run.missing, cfg.run.neighbour_recall)
    assembly = build(cfg.model, cfg.model_cfg, cfg.plugins, ctx, cfg.run.seed)
    checkpoints = Checkpoints(folder / "checkpoint")
    if checkpoints.exists():  # nothing was saved where there was nothing to train
        best = checkpoints.load()[2]
        load_module(assembly, {name: value.to(place) for name, value in best.items()})
    return assembly.eval()
