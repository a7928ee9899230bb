"""``prismrec models``, ``prismrec plugins``, ``prismrec demo``."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from prismrec.models.base import Paper, Strict


class ListFormat(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[ListFormat, typer.Option("--format", help="A table, or JSON for scripts.")]


def models(format: FormatOption = ListFormat.TABLE) -> None:
    """List the models with paper, year and what they need.

    Example: **prismrec models --format json**
    """
    from prismrec.models import MODELS
    from prismrec.recipes import RECIPES

    rows = [
        {**_entry(model.name, model.paper, model.Config), "modalities": model.needs, "uses_weights": model.uses_weights}
        for model in MODELS
    ]
    weighted = {model.name: model.uses_weights for model in MODELS}
    for recipe in RECIPES:
        entry = {**_entry(recipe.name, recipe.paper, None), "modalities": recipe.needs}
        rows.append({**entry, "uses_weights": weighted[recipe.model], "recipe": [recipe.model, *recipe.plugins]})
    _print("Models", rows, format)


def plugins(format: FormatOption = ListFormat.TABLE) -> None:
    """List the plug-ins, which act on any model that qualifies.

    Example: **prismrec plugins --format json**
    """
    from prismrec.plugins import PLUGINS

    _print("Plug-ins", [_entry(plugin.name, plugin.paper, plugin.Config) for plugin in PLUGINS], format)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report.")] = Path("demo-report"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of data and training.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller catalogue and fewer models.")] = False,
) -> None:
    """Draw a planted catalogue, train the models, print a leaderboard beside the best achievable score, write a report.

    Example: **prismrec demo -o demo-report**
    """
    from prismrec.demo import run_demo

    run_demo(out, seed=seed, quick=quick)


def _entry(name: str, paper: Paper, config: type[Strict] | None) -> dict[str, Any]:
    settings = {
        key: {"default": field.get_default(call_default_factory=True), "help": field.description}
        for key, field in (config.model_fields.items() if config is not None else ())
    }
    return {
        "name": name,
        "title": paper.title,
        "authors": paper.authors,
        "venue": paper.venue,
        "year": paper.year,
        "id": paper.id,
        "settings": settings,
    }


def _print(title: str, rows: list[dict[str, Any]], format: ListFormat) -> None:
    if format is ListFormat.JSON:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=box.SIMPLE_HEAD)
    needy = any(row.get("modalities") for row in rows)
    for column in ("name", *(["needs"] if needy else [])):
        table.add_column(column, no_wrap=True)
    table.add_column("paper and settings")
    for row in rows:
        settings = " ".join(f"{key}={value['default']}" for key, value in row["settings"].items())
        if "recipe" in row:
            settings = f"{row['recipe'][0]} with {' and '.join(row['recipe'][1:])}"
        text = Text(f"{row['title']} ({row['venue']} {row['year']})").append(
            f"\n{settings}" if settings else "", style="dim"
        )
        cells: list[Text | str] = [Text(row["name"], style="bold")]
        if needy:
            count = row["modalities"]
            cells.append(f"{count} modalit{'y' if count == 1 else 'ies'}" if count else "")
        table.add_row(*cells, text)
    Console().print(table)
