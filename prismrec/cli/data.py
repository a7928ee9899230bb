"""``prismrec data``: import, inspect, prepare, split, download and draw data sets."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from prismrec.cli import data_options as options
from prismrec.cli import data_split
from prismrec.cli.data_draw import draw
from prismrec.cli.data_job import writing
from prismrec.cli.download import download
from prismrec.cli.encode import encode, encoders
from prismrec.cli.prepare import prepare

app = typer.Typer(
    no_args_is_help=True, help="Import, inspect, prepare, split and download data sets.", rich_markup_mode="markdown"
)


app.command("download")(download)
app.command("draw")(draw)
app.command("prepare")(prepare)
app.command("encode")(encode)
app.command("encoders")(encoders)


class Format(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


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
    with writing(output, overwrite, quiet) as job:
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


@app.command("split")
def split(
    source: options.Data,
    output: options.Out,
    by: Annotated[
        data_split.By,
        typer.Option("--by", help="A ratio per user, one row per user, a cut in time for all, or cold items."),
    ] = data_split.By.RATIO,
    ratio: data_split.Ratio = None,
    order: data_split.OrderOption = None,
    quantiles: data_split.Quantiles = None,
    at: data_split.At = None,
    cold: data_split.Cold = None,
    seed: data_split.Seed = 0,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Divide interactions into train, validation and test; an earlier split is replaced.

    Example: `prismrec data split data/shop --by leave-one-out --order time -o data/shop-last`

    Example: `prismrec data split data/shop --by item --cold 0.1,0.1 -o data/shop-cold`
    """
    with writing(output, overwrite, quiet) as job:
        job.dataset = data_split.divide(job.read(source, {}), by, ratio, order, quantiles, at, seed, cold)
