"""``prismrec diagnose``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prismrec.cli.options import Part
from prismrec.cli.show import FormatOption, ListFormat
from prismrec.cli.tables import show_whole, stdout

if TYPE_CHECKING:
    from prismrec.diagnostics import Diagnosis, Finding

_SHOWN = 24  # rows of a table in a terminal


def diagnose(
    run: Annotated[Path, typer.Argument(help="A finished run folder.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for page, tables and figures (RUN/diagnosis).")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="One measurement; may be repeated.")] = None,
    k: Annotated[int, typer.Option("--k", help="Length of a list, and of a neighbourhood.")] = 20,
    part: Annotated[Part, typer.Option("--part", help="Whose hits are counted.")] = Part.VALID,
    no_mask: Annotated[bool, typer.Option("--no-mask", help="Leave known items in the lists.")] = False,
    data: Annotated[str | None, typer.Option("--data", help="Where the data lies now, if it was moved.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of whatever is drawn.")] = 0,
    format: FormatOption = ListFormat.TABLE,
) -> None:
    """Look into a run: what the modalities share, who is hit by which of them, what is taken for what.

    Prints what was found and writes a folder: one HTML page, each table as CSV and Parquet, each figure as SVG.

    Example: **prismrec diagnose runs/first**

    Example: **prismrec diagnose runs/first --only subsets --k 10 --out looked-into**
    """
    from prismrec.diagnostics import Subject, View, check_names
    from prismrec.diagnostics import diagnose as look
    from prismrec.machine import cpu_threads
    from prismrec.report import write_diagnosis

    check_names(only or ())
    subject = Subject.of_run(run, data, View(k=k, part=part.value, masked=not no_mask, seed=seed))
    with cpu_threads(subject.config.run.threads if subject.config else 0):
        diagnosis = look(subject, only or ())
    page = write_diagnosis(out or run / "diagnosis", diagnosis)
    if format is ListFormat.JSON:
        typer.echo(json.dumps(_tree(diagnosis), indent=2, ensure_ascii=False))
        return
    console = stdout()
    for finding in diagnosis.findings:
        _show(console, finding)
    for name, reason in diagnosis.skipped:
        console.print(Text(f"{name} skipped: {reason}", style="dim"), soft_wrap=True)
    console.print(Text(f"look at: {page}"), soft_wrap=True)


def _show(console: Console, finding: Finding) -> None:
    import polars as pl

    from prismrec.panels import rows_of

    console.print(Text(f"{finding.name}: {finding.title}", style="bold"))
    console.print(Text(finding.says))
    rows = rows_of(finding.table, _SHOWN)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0))
    for column, kind in finding.table.schema.items():
        table.add_column(column, justify="left" if kind == pl.String else "right", no_wrap=True)
    for row in rows["rows"]:
        table.add_row(*map(Text, row))
    show_whole(console, table)
    if rows["height"] > _SHOWN:
        console.print(Text(f"{rows['height'] - _SHOWN:,} more rows in {finding.name}.csv\n", style="dim"))


def _tree(diagnosis: Diagnosis) -> dict[str, object]:
    view = diagnosis.subject.view
    return {
        "part": view.part,
        "k": view.k,
        "masked": view.masked,
        "findings": [
            {"name": f.name, "title": f.title, "says": f.says, "rows": f.table.fill_nan(None).to_dicts()}
            for f in diagnosis.findings
        ],
        "skipped": [{"name": name, "reason": reason} for name, reason in diagnosis.skipped],
    }
