"""A configuration and a data set → a run folder. The test split is opened once, after the epoch is chosen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from prismrec import cache
from prismrec.assembly import Assembly, build
from prismrec.checkpoint import Checkpoints, Progress
from prismrec.config import (
    RunConfig,
    assign,
    check_sections,
    merge,
    override,
    published,
    read_yaml,
    resolve,
    settings_of,
)
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError
from prismrec.evaluate import LIST_METRICS, Evaluator, protocol
from prismrec.index import FUSED, Index
from prismrec.io import atomic, leftover, locked, read_json, remove_parts, write_json, write_text
from prismrec.machine import cpu_threads, environment, memory_kept, peak_memory_mb, pick_device
from prismrec.models import Context
from prismrec.nn import Raw
from prismrec.recipes import expand
from prismrec.sampling import Sampler
from prismrec.train import Watcher, fit
from prismrec.types import Reps, Rows

_CONFIG = "config.yaml"


@dataclass(frozen=True)
class Result:
    """What a run came to: ``valid`` and ``test`` map metrics to means over users; ``folder`` is None if nothing was kept."""

    valid: dict[str, float]
    test: dict[str, float]
    progress: Progress
    summary: dict[str, Any]
    index: Index
    folder: Path | None


def configure(
    dataset: Dataset,
    model: str | None = None,
    plugins: Sequence[str] = (),
    file: Path | None = None,
    assignments: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    **run: Any,
) -> tuple[RunConfig, str]:
    """The settings of a run and where they come from.

    In rising order: the classes' defaults; the published settings of this model for this very data, unless a ``file`` is
    given; the file; ``model`` and ``plugins``; ``run`` settings that are not None; ``settings`` ("section.key" → value);
    ``assignments`` ("section.key=value").
    """
    tree: dict[str, Any] = settings_of(read_yaml(file)) if file is not None else {}
    check_sections(tree)
    source = str(file) if file is not None else "defaults"
    if file is None and model is not None:
        found = published(model, plugins, dataset)
        if found is not None:
            source, tree = found
    if model is not None:
        other = (tree.get("model") or {}).get("name", model) != model
        tree = merge({**tree, "model": {}} if other else tree, {"model": {"name": model}})
    tree = expand(tree)
    tree = merge(tree, {"plugins": {plugin: (tree.get("plugins") or {}).get(plugin, {}) for plugin in plugins}})
    tree = merge(tree, {"run": {key: value for key, value in run.items() if value is not None}})
    for path, value in (settings or {}).items():
        tree = assign(tree, path, value)
    return resolve(override(tree, assignments)), source


def context(dataset: Dataset, device: torch.device) -> Context:
    """What a model may know of a data set: its training rows and raw features, on ``device``."""
    train = dataset.interactions.part("train")
    for m, modality in dataset.modalities.items():
        if not modality.present.any():
            raise PrismError(
                f"No item of {dataset.name!r} has the modality {m!r}: its features are zero in all {dataset.n_items:,} rows. "
                "Import the data again with the file that holds them, or without this modality."
            )
    raw = {
        m: Raw(_tensor(modality.values).to(device), torch.from_numpy(modality.present).to(device))
        for m, modality in dataset.modalities.items()
    }
    return Context(
        n_users=dataset.n_users,
        n_items=dataset.n_items,
        user=torch.from_numpy(train.user.astype(np.int64)).to(device),
        item=torch.from_numpy(train.item.astype(np.int64)).to(device),
        weight=None if train.weight is None else torch.from_numpy(train.weight.astype(np.float32)).to(device),
        raw=raw,
        knn=cache.knn,
    )


def assemble(cfg: RunConfig, dataset: Dataset, device: torch.device) -> tuple[Assembly, Sampler]:
    """The model with its plug-ins and the sampler that feeds it; the data set must be without its test rows."""
    ctx = context(dataset, device)
    assembly = build(cfg.model, cfg.model_cfg, cfg.plugins, ctx, cfg.run.seed).to(device)
    sampler = Sampler(
        ctx.user,
        ctx.item,
        ctx.weight,
        ctx.n_users,
        ctx.n_items,
        batch_size=cfg.train.batch_size,
        n_neg=assembly.n_neg,
        n_fresh=assembly.n_fresh,
        pool=cfg.train.negatives,
        popularity=cfg.train.popularity,
        seed=cfg.run.seed,
    )
    return assembly, sampler


def run(
    cfg: RunConfig,
    dataset: Dataset,
    folder: Path | None = None,
    watcher: Watcher | None = None,
    data: str | None = None,
) -> Result:
    """Train, choose the epoch on validation, then evaluate it on the test split, once.

    ``folder`` is created, or gone on with if it holds an unfinished run of the same settings. ``data`` is where the data set
    was read from, kept for resuming.
    """
    dataset.require("train", "valid", "test")
    if folder is not None:
        _check_folder(folder, cfg, dataset)
    device = pick_device(cfg.run.device)
    with cpu_threads(cfg.run.threads), memory_kept():
        development = dataset.development()
        validate = Evaluator.of(development, "valid", protocol(cfg.run.protocol), _watched(cfg), device)
        start = time.perf_counter()
        assembly, sampler = assemble(
            cfg, development, device
        )  # before anything is written: data may not suit the model
        built = time.perf_counter() - start
        if folder is None:
            progress = fit(assembly, sampler, validate, cfg.train, None, watcher)
            return _finish(cfg, dataset, assembly, progress, None, built)
        with _held(folder, cfg, dataset, data):
            checkpoints = Checkpoints(folder / "checkpoint")
            progress = fit(assembly, sampler, validate, cfg.train, checkpoints, _Log(folder, checkpoints, watcher))
            return _finish(cfg, dataset, assembly, progress, folder, built)


def _finish(
    cfg: RunConfig, dataset: Dataset, assembly: Assembly, progress: Progress, folder: Path | None, built: float
) -> Result:
    """Evaluate the chosen epoch on both parts and write what is left of it."""
    rules, device = protocol(cfg.run.protocol), pick_device(cfg.run.device)
    reps = assembly.represent()
    seconds, evaluations = {}, {}
    for part in ("valid", "test"):
        evaluator = Evaluator.of(dataset, part, rules, reported(cfg), device)
        start = time.perf_counter()
        evaluations[part] = evaluator.evaluate(reps)
        seconds[part] = time.perf_counter() - start
    trained = [record["seconds"] for record in progress.history] or [built]
    validated = [record["seconds_evaluation"] for record in progress.history if record["valid"]] or [seconds["valid"]]
    summary = {
        "model": cfg.model.name,
        "plugins": [plugin.name for plugin, _ in cfg.plugins],
        "label": cfg.label,
        "data": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "seed": cfg.run.seed,
        "protocol": cfg.run.protocol,
        "valid": evaluations["valid"].mean,
        "test": evaluations["test"].mean,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "stopped": progress.why,
        "seconds": progress.seconds or built,
        "seconds_per_epoch": float(np.median(trained)),
        "seconds_per_evaluation": float(np.median(validated)),
        "peak_memory_mb": peak_memory_mb(device),
        "parameters": sum(p.numel() for p in assembly.parameters()),
        "config": cfg.tree(),
    }
    index = Index.of(_on_cpu(reps), dataset)
    if folder is not None:
        for part, evaluation in evaluations.items():
            table = evaluation.per_user.with_columns(
                dataset.users.decode(evaluation.per_user["user"].to_numpy()).alias("user")
            )
            with atomic(folder / "per_user" / f"{part}.parquet") as path:
                table.write_parquet(path)
        index.save(folder / "index")
        write_json(folder / "result.json", summary)
    return Result(evaluations["valid"].mean, evaluations["test"].mean, progress, summary, index, folder)


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


class _Log:
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


def _check_folder(folder: Path, cfg: RunConfig, dataset: Dataset) -> None:
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
    elif folder.exists() and (not folder.is_dir() or any(not leftover(entry) for entry in folder.iterdir())):
        raise PrismError(f"{folder} exists and holds no run; a run needs a folder of its own: name another one.")


@contextmanager
def _held(folder: Path, cfg: RunConfig, dataset: Dataset, data: str | None) -> Iterator[None]:
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


def saved_reps(folder: Path, device: torch.device | str = "cpu") -> Reps:
    """The final representations of a finished run."""
    saved_result(folder)
    user, item = Index.load(folder / "index").sides[FUSED]
    return Reps(user.to(device), Rows(item.to(device)))


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


def _check_run(folder: Path) -> None:
    if not (folder / _CONFIG).is_file():
        raise PrismError(
            f"{folder} is no run folder: it has no {_CONFIG}. Name the folder that `prismrec train` wrote."
        )


def reported(cfg: RunConfig) -> list[str]:
    """Metrics of a result: those asked for, and what the lists are like."""
    return [*cfg.run.metrics, *(m for m in LIST_METRICS if m not in cfg.run.metrics)]


def _watched(cfg: RunConfig) -> list[str]:
    """Metrics of every epoch: those asked for, and the one that decides."""
    wanted = [m for m in cfg.run.metrics if m.endswith(("@10", "@20"))] or cfg.run.metrics
    return [*wanted, *([] if cfg.train.metric in wanted else [cfg.train.metric])]


def _on_cpu(reps: Reps) -> Reps:
    def rows(r: Any) -> Any:
        return r.with_values(r.values.detach().cpu())

    modal = {m: (user.detach().cpu(), rows(item)) for m, (user, item) in reps.modal.items()}
    return replace(reps, user=reps.user.detach().cpu(), item=rows(reps.item), modal=modal, views={})


def _tensor(values: np.ndarray) -> torch.Tensor:
    # torch warns of read-only memory, which a memory-mapped file is; nothing here writes to features
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)
