"""The ``prismrec`` command: its doors, and how errors leave it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from prismrec import __version__
from prismrec.cli import (
    cold,
    compare,
    data,
    diagnose,
    export,
    report,
    reproduce,
    runs,
    serve,
    show,
    train,
    tune,
    variants,
)
from prismrec.errors import PrismError
from prismrec.io import disk_full

app = typer.Typer(
    name="prismrec",
    help="Multimodal recommendation: from a data set to honest rankings.\n\nStart with: **prismrec demo**",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("compare")(compare.compare)
app.command("ablate")(variants.ablate)
app.command("sweep")(variants.sweep)
app.command("reproduce")(reproduce.reproduce)
app.command("evaluate")(runs.evaluate)
app.command("cold")(cold.cold)
app.command("recommend")(runs.recommend)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command("diagnose")(diagnose.diagnose)
app.command("report")(report.report)
app.command("models")(show.models)
app.command("plugins")(show.plugins)
app.command("demo")(show.demo)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"prismrec {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where there is an error.")] = False,
) -> None:
    """Options that every command takes."""


def program() -> None:
    """``main`` for a process of its own: after Ctrl-C it is gone at once.

    Whatever is left then is either whole or will be gone on with, and to unload the libraries takes a second or two.
    """
    try:
        main()
    except SystemExit as leaving:
        if leaving.code != 130:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)


def main() -> None:
    """Run a command; an error becomes a sentence on stderr and a status: 2 bad input, 1 a fault of ours."""
    debug = "--debug" in sys.argv[1:]
    if debug:
        sys.argv.remove("--debug")
    try:
        app(prog_name="prismrec")
    except PrismError as error:
        _leave(str(error), 2, debug)
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        if disk_full(error):
            _leave(f"The disk is full: {getattr(error, 'filename', None) or 'a file'} could not be written ({error}). Free "
                   "some space and run again; what was there before is untouched.", 2, debug)  # fmt: skip
        if _memory_full(error):
            _leave(f"There is not enough memory: {' '.join(str(error).split())[:300]}. Take a smaller model.dim or "
                   "train.batch_size (encoding: --batch), or a machine with more.", 2, debug)  # fmt: skip
        if isinstance(error, OSError):
            _leave(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ") + ".", 2, debug)
        _leave(f"{type(error).__name__}: {error}. This is a fault of prismrec; --debug shows where.", 1, debug)


def _memory_full(error: Exception) -> bool:
    """Whether memory ran out, of the machine or of a device: torch says so in a RuntimeError."""
    words = ("out of memory", "not enough memory", "allocate memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def _leave(sentence: str, status: int, debug: bool) -> None:
    if debug:
        raise  # noqa: PLE0704 - called from an except clause
    Console(stderr=True, soft_wrap=True, highlight=False, emoji=False).print(f"[bold red]Error:[/] {_plain(sentence)}")
    raise SystemExit(status)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
