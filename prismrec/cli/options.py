"""Options that several commands take, each written once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class TableFormat(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Part(StrEnum):
    """A held-out part of the split."""

    VALID = "valid"
    TEST = "test"


class ProtocolName(StrEnum):
    """What is masked."""

    DEFAULT = "default"
    MMREC = "mmrec"


Data = Annotated[
    str | None,
    typer.Argument(help="A data folder, or anything that `prismrec data import` reads.", show_default=False),
]
ModelName = Annotated[str | None, typer.Option("--model", "-m", help="A name from `prismrec models`.")]
PluginNames = Annotated[list[str] | None, typer.Option("--plugin", "-p", help="A name from `prismrec plugins`.")]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="A YAML file of settings, such as a search's best.yaml.")
]
Assign = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="One setting, such as model.layers=3 or clear.rank=4; may be repeated. A search keeps it."
    ),
]
Protocol = Annotated[
    ProtocolName | None,
    typer.Option(
        "--protocol",
        help="`default` masks training items at validation, and validation items too at test; `mmrec` masks training "
        "items only, as published tables do.",
        show_default=False,
    ),
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N (auto).")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads of each run.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Runs at a time (cores / threads; on CUDA 1).", show_default=False),
]
Resume = Annotated[Path | None, typer.Option("--resume", help="Go on with a study.")]
Format = Annotated[TableFormat, typer.Option("--format", "-f", help="How to print.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]


def given(context: typer.Context, *beside: str) -> list[str]:
    """What stands on the command line, options as help writes them; ``beside``: parameters that may stand there."""
    return [
        param.opts[0] if param.opts[0].startswith("-") else param.opts[0].upper()
        for param in context.command.params
        if param.name not in beside and _source(context, param.name) == "COMMANDLINE"
    ]


def _source(context: typer.Context, name: str | None) -> str:
    source = context.get_parameter_source(name or "")
    return "" if source is None else source.name


def of_run(protocol: ProtocolName | None, seed: int | None, device: str | None, threads: int | None) -> dict[str, Any]:
    """The settings under ``run`` that options gave: plain values, those that were left out absent."""
    given = {"protocol": protocol and protocol.value, "seed": seed, "device": device, "threads": threads}
    return {key: value for key, value in given.items() if value is not None}
