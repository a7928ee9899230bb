"""``prismrec data prepare``: from raw files of a known kind, or from data of any layout, to what is worth learning from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from prismrec.cli import data_options as options
from prismrec.cli import data_split
from prismrec.cli.data_job import writing
from prismrec.errors import PrismError


class Duplicates(StrEnum):
    """Which rows of one user and one item are kept."""

    KEEP = "keep"
    FIRST = "first"
    LAST = "last"
    SUM = "sum"


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
            "--k-core",
            "--kcore",
            help="Rows that each user and item must have; `5,3` sets users and items; 0 for none.",
        ),
    ] = "5",
    split: data_split.Asked = None,
    ratio: data_split.Ratio = None,
    order: data_split.OrderOption = None,
    quantiles: data_split.Quantiles = None,
    at: data_split.At = None,
    seed: data_split.Seed = 0,
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
    by = None
    if split is not None:
        by, ratio = data_split.asked(split, ratio)
    elif stray := data_split.given(ratio=ratio, order=order, quantiles=quantiles, at=at):
        raise PrismError(
            f"{' and '.join(stray)} say how to split, but no split was asked for; add --split ratio or another."
        )
    with writing(output, overwrite, quiet) as job:
        dataset = job.read(source, given)
        job.say("Dropping duplicates, ratings and what lies outside the k-core")
        job.dataset = preparation.prepare(dataset, duplicates=duplicates.value, min_rating=min_rating, k_core=core)
        if by is not None:
            job.dataset = data_split.divide(job.dataset, by, ratio, order, quantiles, at, seed)
