"""``prismrec train``, ``prismrec evaluate``, ``prismrec recommend``."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from prismrec.errors import PrismError

if TYPE_CHECKING:
    import polars as pl

    from prismrec.config import RunConfig
    from prismrec.data.dataset import Dataset


class TableFormat(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Part(StrEnum):
    """A held-out part of the split."""

    VALID = "valid"
    TEST = "test"


class ProtocolName(StrEnum):
    """What is masked."""

    DEFAULT = "default"
    MMREC = "mmrec"


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]
ProtocolOption = Annotated[
    ProtocolName | None,
    typer.Option(
        "--protocol",
        help="`default` masks training items at validation, and validation items too at test; `mmrec` masks training "
        "items only, as published tables do.",
        show_default=False,
    ),
]
Format = Annotated[TableFormat, typer.Option("--format", "-f", help="How to print.")]


def train(
    data: Annotated[
        str | None, typer.Argument(help="A data folder, or anything that `prismrec data import` reads.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="A name from `prismrec models`.")] = None,
    plugin: Annotated[list[str] | None, typer.Option("--plugin", "-p", help="A name from `prismrec plugins`.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="A YAML file of settings.")] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as model.layers=3 or clear.rank=4.")
    ] = None,
    protocol: ProtocolOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random (999).")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N (auto).")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads (all cores).")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run (runs/DATA-MODEL-seed).")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with an interrupted run.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a model, choose the epoch on validation, and evaluate it once on the test split.

    Example: **prismrec train data/baby --model freedom --plugin clear --set model.layers=2 --out runs/first**

    Example: **prismrec train --resume runs/first**
    """
    from prismrec import experiment
    from prismrec.data.sources import read

    if resume is not None:
        cfg, known = experiment.saved_config(resume)
        where = data or known.get("path")
        if where is None:
            raise PrismError(f"{resume} does not know where its data lies; name it: prismrec train DATA --resume {resume}")
        dataset, folder, source = read(where), resume, str(resume / "config.yaml")
    else:
        if data is None:
            raise PrismError("No data is named. Example: prismrec train data/baby --model freedom")
        dataset, where = read(data), data
        cfg, source = experiment.configure(
            dataset,
            model,
            plugin or (),
            config,
            assign or (),
            protocol=None if protocol is None else protocol.value,
            seed=seed,
            device=device,
            threads=threads,
        )
        folder = out or _free(Path("runs") / f"{dataset.name}-{cfg.label}-seed{cfg.run.seed}")
        if (folder / "config.yaml").exists():
            raise PrismError(
                f"{folder} already holds a run. Name another folder with --out, or go on with it: prismrec train --resume {folder}"
            )
    console = Console(stderr=True, quiet=quiet)
    _announce(console, cfg, dataset, source, folder)
    result = experiment.run(cfg, dataset, folder, _screen(console, cfg, dataset), where)
    _conclude(result.summary, folder, quiet)


def _screen(console: Console, cfg: RunConfig, dataset: Dataset) -> Any:
    from prismrec.cli.watch import Screen

    return Screen(console, cfg.train, len(dataset.interactions.part("train")))


def _free(path: Path) -> Path:
    """``path``, or the first of path-2, path-3 … that is not taken."""
    tries = (path if i == 1 else path.with_name(f"{path.name}-{i}") for i in range(1, 1 << 20))
    return next(candidate for candidate in tries if not candidate.exists())


def _announce(console: Console, cfg: RunConfig, dataset: Dataset, source: str, folder: Path) -> None:
    modalities = ", ".join(f"{m} ({v.width})" for m, v in dataset.modalities.items()) or "none"
    console.print(
        f"[bold]{cfg.label}[/] on [bold]{dataset.name}[/]: {dataset.n_users:,} users, {dataset.n_items:,} items, "
        f"{len(dataset.interactions):,} interactions, modalities {modalities}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"settings: {source} · protocol {cfg.run.protocol} · seed {cfg.run.seed} · run folder {folder}",
                  highlight=False, soft_wrap=True)  # fmt: skip
    if dataset.interactions.weight is not None and not cfg.model.uses_weights:
        console.print(f"{cfg.model.name} ignores the interaction weights of this data.")


def _conclude(summary: dict[str, Any], folder: Path, quiet: bool) -> None:
    console = Console()
    _metrics_table(console, {"valid": summary["valid"], "test": summary["test"]})
    if quiet:
        return
    console.print(
        f"best epoch {summary['best_epoch']} of {summary['epochs']} ({summary['stopped']}) · "
        f"{summary['seconds_per_epoch']:.2f} s an epoch, {summary['seconds_per_evaluation']:.2f} s an evaluation",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Next: prismrec recommend {folder} --all --top 20 -o recs.parquet", highlight=False, soft_wrap=True)


def _metrics_table(console: Console, columns: dict[str, dict[str, float]]) -> None:
    table = Table(header_style="bold")
    table.add_column("metric")
    for name in columns:
        table.add_column(name, justify="right")
    for metric in next(iter(columns.values())):
        table.add_row(metric, *(f"{values[metric]:.4f}" for values in columns.values()))
    console.print(table)


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="A run folder.", show_default=False)] = None,
    scores: Annotated[
        Path | None,
        typer.Option("--scores", help="Somebody else's embeddings (.safetensors, .npz) or top-k lists (.parquet, .csv)."),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="The data set (default: the run's own).")] = None,
    part: Annotated[Part, typer.Option("--part", help="Which held-out part to rank for.")] = Part.TEST,
    protocol: ProtocolOption = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Such as recall@20; may be repeated.")] = None,
    format: Format = TableFormat.TABLE,
) -> None:
    """Rank all items for every user with held-out items, and print the metrics.

    Example: **prismrec evaluate runs/first --part test --metric recall@20 --metric ndcg@20**

    Example: **prismrec evaluate --scores theirs.npz --data data/baby --protocol mmrec**
    """
    from prismrec import experiment
    from prismrec.data.sources import read
    from prismrec.evaluate import METRICS, Evaluator
    from prismrec.evaluate import protocol as protocol_named
    from prismrec.external import evaluate_external

    if (run is None) == (scores is None):
        raise PrismError("Name either a run folder or --scores FILE. Example: prismrec evaluate runs/first")
    rules = protocol_named("default" if protocol is None else protocol.value)
    if run is not None:
        cfg, known = experiment.saved_config(run)
        if protocol is None:
            rules = protocol_named(cfg.run.protocol)
        dataset = read(data or known["path"])
        experiment.check_same_data(run, known, dataset)
        means = Evaluator.of(dataset, part.value, rules, metric or cfg.run.metrics)(experiment.saved_reps(run))
    else:
        assert scores is not None
        if data is None:
            raise PrismError("--scores needs --data DATA: the data set whose held-out items are to be ranked.")
        external = evaluate_external(scores, read(data), part.value, rules, metric or METRICS)
        for note in external.notes:
            Console(stderr=True).print(f"Note: {note}", highlight=False, soft_wrap=True)
        means = external.evaluation.mean
    if format is TableFormat.JSON:
        typer.echo(json.dumps({"part": part.value, "protocol": rules.name, "metrics": means}, indent=2))
    elif format is TableFormat.CSV:
        typer.echo("\n".join(["metric,value", *(f"{name},{value!r}" for name, value in means.items())]))
    else:
        _metrics_table(Console(), {f"{part.value} ({rules.name})": means})


def recommend(
    run: Annotated[Path, typer.Argument(help="A finished run folder.", show_default=False)],
    user: Annotated[list[str] | None, typer.Option("--user", "-u", help="A user id; may be repeated.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's list.")] = False,
    top: Annotated[int, typer.Option("--top", "-k", help="Length of a list.")] = 10,
    modality: Annotated[str | None, typer.Option("--modality", help="Rank by one modality alone.")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Keep items that the user has taken.")] = False,
    format: Format = TableFormat.TABLE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write .parquet, .csv or .json.")] = None,
) -> None:
    """Recommend: print lists for some users, or write everybody's.

    Example: **prismrec recommend runs/first --user 17 --user 42 --top 10**

    Example: **prismrec recommend runs/first --all --top 20 -o recs.parquet**
    """
    import polars as pl

    from prismrec.recommender import Recommender

    if everybody == bool(user):
        raise PrismError("Name users with --user ID, or everybody with --all.")
    if everybody and output is None and format is TableFormat.TABLE:
        raise PrismError("--all needs a file: -o recs.parquet (or .csv, .json), or --format csv|json to print.")
    if output is not None and output.suffix not in (".parquet", ".csv", ".json"):
        raise PrismError(f"-o {output} ends in {output.suffix or 'nothing'}; expected .parquet, .csv or .json.")
    index = Recommender.load(run).index
    if everybody:
        table = pl.concat(list(index.recommend_all(top, not include_seen, modality)))
    else:
        table = index.recommend(user or [], top, not include_seen, modality)
    if output is not None:
        _write(table, output)
        users = table["user"].n_unique()
        Console(stderr=True).print(f"{len(table):,} rows for {users:,} users in {output}", highlight=False)
    elif format is TableFormat.CSV:
        typer.echo(table.write_csv(), nl=False)
    elif format is TableFormat.JSON:
        typer.echo(table.write_json())
    else:
        _print_lists(table)


def _write(table: pl.DataFrame, output: Path) -> None:
    from prismrec.io import atomic

    with atomic(output) as part:
        if output.suffix == ".parquet":
            table.write_parquet(part)
        elif output.suffix == ".csv":
            table.write_csv(part)
        else:
            table.write_json(part)


def _print_lists(table: pl.DataFrame) -> None:
    shown = Table(header_style="bold")
    for name in table.columns:
        shown.add_column(name, justify="right" if name in ("rank", "score") else "left", overflow="fold")
    last = None
    for row in table.iter_rows(named=True):
        if last is not None and row["user"] != last:
            shown.add_section()
        last = row["user"]
        shown.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(shown)
