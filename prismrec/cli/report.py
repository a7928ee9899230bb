"""``prismrec report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prismrec.cli.watch import Foot, interrupted, say
from prismrec.errors import PrismError


def report(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN|STUDY", help="The folder of a run, comparison or search.", show_default=False),
    ],
    data: Annotated[str | None, typer.Option("--data", help="Where a run's data lies now, if it was moved.")] = None,
    users: Annotated[int, typer.Option("--users", min=0, help="How many users' lists the page of a run shows.")] = 6,
    runs: Annotated[
        bool, typer.Option("--runs", help="A page of each run of a study too; the study's own links to them.")
    ] = False,
) -> None:
    """Write the page of a run or a study again: report.html in its folder, one file that loads nothing from elsewhere.

    What `prismrec diagnose` found stands on it too, once it was run. Nothing is trained again.

    Example: **prismrec report runs/first**

    Example: **prismrec report studies/baby-compare --runs**
    """
    from prismrec.cli.reproduce import ASKED
    from prismrec.data.sources import read
    from prismrec.report import write_run_report, write_study
    from prismrec.report.study import STUDY
    from prismrec.run_folder import saved_config
    from prismrec.runs import data_of

    if (folder / ASKED).is_file():
        raise PrismError(
            f"{folder} is a reproduction: prismrec reproduce --resume {folder} writes its page again. Its parts are studies, "
            "in folders of their own."
        )
    if (folder / STUDY).is_file():
        if runs:
            _of_runs(folder, data, users)
        page = write_study(folder)
    elif runs:
        raise PrismError(f"{folder} is no study: it has no {STUDY}. Leave out --runs for the page of a run.")
    else:
        _, known = saved_config(folder)
        where = data_of(folder, known, data, f"prismrec report {folder} --data DATA")
        page = write_run_report(folder, read(where), users)
    say(Console(), f"look at: {page}")


def _of_runs(folder: Path, data: str | None, users: int) -> None:
    """The pages of a study's runs, told one by one."""
    from prismrec.config import read_yaml
    from prismrec.data.sources import read
    from prismrec.report.study import STUDY, write_runs
    from prismrec.runs import data_of

    known = read_yaml(folder / STUDY).get("data")
    if known is None:
        raise PrismError(f"{folder} is a search, whose trials have no page of their own; leave out --runs.")
    dataset = read(data_of(folder, known, data, f"prismrec report {folder} --runs --data DATA"))
    try:
        with Foot(Console(stderr=True), "writing a page of each run …") as foot:
            for page in write_runs(folder, dataset, users):
                say(foot.console, f"written: {page}", "dim")
    except KeyboardInterrupt:
        interrupted(f"prismrec report {folder} --runs")
        raise typer.Exit(130) from None
