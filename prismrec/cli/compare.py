"""``prismrec compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prismrec.cli import options
from prismrec.cli.pursue import pursue, taken_up
from prismrec.cli.watch import say
from prismrec.errors import PrismError


def compare(
    context: typer.Context,
    data: options.Data = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models", "-m", help="Names from `prismrec models`, with commas or repeated; freedom+clear too."
        ),
    ] = None,
    plugins: Annotated[
        list[str] | None,
        typer.Option(
            "--plugins", "-p", help="Each is tried on each model that it acts on; chns+synergy are two at once."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", "-s", min=1, help="Runs of each arm with its best settings.")] = 5,
    trials: Annotated[
        int, typer.Option("--trials", "-n", min=0, help="Trials of each arm's search; 0: no search.")
    ] = 20,
    space: Annotated[str, typer.Option("--space", help="`default`, `paper`, or a YAML file.")] = "default",
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="One setting of all arms that have it; it is not searched.")
    ] = None,
    protocol: options.Protocol = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The first seed, and that of the searches (999).")] = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    jobs: options.Jobs = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the study (studies/DATA-compare).")] = None,
    resume: options.Resume = None,
    quiet: options.Quiet = False,
) -> None:
    """Compare models on equal terms: as many trials each, chosen on validation, then several seeds, tested once.

    MostPop, ItemKNN and EASE are always among them. Stopped at any time, the same command, or --resume, goes on.

    Example: **prismrec compare data/baby --models lightgcn,vbpr,freedom --plugins clear --seeds 5 --trials 20**

    Example: **prismrec compare --resume studies/baby-compare**
    """
    from prismrec.cli.board import conclude
    from prismrec.data.sources import read
    from prismrec.studies.arms import arms, chains
    from prismrec.studies.question import Question, check
    from prismrec.studies.search import DataOf

    console = Console(stderr=True, quiet=quiet)
    if resume is not None:
        question = taken_up(resume, "compare", context)
        pursue(question, resume, jobs, console, lambda study: conclude(study, quiet))
        return
    if data is None:
        raise PrismError("No data is named. Example: prismrec compare data/baby --models vbpr,freedom")
    wanted, notes = chains(split(models), split(plugins))
    if not split(models):
        raise PrismError(
            "No models are named. Example: prismrec compare data/baby --models vbpr,freedom --plugins clear"
        )
    say(console, f"reading {data} …", "dim")
    dataset = read(data)
    dataset.require("train", "valid", "test")
    for note in notes:
        say(console, note, "dim")
    run = options.of_run(protocol, seed, device, threads)
    question = Question(
        kind="compare",
        data=DataOf.of(dataset, data),
        arms=arms(wanted, assign or (), run, space, seeds),
        trials=trials,
    )
    check(question)
    folder = out or Path("studies") / f"{dataset.name}-compare"
    pursue(question, folder, jobs, console, lambda study: conclude(study, quiet))


def split(given: list[str] | None) -> list[str]:
    """Names given with commas or one by one."""
    return [name for text in given or [] for name in text.split(",") if name]
