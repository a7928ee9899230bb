"""A run's folder: what it holds, whether it is free, and what a finished one says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from prismrec.checkpoint import Checkpoints, Progress
from prismrec.config import RunConfig, read_yaml, resolve, settings_of
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError
from prismrec.index import FUSED, Index
from prismrec.io import locked, read_json, remove_parts, vacant, write_json, write_text
from prismrec.machine import environment
from prismrec.train import Watcher
from prismrec.types import Reps, Rows

_CONFIG = "config.yaml"
_TRIAL = "trial.json"


def saved_config(folder: Path) -> tuple[RunConfig, dict[str, Any]]:
    """The settings of a run folder, and what else its config.yaml says (where the data lies, its fingerprints)."""
    _check_run(folder)
    tree = read_yaml(folder / _CONFIG)
    known = tree.get("data")
    if not isinstance(known, dict):
        raise PrismError(
            f"{folder / _CONFIG} says nothing of its data; it was changed by hand. Restore it, or train again."
        )
    return resolve(settings_of(tree)), known


def check_free(folder: Path, cfg: RunConfig, dataset: Dataset) -> None:
    """Refuse a folder that holds anything but an unfinished run of these very settings on this very data."""
    if (folder / _CONFIG).is_file():
        if finished(folder):
            raise PrismError(f"{folder} holds a finished run; read it with prismrec.load, or name another folder.")
        saved, known = saved_config(folder)
        if saved != cfg:
            raise PrismError(
                f"{folder} holds a run with other settings ({saved.label}); name another folder for this one."
            )
        check_same_data(folder, known, dataset)
    elif not vacant(folder):
        raise PrismError(f"{folder} exists and holds no run; a run needs a folder of its own: name another one.")


@contextmanager
def held(folder: Path, cfg: RunConfig, dataset: Dataset, data: str | None) -> Iterator[None]:
    """A run folder that is this process's alone; started if it is new, swept if it goes on."""
    new = not (folder / _CONFIG).is_file()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if new and (folder / _CONFIG).is_file():
            raise PrismError(f"{folder} was taken by another run a moment ago; name another folder with --out.")
        for place in (folder, *(entry for entry in folder.iterdir() if entry.is_dir())):
            remove_parts(place)
        if new:
            source = {
                "path": None if data is None else str(Path(data).resolve()),
                "name": dataset.name,
                "fingerprint": dataset.fingerprint,
                "interactions": dataset.interactions_fingerprint,
            }
            tree = {**cfg.tree(), "data": source}
            write_text(folder / _CONFIG, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
        if not (folder / "environment.json").is_file():
            write_json(folder / "environment.json", environment())
        yield


def check_same_data(folder: Path, known: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuse a data set that is not the one of the run in ``folder``; ``known`` is what its config.yaml says of its own."""
    if known.get("fingerprint") != dataset.fingerprint:
        raise PrismError(
            f"{folder} was trained on data with fingerprint {known.get('fingerprint')}; {dataset.name} now has "
            f"{dataset.fingerprint}. Give it the data it was trained on, or train a new run on this one."
        )


def finished(folder: Path) -> bool:
    """Whether a run folder holds a result."""
    return (folder / "result.json").is_file()


def saved_result(folder: Path) -> dict[str, Any]:
    """The content of result.json."""
    _check_run(folder)
    if not finished(folder):
        raise PrismError(f"{folder} holds no result yet. Finish it: prismrec train --resume {folder}")
    result: dict[str, Any] = read_json(folder / "result.json")
    return result


def saved_reps(folder: Path, device: torch.device | str = "cpu") -> Reps:
    """The final representations of a finished run."""
    saved_result(folder)
    user, item = Index.load(folder / "index").sides[FUSED]
    return Reps(user.to(device), Rows(item.to(device)))


def write_trial(folder: Path, trial: Mapping[str, Any]) -> None:
    """Say what training came to on validation, in ``trial.json``."""
    write_json(folder / _TRIAL, trial)


def saved_trial(folder: Path) -> dict[str, Any]:
    """The content of trial.json."""
    trial: dict[str, Any] = read_json(folder / _TRIAL)
    return trial


def trial_stands(folder: Path) -> bool:
    """Whether a folder holds a finished trial, whose test part may have been opened since."""
    return (folder / _TRIAL).is_file()


def is_trial(folder: Path, cfg: RunConfig, dataset: Dataset) -> bool:
    """Whether a folder holds a finished trial of these very settings on this very data, its test part not opened."""
    if not trial_stands(folder) or finished(folder):
        return False
    saved, known = saved_config(folder)
    return saved == cfg and known.get("fingerprint") == dataset.fingerprint


def _check_run(folder: Path) -> None:
    if not (folder / _CONFIG).is_file():
        raise PrismError(
            f"{folder} is no run folder: it has no {_CONFIG}. Name the folder that `prismrec train` wrote."
        )


class Log:
    """Writes metrics.jsonl, a line an epoch, and passes on what it sees."""

    def __init__(self, folder: Path, checkpoints: Checkpoints, inner: Watcher | None) -> None:
        self.path, self.inner = folder / "metrics.jsonl", inner
        # a killed process may have logged epochs that its checkpoint does not know, the last one in part
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in checkpoints.history()))

    def step(self, epoch: int, done: int, of: int) -> None:
        if self.inner is not None:
            self.inner.step(epoch, done, of)

    def epoch(self, record: dict[str, Any], progress: Progress) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.inner is not None:
            self.inner.epoch(record, progress)
