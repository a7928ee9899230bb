"""``prismrec report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", help="Where the data lies now, if it was moved.")] = None,
    users: Annotated[int, typer.Option("--users", min=0, help="How many users' lists are shown.")] = 6,
) -> None:
    """Write the page of a run again: report.html in its folder, one file that loads nothing from elsewhere.

    What `prismrec diagnose` found stands on it too, once it was run. Nothing is trained or ranked again but some users' lists.

    Example: **prismrec report runs/first**
    """
    from prismrec.data.sources import read
    from prismrec.report import write_run_report
    from prismrec.run_folder import saved_config
    from prismrec.runs import data_of

    _, known = saved_config(folder)
    page = write_run_report(folder, read(data_of(folder, known, data, f"prismrec report {folder} --data DATA")), users)
    Console(highlight=False).print(Text(f"look at: {page}"), soft_wrap=True)
