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
    from prismrec.models.base import Model, Paper, Strict


class ListFormat(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[ListFormat, typer.Option("--format", help="A table, or JSON for scripts.")]


def models(format: FormatOption = ListFormat.TABLE) -> None:
    """List the models: paper, year, kind, modalities that they need, plug-ins that apply, what they were compared with.

    Example: **prismrec models --format json**
    """
    from prismrec.models import MODELS
    from prismrec.recipes import RECIPES

    rows = {model.name: {**_entry(model.name, model.paper, model.Config), **_traits(model)} for model in MODELS}
    for recipe in RECIPES:
        entry = {**rows[recipe.model], **_entry(recipe.name, recipe.paper, None), "modalities": recipe.needs}
        rows[recipe.name] = {**entry, "recipe": [recipe.model, *recipe.plugins]}
    _print("Models", list(rows.values()), format)


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


def _traits(model: type[Model]) -> dict[str, Any]:
    from prismrec.pairing import plugins_on

    return {
        "kind": model.kind(),
        "modalities": model.needs,
        "uses_weights": model.uses_weights,
        "plugins": plugins_on(model),
        "compared": model.compared,
    }


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
    listed = "kind" in rows[0]
    for column in ("name", *(["kind"] if listed else [])):
        table.add_column(column, no_wrap=True)
    table.add_column("paper, plug-ins that apply, settings" if listed else "paper and settings")
    for row in rows:
        text = Text(f"{row['title']} ({row['venue']} {row['year']})")
        for line in _details(row):
            text.append(f"\n{line}", style="dim")
        table.add_row(Text(row["name"], style="bold"), *([_kind(row)] if listed else []), text)
    Console().print(table)


def _kind(row: dict[str, Any]) -> str:
    count = row["modalities"]
    return f"{row['kind']}\n≥ {count} modalit{'y' if count == 1 else 'ies'}" if count else str(row["kind"])


def _details(row: dict[str, Any]) -> list[str]:
    """What stands below the title, a line each."""
    from prismrec.plugins import PLUGINS

    named = row.get("plugins", [])
    lines = [f"plug-ins: {'all' if len(named) == len(PLUGINS) else ' '.join(named)}"] if named else []
    lines += [f"compared with: {row['compared']}"] if row.get("compared") else []
    if "recipe" in row:
        return [f"{row['recipe'][0]} with {' and '.join(row['recipe'][1:])}", *lines]
    settings = " ".join(f"{key}={value['default']}" for key, value in row["settings"].items())
    return [*lines, settings] if settings else lines
