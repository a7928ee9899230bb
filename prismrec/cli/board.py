"""What a study comes to: leaderboards and sweeps, in the terminal and in files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from prismrec.cli.tables import stdout
from prismrec.cli.watch import say

if TYPE_CHECKING:
    from prismrec.studies.study import Study

COLUMNS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def conclude(study: Study, quiet: bool, metrics: Sequence[str] = COLUMNS) -> None:
    """Print the leaderboard and write it: board.json, .md, .tex, .csv and a page. ``metrics``: its columns, as far as known."""
    from prismrec.data.sources import read
    from prismrec.errors import PrismError
    from prismrec.report import write_study
    from prismrec.studies import export
    from prismrec.studies.board import Board

    runs = study.runs()
    if not runs:
        raise PrismError(f"No arm of {study.folder} has all of its runs; nothing can be compared.")
    some = next(iter(runs.values()))[0]
    columns = [metric for metric in metrics if all(metric in run.test.mean for arm in runs.values() for run in arm)]
    hosts = {arm: host for arm, host in study.hosts.items() if arm in runs and host in runs}  # one may have failed
    board = Board.of(runs, read(study.question.data.path), columns, some.metric, hosts)
    console = stdout()
    export.show(console, board)
    files = export.write(board, study.folder)
    page = write_study(study.folder)
    if not quiet:
        say(console, f"look at: {page}")
        say(console, f"written: {', '.join(str(file) for file in files)}")
        say(console, f"a page of each run, linked from there: prismrec report {shlex.quote(str(study.folder))} --runs")


def conclude_sweep(study: Study, quiet: bool) -> None:
    """Print what each point of a sweep came to and write it: sweep.csv and a page."""
    import polars as pl

    from prismrec.config import value_at
    from prismrec.errors import PrismError
    from prismrec.io import atomic
    from prismrec.report import write_study

    results = study.results()
    if not results:
        raise PrismError(f"No run of {study.folder} stands; nothing can be drawn.")
    rows = []
    for name, found in results.items():
        config = study.question.arms[name].config
        metric = config["train"]["metric"]
        values = [result[study.question.part][metric] for result in found]
        at = {path: value_at(config, path) for path in study.question.axes}
        spread = stdev(values) if len(values) > 1 else None
        rows.append({**at, metric: fmean(values), "sd": spread, "seeds": len(values)})
    best = max(row[metric] for row in rows)
    table = Table(box=box.SIMPLE_HEAD, title=f"{metric} on the {study.question.part} part", title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        shown = [
            f"{v:.4f}" if k in (metric, "sd") and v is not None else "" if v is None else str(v) for k, v in row.items()
        ]
        table.add_row(*shown, style="bold" if row[metric] == best else None)
    console = stdout()
    console.print(table)
    with atomic(study.folder / "sweep.csv") as part:
        pl.DataFrame(rows).write_csv(part)
    page = write_study(study.folder)
    if not quiet:
        say(console, f"look at: {page}")
        say(console, f"written: {study.folder / 'sweep.csv'}")
