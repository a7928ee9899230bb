"""``prismrec ablate`` and ``prismrec sweep``: variants of one arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from prismrec.cli import options
from prismrec.cli.options import Part
from prismrec.cli.pursue import pursue, taken_up
from prismrec.cli.watch import say
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.config import RunConfig
    from prismrec.data.dataset import Dataset
    from prismrec.studies.search import DataOf

Seeds = Annotated[int, typer.Option("--seeds", "-s", min=1, help="Runs of each variant.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The first seed (999).")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the study (in studies/).")]


def ablate(
    context: typer.Context,
    data: options.Data = None,
    model: options.ModelName = None,
    plugin: options.PluginNames = None,
    config: options.Config = None,
    assign: options.Assign = None,
    off: Annotated[
        list[str] | None,
        typer.Option(
            "--off", help="A setting that leaves something out, such as model.contrast=0 (all that are known)."
        ),
    ] = None,
    seeds: Seeds = 5,
    protocol: options.Protocol = None,
    seed: Seed = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    jobs: options.Jobs = None,
    out: Out = None,
    resume: options.Resume = None,
    quiet: options.Quiet = False,
) -> None:
    """Leave out one component at a time: each plug-in, each part of one, each --off. All else stays as it is.

    Example: **prismrec ablate data/baby --model freedom --plugin mrdib --seeds 5**

    Example: **prismrec ablate data/baby --config studies/baby-mgcn/best.yaml --off model.contrast=0**
    """
    from prismrec.cli.board import conclude
    from prismrec.studies.question import ArmOf, Question
    from prismrec.studies.variants import FULL, ablations

    console = Console(stderr=True, quiet=quiet)
    if resume is not None:
        question = taken_up(resume, "ablate", context)
        pursue(question, resume, jobs, console, lambda study: conclude(study, quiet))
        return
    run = options.of_run(protocol, seed, device, threads)
    dataset, cfg, where = _settings(data, model, plugin, config, assign, run, console, "ablate")
    question = Question(
        kind="ablate",
        title=f"Ablation of {cfg.label}",
        data=where,
        arms={
            name: ArmOf(config=variant.tree(), host="" if name == FULL else FULL, seeds=_seeds(cfg, seeds))
            for name, variant in ablations(cfg, off or ()).items()
        },
    )
    folder = out or Path("studies") / f"{dataset.name}-ablate-{cfg.label}"
    pursue(question, folder, jobs, console, lambda study: conclude(study, quiet))


def sweep(
    context: typer.Context,
    data: options.Data = None,
    model: options.ModelName = None,
    plugin: options.PluginNames = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            help="An axis: clear.rank=1,2,4 or clear.strength=0.1:0.9:5 or model.reg=1e-4:1:5:log.",
        ),
    ] = None,
    config: options.Config = None,
    assign: options.Assign = None,
    part: Annotated[Part, typer.Option("--part", help="What is drawn; `test` opens the test part.")] = Part.VALID,
    seeds: Seeds = 3,
    protocol: options.Protocol = None,
    seed: Seed = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    jobs: options.Jobs = None,
    out: Out = None,
    resume: options.Resume = None,
    quiet: options.Quiet = False,
) -> None:
    """Vary one setting, or two against each other, and draw what comes of it: a curve, or a heat map.

    Example: **prismrec sweep data/baby --model vbpr --plugin clear --over clear.strength=0.1:0.9:5**

    Example: **prismrec sweep data/baby -m vbpr -p clear --over clear.rank=1,2,4,8 --over clear.strength=0.3,0.6,0.9 --seeds 3**
    """
    from prismrec.cli.board import conclude_sweep
    from prismrec.studies.question import ArmOf, Question
    from prismrec.studies.variants import axis, grid

    console = Console(stderr=True, quiet=quiet)
    if resume is not None:
        question = taken_up(resume, "sweep", context)
        pursue(question, resume, jobs, console, lambda study: conclude_sweep(study, quiet))
        return
    axes = [axis(text) for text in over or []]
    if not axes:
        raise PrismError(
            "Nothing is varied. Example: prismrec sweep data/baby -m vbpr -p clear --over clear.rank=1,2,4,8"
        )
    if len({path for path, _ in axes}) < len(axes):
        raise PrismError(f"{axes[0][0]} is an axis twice; give its values in one --over.")
    run = options.of_run(protocol, seed, device, threads)
    dataset, cfg, where = _settings(data, model, plugin, config, assign, run, console, "sweep")
    question = Question(
        kind="sweep",
        title=f"{cfg.label} over {' and '.join(path for path, _ in axes)}",
        data=where,
        arms={
            name: ArmOf(config=variant.tree(), seeds=_seeds(cfg, seeds))
            for name, variant in grid(cfg, dict(axes)).items()
        },
        part=part.value,
        axes=tuple(path for path, _ in axes),
    )
    folder = out or Path("studies") / f"{dataset.name}-sweep-{cfg.label}"
    pursue(question, folder, jobs, console, lambda study: conclude_sweep(study, quiet))


def _seeds(cfg: RunConfig, count: int) -> tuple[int, ...]:
    return tuple(range(cfg.run.seed, cfg.run.seed + (count if cfg.model.random else 1)))


def _settings(
    data: str | None,
    model: str | None,
    plugins: list[str] | None,
    config: Path | None,
    assignments: list[str] | None,
    run: Mapping[str, Any],
    console: Console,
    command: str,
) -> tuple[Dataset, RunConfig, DataOf]:
    """The data and the settings that variants are made of."""
    from prismrec.data.sources import read
    from prismrec.experiment import configure
    from prismrec.studies.search import DataOf

    if data is None:
        raise PrismError(f"No data is named. Example: prismrec {command} data/baby --model freedom --plugin clear")
    if model is None and config is None:
        raise PrismError("No model is named. Give --model NAME, or --config FILE with one.")
    say(console, f"reading {data} …", "dim")
    dataset = read(data)
    dataset.require("train", "valid", "test")
    cfg, source = configure(dataset, model, plugins or (), config, assignments or (), **run)
    say(console, f"settings: {source}", "dim")
    return dataset, cfg, DataOf.of(dataset, data)
