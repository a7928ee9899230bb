"""``prismrec evaluate``, ``prismrec recommend``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prismrec.cli import options
from prismrec.cli.options import Part, TableFormat
from prismrec.cli.tables import Groups, flat, lists_table, show_groups, show_metrics, stdout, write_lists
from prismrec.cli.watch import say
from prismrec.errors import PrismError


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
