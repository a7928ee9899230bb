"""H&M Personalized Fashion Recommendations, as published on Kaggle: purchases, articles, a picture for most articles.

``transactions_train.csv`` (t_dat, customer_id, article_id, price, sales_channel_id), ``articles.csv`` (article_id, prod_name,
product_type_name, …, detail_desc), pictures as ``images/010/0108775015.jpg``. Ids keep their leading zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from prismrec.data.raw_catalogue import Catalogue, Wanted, complete, plain, spooled, table
from prismrec.data.raw_files import pick
from prismrec.data.raw_lines import Reading, selected

_SCHEMA = {"user": pl.String, "item": pl.String, "timestamp": pl.Int64}
_COLUMNS = {"title": pl.String, "category": pl.String, "description": pl.String}
_CATEGORY = (
    "product_type_name", "product_group_name", "graphical_appearance_name", "colour_group_name", "department_name",
    "index_group_name", "section_name", "garment_group_name",
)  # fmt: skip


def read(paths: Sequence[Path], reading: Reading) -> Catalogue:
    """The folder of the competition, or its files of transactions and articles."""
    log = pick(paths, ("transactions*.csv",), "transactions")
    articles = pick(paths, ("articles*.csv",), None)
    rows = spooled(_purchases(log, reading), _SCHEMA, reading, "log")
    return Catalogue("hm", log, complete(rows, log, reading), lambda wanted: _articles(articles, wanted, reading))


def _purchases(path: Path, reading: Reading) -> Iterator[tuple[Any, ...]]:
    for date, user, item in selected(path, reading, ",", [("t_dat",), ("customer_id",), ("article_id",)]):
        yield user, item, _day(date or "")


@lru_cache(maxsize=4096)
def _day(text: str) -> int | None:
    """``2018-09-20`` → microseconds since 1970, UTC."""
    try:
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000


def _articles(path: Path | None, wanted: Wanted, reading: Reading) -> pl.DataFrame:
    described: dict[str, Mapping[str, str | float | None]] = {}
    columns = [("article_id",), ("prod_name",), ("detail_desc",), *((name,) for name in _CATEGORY)]
    for fields in selected(path, reading, ",", columns) if path else ():
        item, title, description, *category = fields
        if item is None:
            reading.tally.add(path, "without an item") if path else None
        elif (wanted is None or item in wanted) and item not in described:
            names = dict.fromkeys(name for name in category if name)
            described[item] = {"title": plain(title), "category": plain(list(names)), "description": plain(description)}
    return table(described, _COLUMNS)
