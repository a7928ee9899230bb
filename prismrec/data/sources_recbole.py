"""Reader of RecBole's atomic files: ``name.inter``, ``name.item``, tab-separated, with types in the header.

A header says ``user_id:token``, ``rating:float``, ``title:token_seq``, ``embedding:float_seq``. Benchmark files
``name.train.inter``, ``name.valid.inter`` and ``name.test.inter`` bring their split. A ``float_seq`` column of items becomes
a modality. ``name.user`` is not read: models here know users by what they took.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from prismrec.data import columns
from prismrec.data.dataset import PARTS, Dataset
from prismrec.data.modalities import NaN
from prismrec.data.tables import ItemSide, Log, NullIds, build
from prismrec.errors import PrismError

_ROLES = {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "timestamp", "weight": "weight"}


def is_recbole(inter: Path) -> bool:
    """Whether the header of ``inter`` has RecBole's types."""
    with inter.open(encoding="utf-8", errors="replace") as file:
        return any(":" in name for name in file.readline().split("\t"))


def read_recbole(
    inters: Sequence[Path],
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    timestamp: str | None = None,
    weight: str | None = None,
    name: str | None = None,
    nan: NaN = "refuse",
    null_ids: NullIds = "refuse",
) -> Dataset:
    """The data of one ``.inter`` file or of benchmark files. Columns are named without their types."""
    first = inters[0]
    stem = first.name.split(".")[0]
    tables = []
    for path in inters:
        table = columns.scan(path)
        table = table.rename({c: c.split(":")[0] for c in columns.names(table, path)})
        part = path.name.split(".")[-2] if path.name.count(".") >= 2 else None
        if len(inters) > 1:
            if part not in PARTS:
                raise PrismError(
                    f"{path.parent} holds {', '.join(p.name for p in inters)}; expected one .inter file, or "
                    f"{stem}.train.inter, {stem}.valid.inter and {stem}.test.inter. Give the path of one file."
                )
            table = table.with_columns(pl.lit(part).alias("split"))
        tables.append(table)
    table = pl.concat(tables)
    found = columns.names(table, first)
    given = dict(user=user, item=item, rating=rating, timestamp=timestamp, weight=weight)
    roles = {role: columns.pick(found, wanted, [_ROLES[role]], role, first) for role, wanted in given.items()}
    for role in ("user", "item"):
        roles[role] = columns.need(roles[role], found, role, first)
    named = {role: column for role, column in roles.items() if column is not None}
    if len(inters) > 1:
        named["split"] = "split"
    items = first.with_name(f"{stem}.item")
    side = _items(items, named["item"]) if items.exists() else ItemSide(items)
    step = {"step": "read", "format": "recbole", "files": [p.name for p in inters]}
    return build(Log(first, table, named, typed=False), side, name or stem, step, nan, null_ids)


def _items(path: Path, key: str) -> ItemSide:
    """The ``.item`` file: ``float`` columns become numbers, ``float_seq`` columns become modalities."""
    table = columns.collect(columns.scan(path), path)
    types = {c.split(":")[0]: c.partition(":")[2] for c in table.columns}
    table = table.rename({c: c.split(":")[0] for c in table.columns})
    columns.pick(table.columns, key, (), "item", path)
    features = {}
    for column, kind in types.items():
        if kind == "float":
            table = table.with_columns(table[column].cast(pl.Float64, strict=False))
        if kind == "float_seq":
            features[column] = (table[key], _matrix(table[column], path))
            table = table.drop(column)
    return ItemSide(path, table, key, features)


def _matrix(column: pl.Series, path: Path) -> np.ndarray:
    """Numbers separated by spaces → (rows, width) float32; an empty cell → a row of zeros (missing)."""
    lists = column.fill_null("").str.split(" ")
    length = lists.list.len()
    width = int(length.max() or 0)  # type: ignore[arg-type]
    empty = column.fill_null("") == ""
    bad = (length != width) & ~empty
    values = lists.cast(pl.List(pl.Float32), strict=False)
    bad |= values.list.eval(pl.element().is_null()).list.any() & ~empty
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise PrismError(
            f"Column {column.name!r} of {path} holds {str(column[row])[:60]!r} in data row {row + 1:,}; "
            f"expected {width} numbers separated by spaces."
        )
    out = np.zeros((len(column), width), np.float32)
    filled = (~empty).to_numpy()
    out[filled] = values.filter(~empty).cast(pl.Array(pl.Float32, width)).to_numpy()
    return out
