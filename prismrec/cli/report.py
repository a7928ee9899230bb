"""``prismrec report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text


def report(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN|STUDY", help="The folder of a run, comparison or search.", show_default=False),
    ],
    data: Annotated[str | None, typer.Option("--data", help="Where a run's data lies now, if it was moved.")] = None,
    users: Annotated[int, typer.Option("--users", min=0, help="How many users' lists the page of a run shows.")] = 6,
) -> None:
    """Write the page of a run or a study again: report.html in its folder, one file that loads nothing from elsewhere.

    What `prismrec diagnose` found stands on it too, once it was run. Nothing is trained again.

    Example: **prismrec report runs/first**

    Example: **prismrec report studies/baby-compare**
    """
    from prismrec.data.sources import read
    from prismrec.report import write_run_report, write_study
    from prismrec.report.study import STUDY
    from prismrec.run_folder import saved_config
    from prismrec.runs import data_of

    if (folder / STUDY).is_file():
        page = write_study(folder)
    else:
        _, known = saved_config(folder)
        where = data_of(folder, known, data, f"prismrec report {folder} --data DATA")
        page = write_run_report(folder, read(where), users)
    Console(highlight=False).print(Text(f"look at: {page}"), soft_wrap=True)
