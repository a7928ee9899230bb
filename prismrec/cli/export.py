"""``prismrec export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prismrec.cli import options
from prismrec.cli.watch import say


class Stored(StrEnum):
    """How numbers are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


class Approximate(StrEnum):
    """Which approximate index."""

    HNSW = "hnsw"
    IVF = "ivf"
    USEARCH = "usearch"


def export(
    run: Annotated[Path, typer.Argument(help="A finished run folder.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; an earlier export there is replaced.")],
    dtype: Annotated[Stored, typer.Option("--dtype", help="How numbers are stored.")] = Stored.FLOAT32,
    ann: Annotated[
        Approximate | None,
        typer.Option("--ann", help="An approximate index, for a million items and more.", show_default=False),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="A folder with the items' pictures.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="The data set (default: the run's own).", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0: all cores.")] = 0,
    quiet: options.Quiet = False,
) -> None:
    """Write a run's recommendations as a folder that needs neither the model nor PyTorch.

    Example: **prismrec export runs/first -o model**

    Example: **prismrec export runs/first -o model --dtype int8 --ann hnsw --pictures data/pictures**
    """
    from prismrec.export import form
    from prismrec.export.make import check, described
    from prismrec.export.make import export as export_run

    console = Console(stderr=True, quiet=quiet)
    check(run, dtype.value, None if ann is None else ann.value, pictures)
    form.earlier(out)  # a folder of something else is refused now
    shelf = export_run(
        run,
        data=data,
        dtype=dtype.value,
        approximate=None if ann is None else ann.value,
        pictures=pictures,
        threads=threads,
        say=lambda text: say(console, text),
    )
    shelf.save(out)
    if quiet:
        return
    size = sum(file.size for file in form.read_manifest(out).files.values())
    modalities = f", scores by {' and '.join(shelf.modalities)}" if shelf.modalities else ""
    console = Console()
    say(console, f"{out}: {shelf.info['label']} as {shelf.dtype}, {size / 1e6:,.1f} MB", "bold")
    say(console, f"{len(shelf.users):,} users, {len(shelf.items):,} items{modalities}", "")
    for line in described(shelf.measured):
        say(console, line, "")
    if shelf.near is not None:
        near = shelf.near.info
        say(console, f"{shelf.near.kind}: recall@{near['k']} {near['recall']:.4f} against exact lists", "")
    say(console, f"next: prismrec serve {out}", "")
