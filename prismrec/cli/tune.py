"""``prismrec tune``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from prismrec import cluster
from prismrec.cli import options
from prismrec.cli.watch import interrupted, say
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.studies.jobs import Work
    from prismrec.studies.search import Asked

_TRIALS = 20  # where neither trials nor hours are asked for


class Sampler(StrEnum):
    """Who chooses the settings of the next trial."""

    TPE = "tpe"
    GRID = "grid"
    RANDOM = "random"


class Pruner(StrEnum):
    """Who cuts trials short."""

    MEDIAN = "median"
    HYPERBAND = "hyperband"
    NONE = "none"


def tune(
    context: typer.Context,
    data: options.Data = None,
    model: options.ModelName = None,
    plugin: options.PluginNames = None,
    config: options.Config = None,
    assign: options.Assign = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            help="`default`, `paper` (the grid behind published figures), or a YAML file.",
            show_default=False,
        ),
    ] = None,
    sampler: Annotated[
        Sampler | None,
        typer.Option("--sampler", help="How points are chosen (tpe; grid for the space paper).", show_default=False),
    ] = None,
    pruner: Annotated[
        Pruner | None,
        typer.Option("--pruner", help="What cuts hopeless trials short (median; none for a grid).", show_default=False),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", "-n", min=1, help="Trials in all (20; the whole of a grid).", show_default=False),
    ] = None,
    hours: Annotated[
        float | None, typer.Option("--hours", min=0.001, help="No trial begins after so long.", show_default=False)
    ] = None,
    threads: options.Threads = 1,
    jobs: options.Jobs = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", help="URL of a database that machines share (a file in the folder).", show_default=False
        ),
    ] = None,
    ray: Annotated[
        str, typer.Option("--ray", help=f"Where trials run: {cluster.HELP} (here).", show_default=False)
    ] = "",
    protocol: options.Protocol = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the search and of every trial (999).")] = None,
    device: options.Device = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the study (studies/DATA-MODEL).")] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Go on with a study, perhaps with a new budget.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Search good settings of a model on validation. The test part stays closed; stopped, the same command goes on.

    Example: **prismrec tune data/baby --model freedom --plugin clear --trials 50**

    Example: **prismrec tune data/baby --model freedom --space paper --out studies/parity**

    Example: **prismrec tune --resume studies/parity --jobs 2**

    Example: **prismrec tune data/baby --model freedom --ray auto --storage postgresql+psycopg://me@db/searches**
    """
    from prismrec.io import locked, remove_parts
    from prismrec.machine import pick_device
    from prismrec.studies.search_folder import locate, recall, settle
    from prismrec.studies.search_sampling import storage as open_storage

    console = Console(stderr=True, quiet=quiet)
    budget = {"trials": trials, "hours": hours}
    if resume is not None:
        if named := options.given(context, "resume", "data", "trials", "hours", "jobs", "storage", "ray", "quiet"):
            raise PrismError(
                f"--resume goes on with what {resume / 'study.yaml'} asks; leave out {', '.join(named)}, or begin another "
                "search. A new budget (--trials, --hours), --jobs, --storage and --ray may be given."
            )
        folder, asked = resume, locate(recall(resume, storage or ""), data)
        if any(budget.values()):
            asked = asked.model_copy(update={"trials": trials or 0, "hours": hours or 0.0})
    else:
        run = options.of_run(protocol, seed, device, threads)
        asked = _ask(data, model, plugin or [], config, assign or [], space or "default", sampler, pruner, trials, hours,
                     run, console)  # fmt: skip
        folder = out or Path("studies") / f"{asked.data.name}-{asked.cfg.label}"
        asked = asked.model_copy(update={"storage": storage or ""})
    if not ray:  # a cluster may have what this machine lacks
        pick_device(asked.cfg.run.device)  # what is refused is refused before a folder is written
    if asked.storage:
        open_storage(asked.storage)
    asked = settle(folder, asked)
    with locked(folder):
        remove_parts(folder)
        _search(asked, folder, jobs, console, quiet, ray)


def _ask(
    data: str | None,
    model: str | None,
    plugins: list[str],
    config: Path | None,
    assignments: list[str],
    space: str,
    sampler: Sampler | None,
    pruner: Pruner | None,
    trials: int | None,
    hours: float | None,
    run: Mapping[str, Any],
    console: Console,
) -> Asked:
    """The question that options put, their defaults filled in."""
    from prismrec.data.sources import read
    from prismrec.experiment import configure
    from prismrec.plugins import plugin_named
    from prismrec.recipes import recipe_named
    from prismrec.studies.search import Asked
    from prismrec.studies.search_space import arm_space, read_space, without

    if data is None:
        raise PrismError("No data is named. Example: prismrec tune data/baby --model freedom")
    if model is None and config is None:
        raise PrismError("No model is named. Give --model NAME, or --config FILE with one.")
    if model is not None:  # what can be said before the data is read, which may take long
        recipe_named(model)
    for name in plugins:
        plugin_named(name)
    say(console, f"reading {data} …", "dim")
    dataset = read(data)
    dataset.require("train", "valid")
    cfg, _ = configure(dataset, model, plugins, config, assignments, **run)
    own = Path(space).suffix in (".yaml", ".yml")
    dimensions = read_space(Path(space), cfg) if own else arm_space(cfg, space)
    if sampler is None:
        sampler = Sampler.GRID if space == "paper" else Sampler.TPE
    if pruner is None:
        pruner = Pruner.NONE if sampler is Sampler.GRID else Pruner.MEDIAN
    if trials is None and hours is None and sampler is not Sampler.GRID:
        trials = _TRIALS
    return Asked.of(
        cfg,
        dataset,
        data,
        without(dimensions, assignments),
        f"The space {space}",
        sampler=sampler.value,
        pruner=pruner.value,
        trials=trials or 0,
        hours=hours or 0.0,
    )


def _search(asked: Asked, folder: Path, jobs: int | None, console: Console, quiet: bool, ray: str) -> None:
    from prismrec.cli.trials import Progress, announce, conclude
    from prismrec.studies.search import Search

    run = asked.cfg.run
    try:
        with _hands(jobs, run.device, run.threads or 1, ray) as (at_once, doing):
            search = Search(asked, folder, at_once, asked.storage)
            announce(console, search)
            with Progress(console, search) as progress:
                for trial in search.run(doing):
                    progress.ended(trial)
    except KeyboardInterrupt:
        told = (" --storage URL" if asked.storage else "") + (f" --ray {ray}" if ray else "")
        interrupted(f"prismrec tune --resume {folder}{told}")
        raise typer.Exit(130) from None
    from prismrec.report.search import write_search  # draws figures: late

    if search.best() is None:
        why = [trial.error for trial in search.trials() if trial.error][-1:]
        raise PrismError(" ".join(["No trial was trained to its end, so there is nothing to choose.", *why]))
    conclude(search, write_search(folder, asked.data.name), quiet)


@contextmanager
def _hands(jobs: int | None, device: str, threads: int, ray: str) -> Iterator[tuple[int, Work | None]]:
    """How many trials at a time, and who does them, if not this machine: a Ray cluster."""
    from prismrec.machine import at_once, cores
    from prismrec.studies.cluster_jobs import room, work_on

    if not ray:
        yield jobs or at_once(device, threads), None
        return
    with cluster.cluster(ray, threads * (jobs or max(1, cores() // threads))):
        yield jobs or room(threads), partial(work_on, cpus=threads, gpus=float(device.startswith("cuda")))
