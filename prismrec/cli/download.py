"""``prismrec data download``: where public data live, and the files that can be had without a browser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prismrec.cli.watch import clock
from prismrec.errors import PrismError

if TYPE_CHECKING:
    from prismrec.data.public import File, Public

_EVERY = 2.0  # seconds between lines on progress, where no terminal shows it


def download(
    name: Annotated[
        str | None, typer.Argument(help="A data set; without one, all are listed.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the files (data/raw/NAME).", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Say where public data live, and fetch the files that can be had without a browser; stopped, it goes on.

    Without a network it says what to fetch by hand and where to put it.

    Example: `prismrec data download ml-100k -o data/raw/ml-100k`
    """
    from prismrec.data.public import PUBLIC, fetch, public_named

    console = Console(stderr=True, quiet=quiet, highlight=False)
    if name is None:
        _list(list(PUBLIC))
        return
    found = public_named(name)
    folder = output or Path("data/raw") / name
    if not found.files:
        Console(highlight=False).print(Text(found.by_hand(folder)), soft_wrap=True)
        raise typer.Exit(0)
    for file in found.files:
        try:
            path = fetch(file, folder, _Shown(console, file))
        except KeyboardInterrupt:
            line = f"Interrupted; what has come is kept. Go on with: prismrec data download {name} -o {folder}"
            Console(stderr=True).print(line, markup=False, soft_wrap=True)
            raise typer.Exit(130) from None
        except PrismError as error:
            raise PrismError(f"{error} By hand: {found.by_hand(folder)}") from None
        console.print(Text(f"{path}: {path.stat().st_size:,} bytes, {file.verified}"), soft_wrap=True)
    Console(highlight=False).print(Text(found.then(folder)), soft_wrap=True)


class _Shown:
    """Rate and time left, a line every two seconds."""

    def __init__(self, console: Console, file: File) -> None:
        self.console, self.file = console, file
        self.start = self.last = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int, of: int | None) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = done
        if now - self.last < _EVERY:
            return
        self.last = now
        rate = (done - self.first) / (now - self.start)
        left = f", left {clock((of - done) / rate)}" if of and rate else ""
        whole = f" of {of / 2**20:.1f}" if of else ""
        line = f"{self.file.name}: {done / 2**20:.1f}{whole} MiB, {rate / 2**20:.2f} MiB/s{left}"
        self.console.print(Text(line), soft_wrap=True)


def _list(known: list[Public]) -> None:
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("name", "what it is", "how it is had"):
        table.add_column(column, no_wrap=column == "name")
    for one in known:
        table.add_row(one.name, one.about, "fetched" if one.files else f"by hand: {one.page}")
    console.print(table)
    console.print(Text("Terms are those of the sources; read them before you use or pass on anything.", style="dim"))
