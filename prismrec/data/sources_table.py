"""Reader of delimited and Parquet files whose columns have names, with an item table and features beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from prismrec.data import columns
from prismrec.data.dataset import Dataset
from prismrec.data.modalities import NaN, load_array
from prismrec.data.tables import ItemSide, Log, NullIds, build
from prismrec.errors import PrismError

USUAL: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "user_id", "userID", "uid", "reviewerID", "customer_id", "visitor_id"),
    "item": ("item", "item_id", "itemID", "iid", "asin", "parent_asin", "product_id", "movie_id", "sku"),
    "rating": ("rating", "overall", "stars"),
    "timestamp": ("timestamp", "time", "ts", "datetime", "date", "unixReviewTime"),
    "weight": ("weight",),
    "split": ("split", "x_label"),
}
"""Role → the names by which a column is recognised when none is given, whatever their case."""


def read_table(
    paths: Sequence[Path],
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    timestamp: str | None = None,
    weight: str | None = None,
    split: str | None = None,
    items: str | Path | None = None,
    item_id: str | None = None,
    features: Mapping[str, str | Path] | None = None,
    name: str | None = None,
    nan: NaN = "refuse",
    null_ids: NullIds = "refuse",
) -> Dataset:
    """Interactions of one file, or of several with the same columns, in the order given.

    ``user`` … ``split`` name columns; those not named are recognised by the names in ``USUAL``. ``rating`` is kept as a
    rating: say ``weight="rating"`` to use it as a weight. ``items``: a table of items whose ids stand in ``item_id``.
    ``features``: modality → a ``.npy`` file with a row for each row of ``items``, or a Parquet file with a column of ids
    and one of lists of numbers. ``null_ids="drop"`` drops rows without user or item.
    """
    path = paths[0]
    table = pl.concat([columns.scan(p) for p in paths]) if len(paths) > 1 else columns.scan(path)
    found = columns.names(table, path)
    given = dict(user=user, item=item, rating=rating, timestamp=timestamp, weight=weight, split=split)
    roles = {role: columns.pick(found, wanted, USUAL[role], role, path) for role, wanted in given.items()}
    for role in ("user", "item"):
        roles[role] = columns.need(roles[role], found, role, path)
    log = Log(path, table, {r: c for r, c in roles.items() if c is not None}, columns.typed(path))
    side = item_side(None if items is None else Path(items), item_id, features or {}, nan)
    files = [p.name for p in paths]
    step = {"step": "read", "format": "table", "files": files if len(files) <= 20 else [*files[:20], "…"]}
    return build(log, side, name or path.name.split(".")[0], step, nan, null_ids)


def item_side(items: Path | None, item_id: str | None, features: Mapping[str, str | Path], nan: NaN) -> ItemSide:
    """The item table at ``items`` and the feature files, read."""
    if items is None:
        table, key = None, "item"
    else:
        table = columns.collect(columns.scan(items), items)
        key = columns.need(
            columns.pick(table.columns, item_id, USUAL["item"], "item-id", items), table.columns, "item-id", items
        )
    arrays = {m: _features(m, Path(file), items, None if table is None else table[key]) for m, file in features.items()}
    return ItemSide(items or Path("items"), table, key, arrays)


def _features(name: str, file: Path, items: Path | None, ids: pl.Series | None) -> tuple[pl.Series, np.ndarray]:
    if columns.suffix(file) in columns.PARQUET:
        return _feature_table(name, file)
    values = load_array(file)
    if ids is None:
        raise PrismError(
            f"Features of modality {name!r} in {file} have no ids, so nobody knows whose rows they are; give the table "
            "of items in the same order (items='…', --items), or a Parquet file with a column of ids and one of lists."
        )
    if len(values) != len(ids):
        raise PrismError(
            f"Features of modality {name!r} in {file} have {len(values):,} rows, but {items} has {len(ids):,} items; "
            "give one row per item, in the order of that table (a row of zeros where an item has none)."
        )
    return ids, values


def _feature_table(name: str, file: Path) -> tuple[pl.Series, np.ndarray]:
    table = columns.collect(columns.scan(file), file)
    lists = [c for c, dtype in table.schema.items() if isinstance(dtype, pl.List | pl.Array)]
    key = columns.pick(table.columns, None, USUAL["item"], "item", file)
    if key is None or len(lists) != 1:
        raise PrismError(
            f"{file} has the columns {', '.join(map(repr, table.columns))}; expected for modality {name!r} one column of "
            f"ids with a usual name ({', '.join(USUAL['item'][:4])} …) and one of lists of numbers."
        )
    column = table[lists[0]]
    length = column.list.len() if isinstance(column.dtype, pl.List) else column.arr.len()
    width = int(length.drop_nulls().mode().sort()[0]) if len(length.drop_nulls()) else 0
    odd = (length != width) | length.is_null()
    if odd.any() or not width:
        row = int(odd.arg_max() or 0)
        raise PrismError(
            f"Column {lists[0]!r} of {file} holds {length[row]} numbers in row {row + 1:,} where most rows hold {width}; "
            "expected lists of one length, above 0 (leave out items that lack the modality)."
        )
    return table[key], column.cast(pl.Array(pl.Float32, width)).to_numpy()
