"""``prismrec train``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from prismrec import cluster
from prismrec.cli import crew as crew_
from prismrec.cli import options
from prismrec.cli.crew import Many
from prismrec.cli.tables import show_metrics, stdout
from prismrec.cli.watch import Screen, interrupted, say
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.config import RunConfig
    from prismrec.data.dataset import Dataset


@dataclass(frozen=True)
class Training:
    """A run that is asked for: its settings and where they come from, its data and where they lie, its folder.

    ``many``: the processes that train it; ``track``: the trackers that hear of it; ``quiet``: whether only the result is told.
    """

    cfg: RunConfig
    source: str
    dataset: Dataset
    where: str
    folder: Path
    many: Many
    track: tuple[str, ...] = ()
    quiet: bool = False


def train(
    context: typer.Context,
    data: options.Data = None,
    model: options.ModelName = None,
    plugin: options.PluginNames = None,
    config: options.Config = None,
    assign: options.Assign = None,
    protocol: options.Protocol = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random (999).")] = None,
    device: options.Device = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads (all cores).")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run (runs/DATA-MODEL-seed).")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with an interrupted run.")] = None,
    warm_start: Annotated[
        Path | None, typer.Option("--warm-start", help="Start from what a finished run learnt, with its settings.")
    ] = None,
    track: Annotated[
        list[str] | None, typer.Option("--track", help="tensorboard or mlflow, beside metrics.jsonl; may be repeated.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that train together, each its part of every batch.")
    ] = 1,
    ray: Annotated[
        str, typer.Option("--ray", help=f"Where the processes run: {cluster.HELP} (here).", show_default=False)
    ] = "",
    shard: Annotated[
        bool, typer.Option("--shard", help="Each process takes whole batches and holds its part of the tables.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a model, choose the epoch on validation, and evaluate it once on the test split.

    Example: **prismrec train data/baby --model freedom --plugin clear --set model.layers=2 --out runs/first**

    Example: **prismrec train --resume runs/first**

    Example: **prismrec train data/baby-december --warm-start runs/first --out runs/december**

    Example: **prismrec train data/large --model vbpr --workers 4 --out runs/large**

    Example: **prismrec train data/large --model vbpr --workers 4 --ray auto --out runs/large**

    Example: **prismrec train data/large --model bpr --workers 4 --shard --out runs/large**
    """
    from prismrec import experiment, parallel
    from prismrec.data.sources import read
    from prismrec.plugins import plugin_named
    from prismrec.recipes import recipe_named

    console = _console(quiet)
    many = Many(workers, ray, shard)
    if shard and workers == 1 and not parallel.called():
        raise PrismError("--shard spreads tables over several processes; say how many with --workers.")
    if resume is not None:
        named = options.given(context, "resume", "data", "track", "workers", "ray", "shard", "quiet")
        _resume(resume, data, named, many, track or (), quiet)
        return
    if data is None:
        raise PrismError("No data is named. Example: prismrec train data/baby --model freedom")
    if warm_start is not None:
        config = _earlier(warm_start, {"--model": model, "--plugin": plugin, "--config": config})
    if model is not None:  # what can be said before the data is read, which may take long
        recipe_named(model)
    for name in plugin or []:
        plugin_named(name)
    if parallel.called() and out is None:
        raise PrismError("Several processes that train together need to be told their folder: give --out.")
    if out is not None and (out / "config.yaml").exists() and not parallel.called():  # these may have begun it just now
        raise PrismError(
            f"{out} already holds a run. Name another folder with --out, or go on with it: prismrec train --resume {out}"
        )
    say(console, f"reading {data} …", "dim")
    dataset = read(data)
    run = options.of_run(protocol, seed, device, threads)
    cfg, source = experiment.configure(dataset, model, plugin or (), config, assign or (), **run)
    folder = out or _free(Path("runs") / f"{dataset.name}-{cfg.label}-seed{cfg.run.seed}")
    if warm_start is not None:
        from prismrec import warm

        for line in warm.start(warm_start, cfg, dataset, folder, data).sentences():
            say(console, line)
    _run(Training(cfg, source, dataset, data, folder, many, tuple(track or ()), quiet))


def _console(quiet: bool) -> Console:
    """Where progress is told: of several processes that train together, the first one tells it."""
    from prismrec import parallel

    return Console(stderr=True, quiet=quiet or parallel.helper())


def _earlier(run: Path, given: dict[str, object]) -> Path:
    """The settings of a finished run that another starts from."""
    from prismrec.run_folder import saved_result

    names = [name for name, value in given.items() if value is not None]
    if names:
        raise PrismError(
            f"--warm-start keeps the settings of {run}; leave out {', '.join(names)}, change others with --set."
        )
    saved_result(run)
    return run / "config.yaml"


def _resume(folder: Path, data: str | None, given: list[str], many: Many, track: Sequence[str], quiet: bool) -> None:
    """Go on with an interrupted run, or say that it is finished."""
    from prismrec import parallel, run_folder
    from prismrec.data.sources import read
    from prismrec.runs import data_of

    if given:
        raise PrismError(
            f"--resume goes on with the settings in {folder / 'config.yaml'}; leave out {', '.join(given)}, or train a new run."
        )
    console = _console(quiet)
    cfg, known = run_folder.saved_config(folder)
    if run_folder.finished(folder):
        say(console, f"{folder} is finished; there is nothing to resume.", "dim")
        if not parallel.helper():
            _conclude(run_folder.saved_result(folder), folder, quiet)
        return
    where = data_of(folder, known, data, f"prismrec train DATA --resume {folder}")
    say(console, f"reading {where} …", "dim")
    _run(Training(cfg, str(folder / "config.yaml"), read(where), where, folder, many, tuple(track), quiet))


def _run(asked: Training) -> None:
    """Train in this process, or start those that train together; in the end the result is told once."""
    from prismrec import parallel, run_folder

    folder, many, quiet = asked.folder, asked.many, asked.quiet
    try:
        if many and not parallel.called():
            run_folder.check_free(folder, asked.cfg, asked.dataset)
            with run_folder.held(folder, asked.cfg, asked.dataset, asked.where):
                pass  # its settings stand there: that is what the processes go on with
            if many.ray:
                crew_.launch_on(many, folder, asked.cfg.run, quiet=quiet, track=list(asked.track))
                _conclude(run_folder.saved_result(folder), folder, quiet)
            else:
                crew_.launch(many, folder, [*(["-q"] if quiet else []), *(f"--track={name}" for name in asked.track)])
            return
        summary = _together(asked)
    except KeyboardInterrupt:
        if not parallel.called():  # whoever started several says it once
            interrupted(many.again(folder))
        raise typer.Exit(130) from None
    if summary is not None:
        _conclude(summary, folder, quiet)


def train_part(folder: Path, quiet: bool, track: Sequence[str], shard: bool) -> None:
    """Go on with the run in ``folder`` as one of the processes that train it, wherever this one was started."""
    from prismrec import run_folder
    from prismrec.data.sources import read

    cfg, known = run_folder.saved_config(folder)
    if not run_folder.finished(folder):
        source, where, many = str(folder / "config.yaml"), known["path"], Many(shard=shard)
        _together(Training(cfg, source, read(where), where, folder, many, tuple(track), quiet))


def _together(asked: Training) -> dict[str, Any] | None:
    """Train among the processes that this one was started with: the first says what came of it, the others nothing."""
    from prismrec import experiment, parallel
    from prismrec.machine import pick_device
    from prismrec.tracking import tracked

    cfg, dataset, folder, console = asked.cfg, asked.dataset, asked.folder, _console(asked.quiet)
    with parallel.joined(pick_device(cfg.run.device), asked.many.shard) as crew:
        if not crew.first:
            experiment.assist(cfg, dataset, folder, crew)
            return None
        _announce(console, asked)
        rows = len(dataset.interactions.part("train"))
        with (
            Screen(console, cfg.train, rows, cfg.label) as screen,
            tracked(asked.track, folder, cfg, screen) as watcher,
        ):
            result = experiment.run(cfg, dataset, folder, watcher, asked.where, crew)
    from prismrec.report import write_run_report  # draws figures: late

    write_run_report(folder, dataset)
    return result.summary


def _free(path: Path) -> Path:
    """``path``, or the first of path-2, path-3 … that is not taken."""
    tries = (path if i == 1 else path.with_name(f"{path.name}-{i}") for i in range(1, 1 << 20))
    return next(candidate for candidate in tries if not candidate.exists())


def _announce(console: Console, asked: Training) -> None:
    cfg, dataset = asked.cfg, asked.dataset
    modalities = ", ".join(f"{m} ({v.width})" for m, v in dataset.modalities.items()) or "none"
    say(
        console,
        f"{cfg.label} on {dataset.name}: {dataset.n_users:,} users, {dataset.n_items:,} items, "
        f"{len(dataset.interactions):,} interactions, modalities: {modalities}",
        "bold",
    )
    say(
        console,
        f"settings: {asked.source} · protocol {cfg.run.protocol} · seed {cfg.run.seed} · run folder: {asked.folder}",
    )
    if dataset.interactions.weight is not None and not cfg.model.uses_weights:
        say(console, f"{cfg.model.name} ignores the interaction weights of this data.")


def _conclude(summary: dict[str, Any], folder: Path, quiet: bool) -> None:
    console = stdout()
    show_metrics(console, {"valid": summary["valid"], "test": summary["test"]})
    if quiet:
        return
    took = f"{summary['stopped']}, built in {summary['seconds_per_epoch']:.2f} s"
    if summary["epochs"]:
        took = f"best epoch {summary['best_epoch']} of {summary['epochs']} ({summary['stopped']}), "
        took += f"{summary['seconds_per_epoch']:.2f} s an epoch"
    say(console, f"{took}, {summary['seconds_per_evaluation']:.2f} s an evaluation")
    say(console, f"look at: {folder / 'report.html'} (every number is in result.json)")
    say(console, f"next: prismrec recommend {folder} --all --top 20 -o recs.parquet")
