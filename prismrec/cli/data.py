"""``prismrec data``: import, inspect, prepare, split and download data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from prismrec.cli import data_options as options
from prismrec.cli.download import download
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError

app = typer.Typer(
    no_args_is_help=True, help="Import, inspect, prepare, split and download data sets.", rich_markup_mode="markdown"
)


app.command("download")(download)


class By(StrEnum):
    """How rows are divided."""

    RATIO = "ratio"
    LEAVE_ONE_OUT = "leave-one-out"
    CUTOFF = "cutoff"


class Order(StrEnum):
    """Which rows of a user are held out."""

    RANDOM = "random"
    TIME = "time"


class Duplicates(StrEnum):
    """Which rows of one user and one item are kept."""

    KEEP = "keep"
    FIRST = "first"
    LAST = "last"
    SUM = "sum"


class Format(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


Ratio = Annotated[str | None, typer.Option("--ratio", help="Train:valid:test for `ratio` (8:1:1).", show_default=False)]
OrderOption = Annotated[
    Order | None,
    typer.Option("--order", help="Hold out random rows of a user, or the latest (random).", show_default=False),
]
Quantiles = Annotated[
    str | None,
    typer.Option("--quantiles", help="For `cutoff`: shares of rows before the cuts (0.8,0.9).", show_default=False),
]
At = Annotated[
    str | None,
    typer.Option("--at", help="For `cutoff`: the two times themselves, numbers or dates.", show_default=False),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of a random split.")]


@app.command("import")
def import_(
    source: options.Data,
    output: options.Out,
    user: options.User = None,
    item: options.Item = None,
    rating: options.Rating = None,
    timestamp: options.Timestamp = None,
    weight: options.Weight = None,
    split_column: options.SplitColumn = None,
    items: options.Items = None,
    item_id: options.ItemId = None,
    feature: options.Feature = None,
    name: options.Name = None,
    nan: options.NanOption = None,
    null_ids: options.NullIdsOption = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Read data of any known layout and write PrismRec's own folder.

    Example: `prismrec data import log.parquet --user uid --item sku --timestamp ts -o data/shop`
    """
    given = options.reading(
        user=user, item=item, rating=rating, timestamp=timestamp, weight=weight, split_column=split_column, items=items,
        item_id=item_id, feature=feature, name=name, nan=nan, null_ids=null_ids,
    )  # fmt: skip
    with _writing(output, overwrite, quiet) as job:
        job.dataset = job.read(source, given)


@app.command("inspect")
def inspect(
    source: options.Data,
    user: options.User = None,
    item: options.Item = None,
    rating: options.Rating = None,
    timestamp: options.Timestamp = None,
    weight: options.Weight = None,
    split_column: options.SplitColumn = None,
    items: options.Items = None,
    item_id: options.ItemId = None,
    feature: options.Feature = None,
    name: options.Name = None,
    nan: options.NanOption = None,
    null_ids: options.NullIdsOption = None,
    format: Annotated[Format, typer.Option("--format", help="Text for people, JSON for programs.")] = Format.TEXT,
) -> None:
    """Print counts, sparsity, degrees, the split and its leaks, modality coverage and duplicates.

    Example: `prismrec data inspect data/shop`
    """
    from prismrec.cli.data_view import render
    from prismrec.data import inspect as inspection
    from prismrec.data.sources import read

    given = options.reading(
        user=user, item=item, rating=rating, timestamp=timestamp, weight=weight, split_column=split_column, items=items,
        item_id=item_id, feature=feature, name=name, nan=nan, null_ids=null_ids,
    )  # fmt: skip
    seen = inspection.inspect(read(source, **given))
    if format is Format.JSON:
        typer.echo(json.dumps(seen.as_dict() | {"remarks": seen.remarks()}, indent=2, ensure_ascii=False))
    else:
        Console(highlight=False).print(render(seen))


@app.command("prepare")
def prepare(
    source: options.Data,
    output: options.Out,
    duplicates: Annotated[
        Duplicates,
        typer.Option(
            "--duplicates", help="Rows of one user and item: keep all, the first, the last, or add weights up."
        ),
    ] = Duplicates.LAST,
    min_rating: Annotated[
        float | None, typer.Option("--min-rating", help="Drop rows rated lower.", show_default=False)
    ] = None,
    k_core: Annotated[
        str,
        typer.Option(
            "--k-core", help="Rows that each user and item must have; `5,3` sets users and items; 0 for none."
        ),
    ] = "5",
    split: Annotated[By | None, typer.Option("--split", help="Also split the result.", show_default=False)] = None,
    ratio: Ratio = None,
    order: OrderOption = None,
    quantiles: Quantiles = None,
    at: At = None,
    seed: Seed = 0,
    user: options.User = None,
    item: options.Item = None,
    rating: options.Rating = None,
    timestamp: options.Timestamp = None,
    weight: options.Weight = None,
    split_column: options.SplitColumn = None,
    items: options.Items = None,
    item_id: options.ItemId = None,
    feature: options.Feature = None,
    name: options.Name = None,
    nan: options.NanOption = None,
    null_ids: options.NullIdsOption = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Drop duplicates and low ratings, keep the k-core, and split if asked to.

    Example: `prismrec data prepare ratings.csv --min-rating 4 --k-core 5 --split ratio -o data/films`
    """
    from prismrec.data import prepare as preparation

    given = options.reading(
        user=user, item=item, rating=rating, timestamp=timestamp, weight=weight, split_column=split_column, items=items,
        item_id=item_id, feature=feature, name=name, nan=nan, null_ids=null_ids,
    )  # fmt: skip
    core = options.k_core(k_core)
    if split is None and (stray := _given(ratio=ratio, order=order, quantiles=quantiles, at=at)):
        raise PrismError(
            f"{' and '.join(stray)} say how to split, but no split was asked for; add --split ratio or another."
        )
    with _writing(output, overwrite, quiet) as job:
        dataset = job.read(source, given)
        job.say("Dropping duplicates, ratings and what lies outside the k-core")
        job.dataset = preparation.prepare(dataset, duplicates=duplicates.value, min_rating=min_rating, k_core=core)
        if split is not None:
            job.dataset = _split(job.dataset, split, ratio, order, quantiles, at, seed)


@app.command("split")
def split(
    source: options.Data,
    output: options.Out,
    by: Annotated[
        By, typer.Option("--by", help="A ratio per user, one row per user, or a cut in time for all.")
    ] = By.RATIO,
    ratio: Ratio = None,
    order: OrderOption = None,
    quantiles: Quantiles = None,
    at: At = None,
    seed: Seed = 0,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Divide interactions into train, validation and test; an earlier split is replaced.

    Example: `prismrec data split data/shop --by leave-one-out --order time -o data/shop-last`
    """
    with _writing(output, overwrite, quiet) as job:
        job.dataset = _split(job.read(source, {}), by, ratio, order, quantiles, at, seed)


def _split(
    dataset: Dataset, by: By, ratio: str | None, order: Order | None, quantiles: str | None, at: str | None, seed: int
) -> Dataset:
    from prismrec.data import splits

    takes = {By.RATIO: {"--ratio", "--order"}, By.LEAVE_ONE_OUT: {"--order"}, By.CUTOFF: {"--quantiles", "--at"}}[by]
    given = _given(ratio=ratio, order=order, quantiles=quantiles, at=at)
    if stray := [option for option in given if option not in takes]:
        raise PrismError(f"A split by {by.value} takes {' and '.join(sorted(takes))}, not {' and '.join(stray)}.")
    if len(given) == 2 and by is By.CUTOFF:
        raise PrismError("Both --quantiles and --at were given; one of them sets the cuts.")
    held_out: Literal["random", "time"] = "time" if order is Order.TIME else "random"
    if by is By.RATIO:
        return splits.by_ratio(dataset, ratio=options.ratio(ratio or "8:1:1"), order=held_out, seed=seed)
    if by is By.LEAVE_ONE_OUT:
        return splits.leave_one_out(dataset, order=held_out, seed=seed)
    times = None if at is None else options.cuts(at, dataset)
    return splits.by_cutoff(dataset, quantiles=options.quantiles(quantiles or "0.8,0.9"), at=times)


def _given(**named: object) -> list[str]:
    return [f"--{name}" for name, value in named.items() if value is not None]


class _Job:
    """One reading, its result, and what is said on the way."""

    def __init__(self, quiet: bool) -> None:
        self.console = Console(quiet=quiet, highlight=False, stderr=True)
        self.dataset: Dataset | None = None

    def say(self, text: str) -> None:
        self.console.print(f"[dim]{text} …[/dim]")

    def read(self, source: Path, given: dict[str, object]) -> Dataset:
        from prismrec.data.sources import read

        self.say(f"Reading {source}")
        return read(source, **given)


@contextmanager
def _writing(output: Path, overwrite: bool, quiet: bool) -> Iterator[_Job]:
    """Yields a job; its data set is written to ``output``, which must be free (checked before any work)."""
    from prismrec.data import store

    store.refuse_taken(output, overwrite)
    job = _Job(quiet)
    yield job
    assert job.dataset is not None
    store.save(job.dataset, output, overwrite=overwrite)
    dataset = job.dataset
    rows = dataset.interactions
    job.console.print(
        f"{output}: {dataset.n_users:,} users, {dataset.n_items:,} items, {len(rows):,} interactions, "
        f"modalities: {', '.join(dataset.modalities) or 'none'}, fingerprint {dataset.fingerprint}",
        soft_wrap=True,
    )
    for name, modality in dataset.modalities.items():
        if lacking := int((~modality.present).sum()):
            job.console.print(f"{lacking:,} of {dataset.n_items:,} items lack {name} and are marked missing")
    if rows.split is None:
        job.console.print(f"No split yet: prismrec data split {output} -o OUT", markup=False)
