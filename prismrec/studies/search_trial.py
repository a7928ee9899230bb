"""One trial of a search, in a process of its own: train, report to the study, stop where it says so. No test part is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.study import Study, load_study

from prismrec.checkpoint import Progress
from prismrec.config import RunConfig, resolve
from prismrec.data.sources import read
from prismrec.experiment import explore
from prismrec.run_folder import write_trial
from prismrec.studies.search_sampling import PrunerName, pruner, storage


class Pruned(Exception):
    """The study says that a trial is not worth going on with."""


class Pruning:
    """A Watcher that reports the best value so far, and raises ``Pruned`` where the pruner says so.

    ``last`` is how far training has come.
    """

    def __init__(self, study: Study, database: BaseStorage, judge: BasePruner, number: int) -> None:
        self.study, self.database, self.judge = study, database, judge
        known = database.get_study_id_from_name(study.study_name)
        self.trial = database.get_trial_id_from_study_id_trial_number(known, number)
        self.reported = set(
            database.get_trial(self.trial).intermediate_values
        )  # a trial gone on with has reported before
        self.count = 0
        self.last = Progress()

    def step(self, epoch: int, done: int, of: int) -> None:
        """Batches are not worth a report."""

    def epoch(self, record: dict[str, Any], progress: Progress) -> None:
        """Report a validation, unless training ends with it anyway."""
        self.last = progress
        self.count = sum(1 for epoch in progress.history if epoch["valid"])
        if record["valid"] is None or progress.done or not telling(self.count):
            return
        if self.count not in self.reported:
            self.reported.add(self.count)
            self.database.set_trial_intermediate_value(self.trial, self.count, progress.best)
        if self.judge.prune(self.study, self.database.get_trial(self.trial)):
            raise Pruned


def telling(count: int) -> bool:
    """Whether the ``count``-th validation is reported: later ones less often, as a report costs hundredths of a second."""
    return count % (1 if count <= 20 else 5 if count <= 100 else 25) == 0


@dataclass(frozen=True)
class Order:
    """What a process must know to do trial ``number`` of the study ``study`` in the storage ``url``."""

    number: int
    config: dict[str, Any]
    data: str
    folder: Path
    url: str
    study: str
    pruner: PrunerName


def attempt(order: Order) -> dict[str, Any]:
    """A task: do a trial; returns trial.json, which says ``pruned`` if it was cut short."""
    cfg = resolve(order.config)
    dataset = read(order.data)
    if order.pruner == "none":
        return explore(cfg, dataset, order.folder, None, order.data)
    database = storage(order.url)
    study = load_study(study_name=order.study, storage=database)
    watcher = Pruning(study, database, pruner(order.pruner), order.number)
    try:
        return explore(cfg, dataset, order.folder, watcher, order.data)
    except Pruned:
        trial = cut_short(cfg, watcher.last)
        write_trial(order.folder, trial)
        return trial


def cut_short(cfg: RunConfig, progress: Progress) -> dict[str, Any]:
    """The trial.json of a pruned trial: what its best epoch so far reached."""
    return {
        "model": cfg.model.name,
        "plugins": [plugin.name for plugin, _ in cfg.plugins],
        "label": cfg.label,
        "seed": cfg.run.seed,
        "protocol": cfg.run.protocol,
        "valid": progress.history[progress.best_epoch - 1]["valid"],
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "stopped": f"pruned at epoch {progress.epoch}",
        "pruned": True,
        "seconds": progress.seconds,
        "config": cfg.tree(),
    }
