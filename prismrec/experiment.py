"""A configuration and a data set → a run folder. The test split is opened once, after the epoch is chosen."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
from prismrec.index import Index
from prismrec.io import atomic, write_json
from prismrec.machine import cpu_threads, memory_kept, peak_memory_mb, pick_device
from prismrec.models import Context
from prismrec.nn import Raw
from prismrec.parallel import Crew
from prismrec.recipes import expand
from prismrec.run_folder import Log, check_free, held, is_trial, saved_trial, write_trial
from prismrec.sampling import Sampler
from prismrec.train import ALONE, Watcher, fit
from prismrec.types import Reps


@dataclass(frozen=True)
class Result:
    """What a run came to: ``valid`` and ``test`` map metrics to means over users; ``folder`` is None if nothing was kept.

    ``assembly``: the model as of the chosen epoch.
    """

    valid: dict[str, float]
    test: dict[str, float]
    progress: Progress
    summary: dict[str, Any]
    index: Index
    folder: Path | None
    assembly: Assembly


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


Told = Callable[[dict[str, Any]], None]
"""Is given what an approximate search for neighbours says of itself (``graphs.near.Found``, as plain values)."""


def context(
    dataset: Dataset,
    device: torch.device,
    missing: str = "mean",
    recall: float = 1.0,
    told: Told = lambda found: None,
) -> Context:
    """What a model may know of a data set: its training rows and raw features, on ``device``.

    ``missing``: what stands in for features that an item lacks, as ``run.missing`` says; ``recall``: how exact neighbours must
    be, as ``run.neighbour_recall`` says.
    """
    train = dataset.interactions.part("train")
    for m, modality in dataset.modalities.items():
        if not modality.present.any():
            raise PrismError(
                f"No item of {dataset.name!r} has the modality {m!r}: its features are zero in all {dataset.n_items:,} rows. "
                "Import the data again with the file that holds them, or without this modality."
            )
    raw = {
        m: Raw(_tensor(modality.values).to(device), torch.from_numpy(modality.present).to(device), missing == "learned")
        for m, modality in dataset.modalities.items()
    }
    return Context(
        n_users=dataset.n_users,
        n_items=dataset.n_items,
        user=torch.from_numpy(train.user.astype(np.int64)).to(device),
        item=torch.from_numpy(train.item.astype(np.int64)).to(device),
        weight=None if train.weight is None else torch.from_numpy(train.weight.astype(np.float32)).to(device),
        raw=raw,
        knn=functools.partial(cache.knn, recall=recall, told=told),
    )


def assemble(
    cfg: RunConfig, dataset: Dataset, device: torch.device, told: Told = lambda found: None
) -> tuple[Assembly, Sampler]:
    """The model with its plug-ins and the sampler that feeds it; the data set must be without its test rows."""
    ctx = context(dataset, device, cfg.run.missing, cfg.run.neighbour_recall, told)
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
    crew: Crew = ALONE,
) -> Result:
    """Train, choose the epoch on validation, then evaluate it on the test split, once.

    ``folder`` is created, or gone on with if it holds an unfinished run of the same settings. ``data`` is where the data set
    was read from, kept for resuming. ``crew``: the processes that train together, of which this is the first; the others
    call ``assist``.
    """
    dataset.require("test")
    if folder is not None:
        check_free(folder, cfg, dataset)
    with _trained(cfg, dataset, folder, watcher, data, crew) as (assembly, progress, built):
        return _finish(cfg, dataset, assembly, progress, folder, built, crew)


def assist(cfg: RunConfig, dataset: Dataset, folder: Path, crew: Crew) -> None:
    """Train along with the first process of a crew, which calls ``run``. Writes nothing, and sees no test row."""
    with cpu_threads(cfg.run.threads), memory_kept():
        assembly, sampler = assemble(cfg, dataset.development(), crew.home(pick_device(cfg.run.device)))
        fit(assembly, sampler, lambda reps: {}, cfg.train, Checkpoints(folder / "checkpoint"), None, crew)


def explore(
    cfg: RunConfig, dataset: Dataset, folder: Path, watcher: Watcher | None = None, data: str | None = None
) -> dict[str, Any]:
    """Train and choose the epoch as ``run`` does, and stop there: the test part stays closed.

    What it came to is written to ``trial.json`` and returned. ``folder`` is then that of an unfinished run, which ``run``
    with the same settings finishes: it trains no more, and opens the test part. A trial that stands is returned as it is.
    """
    if is_trial(folder, cfg, dataset):
        return saved_trial(folder)
    check_free(folder, cfg, dataset)
    with _trained(cfg, dataset, folder, watcher, data) as (assembly, progress, built):
        evaluator = _evaluator(cfg, dataset.development(), "valid", reported(cfg), ALONE)
        valid = evaluator.evaluate(assembly.represent()).mean
        trial = {**_facts(cfg, dataset, assembly, progress, built), "valid": valid}
        write_trial(folder, trial)
        return trial


@contextmanager
def _trained(
    cfg: RunConfig,
    dataset: Dataset,
    folder: Path | None,
    watcher: Watcher | None,
    data: str | None,
    crew: Crew = ALONE,
) -> Iterator[tuple[Assembly, Progress, float]]:
    """The model as of its best epoch, how training went, and the seconds that building it took; ``folder`` is held."""
    dataset.require("train", "valid")
    device = crew.home(pick_device(cfg.run.device))
    with cpu_threads(cfg.run.threads), memory_kept():
        development = dataset.development()
        validate = _evaluator(cfg, development, "valid", _watched(cfg), crew)
        start = time.perf_counter()
        neighbours: list[dict[str, Any]] = []
        # before anything is written: data may not suit the model
        assembly, sampler = assemble(cfg, development, device, neighbours.append)
        built = time.perf_counter() - start
        if folder is None:
            yield assembly, fit(assembly, sampler, validate, cfg.train, None, watcher, crew), built
            return
        with held(folder, cfg, dataset, data):
            if neighbours:
                write_json(folder / "neighbours.json", neighbours)
            checkpoints = Checkpoints(folder / "checkpoint")
            log = Log(folder, checkpoints, watcher)
            yield assembly, fit(assembly, sampler, validate, cfg.train, checkpoints, log, crew), built


def _finish(
    cfg: RunConfig,
    dataset: Dataset,
    assembly: Assembly,
    progress: Progress,
    folder: Path | None,
    built: float,
    crew: Crew,
) -> Result:
    """Evaluate the chosen epoch on both parts and write what is left of it."""
    reps = assembly.represent()
    seconds, evaluations = {}, {}
    for part in ("valid", "test"):
        evaluator = _evaluator(cfg, dataset, part, reported(cfg), crew)
        start = time.perf_counter()
        evaluations[part] = evaluator.evaluate(reps)
        seconds[part] = time.perf_counter() - start
    validated = [record["seconds_evaluation"] for record in progress.history if record["valid"]] or [seconds["valid"]]
    summary = {
        **_facts(cfg, dataset, assembly, progress, built),
        "valid": evaluations["valid"].mean,
        "test": evaluations["test"].mean,
        "seconds_per_evaluation": float(np.median(validated)),
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
    return Result(evaluations["valid"].mean, evaluations["test"].mean, progress, summary, index, folder, assembly)


def _evaluator(cfg: RunConfig, dataset: Dataset, part: str, metrics: Sequence[str], crew: Crew) -> Evaluator:
    rules, device = protocol(cfg.run.protocol), crew.home(pick_device(cfg.run.device))
    return Evaluator.of(dataset, part, rules, metrics, device, cfg.run.eval_users, cfg.run.seed)


def _facts(cfg: RunConfig, dataset: Dataset, assembly: Assembly, progress: Progress, built: float) -> dict[str, Any]:
    """What was trained, on what, how long, and how large it is."""
    trained = [record["seconds"] for record in progress.history] or [built]
    return {
        "model": cfg.model.name,
        "plugins": [plugin.name for plugin, _ in cfg.plugins],
        "label": cfg.label,
        "data": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "seed": cfg.run.seed,
        "protocol": cfg.run.protocol,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "stopped": progress.why,
        "seconds": progress.seconds or built,
        "seconds_per_epoch": float(np.median(trained)),
        "peak_memory_mb": peak_memory_mb(pick_device(cfg.run.device)),
        "parameters": sum(p.numel() for p in assembly.parameters()),
        "config": cfg.tree(),
    }


def reported(cfg: RunConfig) -> list[str]:
    """Metrics of a result: those asked for, the one that decides, and what the lists are like."""
    return list(dict.fromkeys([*cfg.run.metrics, cfg.train.metric, *LIST_METRICS]))


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
