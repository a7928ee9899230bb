"""``prismrec data prepare``: from raw files of a known kind, or from data of any layout, to what is worth learning from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from prismrec.cli import data_options as options
from prismrec.cli import data_split
from prismrec.cli import prepare_raw as raw
from prismrec.cli.data_job import Job, writing
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError


class Duplicates(StrEnum):
    """Which rows of one user and one item are kept."""

    KEEP = "keep"
    FIRST = "first"
    LAST = "last"
    SUM = "sum"


def prepare(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="[KIND] PATH",
            help="Data of any layout that PrismRec reads; or a kind of raw source and its files: **amazon** REVIEWS [META], "
            "**movielens**, **microlens**, **hm**, **dump** (**tiktok**) FOLDER, **tables** LOG [ITEMS].",
            show_default=False,
        ),
    ],
    output: options.Out,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", help="Folder of pictures, called like the items or as a column says.", show_default=False
        ),
    ] = None,
    encode: Annotated[
        bool | None,
        typer.Option(
            "--encode/--no-encode",
            help="Make features of pictures and texts by the default encoders (with --images: yes).",
            show_default=False,
        ),
    ] = None,
    picture_urls: Annotated[
        Path | None,
        typer.Option(
            "--picture-urls", help="Write addresses of pictures that are lacking, for curl -K.", show_default=False
        ),
    ] = None,
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
        str | None,
        typer.Option(
            "--k-core",
            "--kcore",
            help="Rows that each user and item must have; `5,3` sets users and items; 0 for none (5; of a dump 0).",
            show_default=False,
        ),
    ] = None,
    split: data_split.Asked = None,
    ratio: data_split.Ratio = None,
    order: data_split.OrderOption = None,
    quantiles: data_split.Quantiles = None,
    at: data_split.At = None,
    cold: data_split.Cold = None,
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
    """From raw files to a data set: drop duplicates and low ratings, keep the k-core, find texts and pictures, split.

    Lines that cannot be read are left out and counted. Of items that are dropped nothing is kept.

    Example: `prismrec data prepare amazon reviews.json.gz meta.json.gz --images pictures --kcore 5 --split 8:1:1 -o data/baby`

    Example: `prismrec data prepare tables orders.csv products.csv --images pictures --split 8:1:1 -o data/shop`

    Example: `prismrec data prepare ratings.csv --min-rating 4 --k-core 5 --split ratio -o data/films`
    """
    given = options.reading(
        user=user, item=item, rating=rating, timestamp=timestamp, weight=weight, split_column=split_column,
        feature=feature, nan=nan, null_ids=null_ids,
    )  # fmt: skip
    more = options.reading(items=items, item_id=item_id, name=name)
    by = None
    if split is not None:
        by, ratio = data_split.asked(split, ratio)
    elif stray := data_split.given(ratio=ratio, order=order, quantiles=quantiles, at=at, cold=cold):
        raise PrismError(
            f"{' and '.join(stray)} say how to split, but no split was asked for; add --split ratio or another."
        )
    kind, paths = raw.kind_and_paths(source)
    encode = images is not None if encode is None else encode
    made: list[Any] = []
    with writing(output, overwrite, quiet) as job:
        if encode:
            raw.encoders_at_hand()
        steps: dict[str, Any] = {
            "duplicates": duplicates.value,
            "min_rating": min_rating,
            "k_core": None if k_core is None else options.k_core(k_core),
        }
        if kind is None:
            job.dataset = _any_layout(job, paths[0], given | more, steps, images)
        else:
            job.dataset = raw.read(job, kind, paths, output, given | more | steps | {"images": images})
        if by is not None:
            job.dataset = data_split.divide(job.dataset, by, ratio, order, quantiles, at, seed, cold)
        if picture_urls is not None:
            job.say(f"{raw.list_pictures(job.dataset, picture_urls):,} addresses of pictures in {picture_urls}")
        if encode:
            made = raw.encoded(job, images)
    if made:
        raw.write_cards(job, made, output)


def _any_layout(job: Job, path: Path, given: dict[str, Any], steps: dict[str, Any], images: Path | None) -> Dataset:
    """Data that a reader of layouts knows, prepared."""
    from prismrec.data import prepare as preparation
    from prismrec.data.raw import covered

    dataset = job.read(path, given)
    job.say("Dropping duplicates, ratings and what lies outside the k-core")
    dataset = preparation.prepare(dataset, **{name: value for name, value in steps.items() if value is not None})
    return dataset if images is None else covered(dataset, images)[0]
