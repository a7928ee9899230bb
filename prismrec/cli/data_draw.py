"""``prismrec data draw``: power-law interactions of any size, to see what a size costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prismrec.errors import PrismError


def draw(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.", show_default=False)],
    users: Annotated[int, typer.Option("--users", help="How many users.")] = 100_000,
    items: Annotated[int, typer.Option("--items", help="How many items.")] = 10_000,
    interactions: Annotated[int, typer.Option("--interactions", help="How many rows.")] = 1_000_000,
    feature: Annotated[
        list[str] | None,
        typer.Option("--feature", help="MODALITY=WIDTH: features to draw. Repeatable.", show_default=False),
    ] = None,
    user_skew: Annotated[float, typer.Option(help="Rows of the r-th most active user ∝ r^-SKEW; 0: all alike.")] = 0.3,
    item_skew: Annotated[float, typer.Option(help="The same for items.")] = 0.7,
    loyalty: Annotated[float, typer.Option(help="Share of a user's rows that follow a taste.")] = 0.5,
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same bytes.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Draw power-law interactions of any size to Parquet, and features to .npy files; memory stays the same.

    Interrupted, the same command goes on where it was. Made for trying out sizes: `prismrec data prepare` and all that
    follows treats it like any other log.

    Example: `prismrec data draw --users 10000000 --items 1000000 --interactions 100000000 --feature image=512 -o raw/big`
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from prismrec.data.power_law import PowerLaw, write

    spec = PowerLaw(
        users, items, interactions, dict(_width(text) for text in feature or []),
        user_skew=user_skew, item_skew=item_skew, loyalty=loyalty, seed=seed,
    )  # fmt: skip
    console = Console(quiet=quiet, highlight=False, stderr=True)
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*shown, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what)
            progress.update(tasks[what], completed=done, total=of)

        write(spec, output, told)
    console.print(
        f"{output}: {users:,} users, {items:,} items, {interactions:,} interactions. Next: "
        f"prismrec data prepare {output} --k-core 5 --split ratio -o OUT",
        soft_wrap=True,
        markup=False,
    )


def _width(text: str) -> tuple[str, int]:
    name, equals, width = text.partition("=")
    if not (name and equals and width.isdecimal()):
        raise PrismError(f"--feature {text!r} is not understood; expected MODALITY=WIDTH, such as image=512.")
    return name, int(width)
