"""``prismrec ablate`` and ``prismrec sweep``: variants of one arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from prismrec.cli.pursue import pursue, say, taken_up
from prismrec.cli.runs import Part, ProtocolOption, Quiet
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.config import RunConfig
    from prismrec.data.dataset import Dataset
    from prismrec.studies.search import DataOf

Data = Annotated[
    str | None,
    typer.Argument(help="A data folder, or anything that `prismrec data import` reads.", show_default=False),
]
ModelName = Annotated[str | None, typer.Option("--model", "-m", help="A name from `prismrec models`.")]
PluginNames = Annotated[list[str] | None, typer.Option("--plugin", "-p", help="A name from `prismrec plugins`.")]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="A YAML file of settings, such as a search's best.yaml.")
]
Assign = Annotated[list[str] | None, typer.Option("--set", help="One setting, such as train.epochs=100.")]
Seeds = Annotated[int, typer.Option("--seeds", "-s", min=1, help="Runs of each variant.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The first seed (999).")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N (auto).")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads of each run.")]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Runs at a time (cores / threads).")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the study (in studies/).")]
Resume = Annotated[Path | None, typer.Option("--resume", help="Go on with a study.")]


def ablate(
    data: Data = None,
    model: ModelName = None,
    plugin: PluginNames = None,
    config: Config = None,
    assign: Assign = None,
    off: Annotated[
        list[str] | None,
        typer.Option(
            "--off", help="A setting that leaves something out, such as model.contrast=0 (all that are known)."
        ),
    ] = None,
    seeds: Seeds = 5,
    protocol: ProtocolOption = None,
    seed: Seed = None,
    device: Device = None,
    threads: Threads = 1,
    jobs: Jobs = None,
    out: Out = None,
    resume: Resume = None,
    quiet: Quiet = False,
) -> None:
    """Leave out one component at a time: each plug-in, each part of one, each --off. All else stays as it is.

    Example: **prismrec ablate data/baby --model freedom --plugin mrdib --seeds 5**

    Example: **prismrec ablate data/baby --config studies/baby-mgcn/best.yaml --off model.contrast=0**
    """
    from prismrec.cli.board import conclude
    from prismrec.studies.question import ArmOf, Question
    from prismrec.studies.variants import FULL, ablations

    console, at_once = Console(stderr=True, quiet=quiet), _jobs(jobs, threads)
    if resume is not None:
        question = taken_up(resume, "ablate", _named(data, model, plugin, config, assign, off, out))
        pursue(question, resume, at_once, console, lambda study: conclude(study, quiet))
        return
    run = {"protocol": protocol, "seed": seed, "device": device, "threads": threads}
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
    pursue(question, folder, at_once, console, lambda study: conclude(study, quiet))


def sweep(
    data: Data = None,
    model: ModelName = None,
    plugin: PluginNames = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            help="An axis: clear.rank=1,2,4 or clear.strength=0.1:0.9:5 or model.reg=1e-4:1:5:log.",
        ),
    ] = None,
    config: Config = None,
    assign: Assign = None,
    part: Annotated[Part, typer.Option("--part", help="What is drawn; `test` opens the test part.")] = Part.VALID,
    seeds: Seeds = 3,
    protocol: ProtocolOption = None,
    seed: Seed = None,
    device: Device = None,
    threads: Threads = 1,
    jobs: Jobs = None,
    out: Out = None,
    resume: Resume = None,
    quiet: Quiet = False,
) -> None:
    """Vary one setting, or two against each other, and draw what comes of it: a curve, or a heat map.

    Example: **prismrec sweep data/baby --model vbpr --plugin clear --over clear.strength=0.1:0.9:5**

    Example: **prismrec sweep data/baby -m vbpr -p clear --over clear.rank=1,2,4,8 --over clear.strength=0.3,0.6,0.9 --seeds 3**
    """
    from prismrec.cli.board import conclude_sweep
    from prismrec.studies.question import ArmOf, Question
    from prismrec.studies.variants import axis, grid

    console, at_once = Console(stderr=True, quiet=quiet), _jobs(jobs, threads)
    if resume is not None:
        question = taken_up(resume, "sweep", _named(data, model, plugin, config, assign, over, out))
        pursue(question, resume, at_once, console, lambda study: conclude_sweep(study, quiet))
        return
    axes = [axis(text) for text in over or []]
    if not axes:
        raise PrismError(
            "Nothing is varied. Example: prismrec sweep data/baby -m vbpr -p clear --over clear.rank=1,2,4,8"
        )
    if len({path for path, _ in axes}) < len(axes):
        raise PrismError(f"{axes[0][0]} is an axis twice; give its values in one --over.")
    run = {"protocol": protocol, "seed": seed, "device": device, "threads": threads}
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
    pursue(question, folder, at_once, console, lambda study: conclude_sweep(study, quiet))


def _jobs(jobs: int | None, threads: int) -> int:
    from prismrec.machine import cores

    return jobs or max(1, cores() // threads)


def _named(*values: object) -> list[str]:
    """Which options that ask a question were given beside --resume."""
    names = ("DATA", "--model", "--plugin", "--config", "--set", "--off or --over", "--out")
    return [name for name, value in zip(names, values, strict=True) if value]


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
    say(console, f"reading {data} …")
    dataset = read(data)
    dataset.require("train", "valid", "test")
    known = {key: getattr(value, "value", value) for key, value in run.items()}
    cfg, source = configure(dataset, model, plugins or (), config, assignments or (), **known)
    say(console, f"settings: {source}")
    return dataset, cfg, DataOf.of(dataset, data)
