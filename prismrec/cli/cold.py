"""``prismrec cold``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from prismrec.cli import options
from prismrec.cli.watch import Screen, say
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.config import RunConfig
    from prismrec.data.dataset import Dataset
    from prismrec.studies.cold import Entry


def cold(
    data: options.Data = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="Such as freedom or freedom+clear, with commas or repeated.", show_default=False
        ),
    ] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="One setting of all these models.")] = None,
    part: Annotated[options.Part, typer.Option("--part", help="Which held-out part to rank for.")] = options.Part.TEST,
    protocol: options.Protocol = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of training (999).")] = None,
    device: options.Device = None,
    threads: options.Threads = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the runs (runs/DATA-cold).")] = None,
    format: options.Format = options.TableFormat.TABLE,
    quiet: options.Quiet = False,
) -> None:
    """How well models rank items that nobody has taken yet: train on warm items, add cold ones by their features.

    An item is cold if it has no training row: `prismrec data split DATA --by item`. MostPop and ContentKNN are always among
    the models. Stopped at any time, the same command goes on; runs that stand are not trained again.

    Example: **prismrec cold data/shop-cold --model vbpr,freedom+clear -o runs/shop-cold**

    Example: **prismrec cold data/shop-cold --model vbpr --set train.epochs=20 --part valid --format json**
    """
    from prismrec.cli.compare import split
    from prismrec.data.sources import read
    from prismrec.experiment import configure
    from prismrec.io import write_json
    from prismrec.studies import cold as study

    console = Console(stderr=True, quiet=quiet)
    if data is None or not split(model):
        raise PrismError("Name data and models. Example: prismrec cold data/shop-cold --model vbpr,freedom")
    say(console, f"reading {data} …", "dim")
    dataset = read(data)
    run = options.of_run(protocol, seed, device, threads)
    wanted = [(name, ()) for name in study.FLOORS] + [(name, assign or ()) for name in split(model)]
    arms = []
    for name, settings in dict(wanted).items():
        first, *plugins = name.split("+")
        arms.append(configure(dataset, first, plugins, assignments=settings, **run)[0])
    for cfg in arms:
        study.check(cfg, dataset)
    folder = out or Path("runs") / f"{dataset.name}-cold"
    entries: list[Entry] = []
    for cfg in arms:
        entries += _trained(cfg, dataset, folder, part.value, console)
        found = study.record(dataset, part.value, arms[0], entries)
        write_json(folder / f"cold-{part.value}.json", found)
    _show(found, format)
    say(console, f"every number is in {folder / f'cold-{part.value}.json'}", "dim")


def _trained(cfg: RunConfig, dataset: Dataset, folder: Path, part: str, console: Console) -> list[Entry]:
    from prismrec.studies import cold as study

    place = folder / f"{cfg.label}-seed{cfg.run.seed}"
    rows = len(dataset.interactions.part("train"))
    try:
        with Screen(console, cfg.train, rows, cfg.label) as screen:
            return study.entries(cfg, dataset, part, place, screen)
    except KeyboardInterrupt:
        say(Console(stderr=True), "Interrupted. The same command goes on.", "")
        raise typer.Exit(130) from None


def _show(found: dict[str, Any], format: options.TableFormat) -> None:
    import json

    from prismrec.cli.tables import number, show_whole, stdout
    from prismrec.studies.cold import MAIN

    if format is options.TableFormat.JSON:
        typer.echo(json.dumps(found, indent=2))
        return
    kinds = list(found["entries"][0]["kinds"])
    heads = ["model", *(f"{kind} {metric}" for kind in kinds for metric in MAIN)]
    lines = [
        [entry["label"], *(entry["kinds"][kind].get(metric) for kind in kinds for metric in MAIN)]
        for entry in found["entries"]
    ]
    if format is options.TableFormat.CSV:
        typer.echo("\n".join(",".join("" if v is None else str(v) for v in line) for line in [heads, *lines]))
        return
    items = found["items"]
    console = stdout()
    say(
        console,
        f"{found['part']} part of {found['data']}: {items['warm']:,} warm items, {items['cold']:,} cold ones; "
        f"a random order of the cold ones has recall@20 {items['chance@20']:.4f}",
        "bold",
    )
    table = Table(box=box.SIMPLE_HEAD, padding=0, header_style="bold")
    table.add_column("\nmodel", no_wrap=True)
    for kind in kinds:
        for place, metric in enumerate(MAIN):
            table.add_column(f"{kind if place == 0 else ''}\n{metric}", justify="right", no_wrap=True)
    for label, *values in lines:
        table.add_row(label, *("" if value is None else number(value) for value in values))
    show_whole(console, table)
