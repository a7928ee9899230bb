"""``prismrec train``, ``prismrec evaluate``, ``prismrec recommend``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from prismrec.cli import crew as crew_
from prismrec.cli import options
from prismrec.cli.options import Part, TableFormat
from prismrec.cli.tables import Groups, flat, lists_table, show_groups, show_metrics, stdout, write_lists
from prismrec.cli.watch import Screen, interrupted, say
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.config import RunConfig
    from prismrec.data.dataset import Dataset


def train(
    data: options.Data = None,
    model: options.ModelName = None,
    plugin: options.PluginNames = None,
    config: options.Config = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as model.layers=3 or clear.rank=4.")
    ] = None,
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
    quiet: options.Quiet = False,
) -> None:
    """Train a model, choose the epoch on validation, and evaluate it once on the test split.

    Example: **prismrec train data/baby --model freedom --plugin clear --set model.layers=2 --out runs/first**

    Example: **prismrec train --resume runs/first**

    Example: **prismrec train data/baby-december --warm-start runs/first --out runs/december**

    Example: **prismrec train data/large --model vbpr --workers 4 --out runs/large**
    """
    from prismrec import experiment, parallel
    from prismrec.data.sources import read
    from prismrec.plugins import plugin_named
    from prismrec.recipes import recipe_named

    console = Console(stderr=True, quiet=quiet or parallel.helper())
    if resume is not None:
        given = {"--model": model, "--plugin": plugin, "--config": config, "--set": assign, "--protocol": protocol,
                 "--seed": seed, "--device": device, "--threads": threads, "--out": out,
                 "--warm-start": warm_start}  # fmt: skip
        _resume(
            resume,
            data,
            [name for name, value in given.items() if value is not None],
            console,
            quiet,
            track or (),
            workers,
        )
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
    if warm_start is not None:
        from prismrec import warm

        for line in warm.start(warm_start, cfg, dataset, folder, data).sentences():
            say(console, line)
    _run(cfg, dataset, source, folder, data, console, quiet, track or (), workers)


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


def _resume(
    folder: Path, data: str | None, given: list[str], console: Console, quiet: bool, track: Sequence[str], workers: int
) -> None:
    """Go on with an interrupted run, or say that it is finished."""
    from prismrec import parallel, run_folder
    from prismrec.data.sources import read
    from prismrec.runs import data_of

    if given:
        raise PrismError(
            f"--resume goes on with the settings in {folder / 'config.yaml'}; leave out {', '.join(given)}, or train a new run."
        )
    cfg, known = run_folder.saved_config(folder)
    if run_folder.finished(folder):
        say(console, f"{folder} is finished; there is nothing to resume.", "dim")
        if not parallel.helper():
            _conclude(run_folder.saved_result(folder), folder, quiet)
        return
    where = data_of(folder, known, data, f"prismrec train DATA --resume {folder}")
    say(console, f"reading {where} …", "dim")
    _run(cfg, read(where), str(folder / "config.yaml"), folder, where, console, quiet, track, workers)


def _run(
    cfg: RunConfig,
    dataset: Dataset,
    source: str,
    folder: Path,
    where: str,
    console: Console,
    quiet: bool,
    track: Sequence[str],
    workers: int,
) -> None:
    from prismrec import experiment, parallel, run_folder
    from prismrec.machine import pick_device
    from prismrec.tracking import tracked

    again = f"prismrec train --resume {folder}{f' --workers {workers}' if workers > 1 else ''}"
    try:
        if workers > 1 and not parallel.called():
            run_folder.check_free(folder, cfg, dataset)
            with run_folder.held(folder, cfg, dataset, where):
                pass  # its settings stand there: that is what the processes go on with
            options_ = [*(["-q"] if quiet else []), *(text for name in track for text in ("--track", name))]
            crew_.launch(workers, ["train", "--resume", str(folder), *options_])
            return
        with parallel.joined(pick_device(cfg.run.device)) as crew:
            if not crew.first:
                experiment.assist(cfg, dataset, folder, crew)
                return
            _announce(console, cfg, dataset, source, folder)
            rows = len(dataset.interactions.part("train"))
            with Screen(console, cfg.train, rows, cfg.label) as screen, tracked(track, folder, cfg, screen) as watcher:
                result = experiment.run(cfg, dataset, folder, watcher, where, crew)
    except KeyboardInterrupt:
        if not parallel.called():  # whoever started several says it once
            interrupted(again)
        raise typer.Exit(130) from None
    from prismrec.report import write_run_report  # draws figures: late

    write_run_report(folder, dataset)
    _conclude(result.summary, folder, quiet)


def _free(path: Path) -> Path:
    """``path``, or the first of path-2, path-3 … that is not taken."""
    tries = (path if i == 1 else path.with_name(f"{path.name}-{i}") for i in range(1, 1 << 20))
    return next(candidate for candidate in tries if not candidate.exists())


def _announce(console: Console, cfg: RunConfig, dataset: Dataset, source: str, folder: Path) -> None:
    modalities = ", ".join(f"{m} ({v.width})" for m, v in dataset.modalities.items()) or "none"
    say(
        console,
        f"{cfg.label} on {dataset.name}: {dataset.n_users:,} users, {dataset.n_items:,} items, "
        f"{len(dataset.interactions):,} interactions, modalities: {modalities}",
        "bold",
    )
    say(console, f"settings: {source} · protocol {cfg.run.protocol} · seed {cfg.run.seed} · run folder: {folder}")
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


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="A run folder.", show_default=False)] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores", help="Somebody else's embeddings (.safetensors, .npz) or top-k lists (.parquet, .csv)."
        ),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="The data set (default: the run's own).")] = None,
    part: Annotated[Part, typer.Option("--part", help="Which held-out part to rank for.")] = Part.TEST,
    protocol: options.Protocol = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Such as recall@20; may be repeated.")] = None,
    groups: Annotated[
        bool, typer.Option("--groups", help="Also warm and cold items apart, and groups of users.")
    ] = False,
    format: options.Format = TableFormat.TABLE,
) -> None:
    """Rank all items for every user with held-out items, and print the metrics.

    Example: **prismrec evaluate runs/first --part test --metric recall@20 --metric ndcg@20**

    Example: **prismrec evaluate runs/first --groups --metric recall@20**

    Example: **prismrec evaluate --scores theirs.npz --data data/baby --protocol mmrec**
    """
    from prismrec import experiment, run_folder
    from prismrec.data.sources import read
    from prismrec.evaluate import LIST_METRICS, METRICS, Evaluator
    from prismrec.evaluate import protocol as protocol_named
    from prismrec.external import evaluate_external
    from prismrec.machine import cpu_threads, pick_device
    from prismrec.runs import data_of
    from prismrec.studies.groups import grouped

    if (run is None) == (scores is None):
        raise PrismError("Name either a run folder or --scores FILE. Example: prismrec evaluate runs/first")
    rules = protocol_named("default" if protocol is None else protocol.value)
    apart: Groups = {}
    if run is not None:
        cfg, known = run_folder.saved_config(run)
        if protocol is None:
            rules = protocol_named(cfg.run.protocol)
        device = pick_device(cfg.run.device)
        reps = run_folder.saved_reps(run, device)
        dataset = read(data_of(run, known, data, f"prismrec evaluate {run} --data DATA"))
        run_folder.check_same_data(run, known, dataset)
        with cpu_threads(cfg.run.threads):  # device and threads of the run: then its figures come out to the last bit
            means = Evaluator.of(dataset, part.value, rules, metric or experiment.reported(cfg), device)(reps)
            if groups:
                apart = grouped(reps, dataset, part.value, rules, metric or ["recall@20", "ndcg@20"], device)
    else:
        assert scores is not None
        if data is None:
            raise PrismError("--scores needs --data DATA: the data set whose held-out items are to be ranked.")
        if groups:
            raise PrismError(
                "--groups ranks warm and cold items apart, which takes a run's own scores: name a run folder."
            )
        external = evaluate_external(scores, read(data), part.value, rules, metric or [*METRICS, *LIST_METRICS])
        for note in external.notes:
            Console(stderr=True).print(f"Note: {note}", highlight=False, soft_wrap=True)
        means = external.evaluation.mean
    if format is TableFormat.JSON:
        found = {"part": part.value, "protocol": rules.name, "metrics": means}
        typer.echo(json.dumps(found | ({"groups": apart} if groups else {}), indent=2))
    elif format is TableFormat.CSV:
        typer.echo("\n".join(["metric,value", *(f"{name},{value!r}" for name, value in (means | flat(apart)).items())]))
    else:
        say(stdout(), f"{part.value} part, protocol {rules.name}", "bold")
        show_metrics(stdout(), {"": means})
        show_groups(stdout(), apart)


def recommend(
    run: Annotated[Path, typer.Argument(help="A finished run folder.", show_default=False)],
    user: Annotated[list[str] | None, typer.Option("--user", "-u", help="A user id; may be repeated.")] = None,
    took: Annotated[
        list[str] | None, typer.Option("--for", help="An item that somebody took; may be repeated.")
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's list.")] = False,
    top: Annotated[int, typer.Option("--top", "-k", help="Length of a list.")] = 10,
    modality: Annotated[str | None, typer.Option("--modality", help="Rank by one modality alone.")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Keep items that the user has taken.")] = False,
    format: options.Format = TableFormat.TABLE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write .parquet, .csv or .json.")] = None,
) -> None:
    """Recommend: print lists for some users, or write everybody's.

    Example: **prismrec recommend runs/first --user 17 --user 42 --top 10**

    Example: **prismrec recommend runs/first --for 50 --for 181 --top 10**

    Example: **prismrec recommend runs/first --all --top 20 -o recs.parquet**
    """
    import polars as pl

    from prismrec.recommender import Recommender

    if everybody + bool(user) + bool(took) != 1:
        raise PrismError("Name users with --user ID, items that somebody took with --for ID, or everybody with --all.")
    if everybody and output is None and format is TableFormat.TABLE:
        raise PrismError("--all needs a file: -o recs.parquet (or .csv, .json), or --format csv|json to print.")
    if output is not None and output.suffix not in (".parquet", ".csv", ".json"):
        raise PrismError(f"-o {output} ends in {output.suffix or 'nothing'}; expected .parquet, .csv or .json.")
    index = Recommender.load(run).index
    if everybody:
        table = pl.concat(list(index.recommend_all(top, not include_seen, modality)))
    elif took:
        table = index.recommend_for(took, top, not include_seen, modality)
    else:
        table = index.recommend(user or [], top, not include_seen, modality)
    if output is not None:
        write_lists(table, output)
        users = "" if took else f" for {table['user'].n_unique():,} users"
        Console(stderr=True).print(f"{len(table):,} rows{users} in {output}", highlight=False)
    elif format is TableFormat.CSV:
        typer.echo(table.write_csv(), nl=False)
    elif format is TableFormat.JSON:
        typer.echo(table.write_json())
    else:
        stdout().print(lists_table(table))
