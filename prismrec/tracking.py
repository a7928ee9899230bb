"""Metrics of a run for other people's dashboards: TensorBoard and MLflow. The run's own metrics.jsonl is written always.

Each is an optional extra and imported late. A run that goes on after an interruption goes on in the same place: what its
checkpoint does not know of is written again, once.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from prismrec.checkpoint import Progress
from prismrec.config import RunConfig
from prismrec.errors import PrismError, nearest
from prismrec.io import read_json, write_json
from prismrec.panels import flat
from prismrec.train import Watcher


class Writer(Protocol):
    """Where numbers go: by name and epoch (from 1)."""

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """The numbers of an epoch."""

    def close(self) -> None:
        """No more will come."""


class TensorBoard:
    """Event files in ``RUN/tensorboard``; look at them with ``tensorboard --logdir RUN``."""

    def __init__(self, folder: Path, cfg: RunConfig) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = folder / "tensorboard"
        shutil.rmtree(place, ignore_errors=True)  # of an interrupted run: its history is written again from the start
        self.writer = SummaryWriter(str(place))

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        self.writer.close()


class MLflow:
    """A run of MLflow, where ``MLFLOW_TRACKING_URI`` says, in the experiment ``prismrec``; ``RUN/mlflow.json`` knows its id."""

    def __init__(self, folder: Path, cfg: RunConfig) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        known = folder / "mlflow.json"
        if known.is_file():
            self.run = str(read_json(known)["run"])
            self.client.update_run(self.run, status="RUNNING")
        else:
            name = "prismrec"
            found = self.client.get_experiment_by_name(name)
            experiment = self.client.create_experiment(name) if found is None else found.experiment_id
            self.run = self.client.create_run(experiment, run_name=folder.name).info.run_id
            write_json(known, {"run": self.run})
        for key, value in flat(cfg.tree()):  # again for a known run: it may have been killed between two of them
            self.client.log_param(self.run, key, value)
        self.last = max((point.step for point in self.client.get_metric_history(self.run, "loss")), default=0)

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        if epoch > self.last:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [Metric(name.replace("@", "_at_"), value, now, epoch) for name, value in values.items()]
            self.client.log_batch(self.run, metrics)  # all at once: a run that is killed has all of an epoch or none

    def close(self) -> None:
        self.client.set_terminated(self.run)


WRITERS: dict[str, Callable[[Path, RunConfig], Writer]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


class Tracking:
    """A Watcher that writes each epoch to writers, those before an interruption first, and passes on what it sees.

    Writers are opened with the first epoch: before it, the folder of the run may not be there.
    """

    def __init__(self, names: Sequence[str], folder: Path, cfg: RunConfig, inner: Watcher | None) -> None:
        self.names, self.folder, self.cfg, self.inner = dict.fromkeys(names), folder, cfg, inner
        self.writers: list[Writer] = []

    def step(self, epoch: int, done: int, of: int) -> None:
        if self.inner is not None:
            self.inner.step(epoch, done, of)

    def epoch(self, record: dict[str, Any], progress: Progress) -> None:
        new = [record]
        if not self.writers:
            self.writers = [WRITERS[name](self.folder, self.cfg) for name in self.names]
            new = list(progress.history)
        for one in new:
            for writer in self.writers:
                writer.write(one["epoch"], numbers(one))
        if self.inner is not None:
            self.inner.epoch(record, progress)


@contextmanager
def tracked(
    names: Sequence[str], folder: Path, cfg: RunConfig, inner: Watcher | None = None
) -> Iterator[Watcher | None]:
    """``inner``, or a Watcher that also writes to the named writers, closed on the way out."""
    for name in names:
        if name not in WRITERS:
            raise PrismError(f"Nothing is known of tracking by {name!r}. {nearest(name, WRITERS)}")
        if find_spec(name) is None:
            raise PrismError(f"--track {name} needs a package that is not installed: pip install 'prismrec[{name}]'")
    if not names:
        yield inner
        return
    tracking = Tracking(names, folder, cfg, inner)
    try:
        yield tracking
    finally:
        for writer in tracking.writers:
            writer.close()


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """What an epoch's record says in numbers: loss, its terms, validation metrics, seconds, the learning rate."""
    found = {"loss": record["loss"], "lr": record["lr"], "seconds": record["seconds"]}
    found |= {f"loss/{name}": value for name, value in record["terms"].items()}
    return found | {f"valid/{name}": value for name, value in (record["valid"] or {}).items()}
