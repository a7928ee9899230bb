"""Tables for people: metrics by cutoff, and recommended lists. Programs read JSON, CSV or the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import polars as pl

Means = Mapping[str, float]
_WIDE = 120  # columns


def stdout() -> Console:
    """Where results are printed: the terminal, or where there is none lines wide enough for most tables."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


def show_whole(console: Console, table: Table) -> None:
    """Print a table, on lines as wide as it takes: too wide is better than numbers cut short."""
    width = console.measure(table, options=console.options.update(width=1000)).maximum
    Console(file=console.file, highlight=False, width=max(width, console.width)).print(table)


def show_metrics(console: Console, parts: Mapping[str, Means]) -> None:
    """Metrics as rows, cutoffs as columns; parts side by side where the width allows, else one below the other."""
    together = metrics_table(parts)
    if console.measure(together, options=console.options.update(width=1000)).maximum <= console.width:
        console.print(together)
    else:
        for name, means in parts.items():
            console.print(metrics_table({name: means}))


def metrics_table(parts: Mapping[str, Means]) -> Table:
    """One table of ``parts`` (name → metric → mean)."""
    names = [metric.split("@") for means in parts.values() for metric in means]
    rows = list(dict.fromkeys(name for name, _ in names))
    cutoffs = sorted({int(k) for _, k in names})
    table = Table(box=box.SIMPLE_HEAD, padding=0, header_style="bold")
    above = "\n" if any(parts) else ""  # a line for the names of parts, where they have names
    table.add_column(f"{above}metric", no_wrap=True)
    for part in parts:
        for place, k in enumerate(cutoffs):
            head = Text(f"{part if place == 0 else ''}{above}@{k}", justify="right")
            table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        cells = (means.get(f"{row}@{k}") for means in parts.values() for k in cutoffs)
        table.add_row(row, *("" if value is None else number(value) for value in cells))
    return table


def number(value: float) -> str:
    """Four decimals, fewer where the number is large: 0.0821, 7.3001, 104.1."""
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def write_lists(lists: pl.DataFrame, output: Path) -> None:
    """Write them whole or not at all, in the form that the file's name ends in."""
    from prismrec.io import atomic

    with atomic(output) as part:
        if output.suffix == ".parquet":
            lists.write_parquet(part)
        elif output.suffix == ".csv":
            lists.write_csv(part)
        else:
            lists.write_json(part)


Groups = Mapping[str, Mapping[str, Means]]
"""Grouping → label → number of users and means of metrics."""


def show_groups(console: Console, groups: Groups) -> None:
    """A table of each grouping: a row for each group."""
    for by, found in groups.items():
        names = list(dict.fromkeys(name for means in found.values() for name in means))
        table = Table(box=box.SIMPLE_HEAD, padding=0, header_style="bold")
        table.add_column(by, no_wrap=True)
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        for label, means in found.items():
            cells = (f"{int(means[name]):,}" if name == "users" else number(means[name]) for name in names)
            table.add_row(label, *cells)
        show_whole(console, table)


def flat(groups: Groups) -> dict[str, float]:
    """The same in one level: ``grouping: label: metric`` → value."""
    return {
        f"{by}: {label}: {name}": value
        for by, found in groups.items()
        for label, means in found.items()
        for name, value in means.items()
    }


def lists_table(lists: pl.DataFrame) -> Table:
    """Recommended lists, a line between users. Titles are shown as they are, brackets and all."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in lists.columns:
        table.add_column(name, justify="right" if name in ("rank", "score") else "left", overflow="fold")
    before = None
    for row in lists.iter_rows(named=True):
        if before is not None and row.get("user") != before:
            table.add_section()
        before = row.get("user")
        table.add_row(*(Text(number(value) if isinstance(value, float) else str(value)) for value in row.values()))
    return table
