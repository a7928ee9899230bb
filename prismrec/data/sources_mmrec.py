"""Reader of the MMRec layout: one ``*.inter`` with ready internal ids and a split, one ``.npy`` per modality.

Columns: ``userID``, ``itemID`` (whole numbers from 0), and where they are there ``rating``, ``timestamp`` and ``x_label``
(0 train, 1 validation, 2 test), separated by tabs. ``<modality>_feat.npy`` holds a row per item. ``items.tsv`` or
``items.csv`` and ``i_id_mapping.csv`` describe the items, where they have a column ``itemID``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from prismrec.data import columns
from prismrec.data.dataset import COLUMNS, Dataset, Interactions
from prismrec.data.ids import IdMap
from prismrec.data.modalities import NaN, folder_features, missing_counts
from prismrec.errors import PrismError

ITEM_TABLES = ("items.tsv", "items.csv", "i_id_mapping.csv")


def read_mmrec(inter: Path, *, weight: str | None = None, name: str | None = None, nan: NaN = "refuse") -> Dataset:
    """The data of ``inter`` and of the files beside it.

    Users are ``0..max(userID)``; items reach to the largest id of the interactions and of the item tables. ``weight``
    names a column to use as weights (``"rating"``, say). Raises ``PrismError`` for ids that are not whole numbers ≥ 0,
    labels other than 0, 1, 2, a train part without rows, and features that do not fit.
    """
    table = columns.collect(columns.scan(inter), inter)
    found = table.columns
    user = columns.integers(table[_need(found, "userID", inter)], inter)
    item = columns.integers(table[_need(found, "itemID", inter)], inter)
    if not len(table):
        raise PrismError(f"{inter} has a header but no rows; expected one row per interaction.")
    optional: dict[str, np.ndarray] = {}
    if "x_label" in found:
        optional["split"] = columns.integers(table["x_label"], inter, high=2)
        if not (optional["split"] == 0).any():
            raise PrismError(
                f"No row of {inter} has x_label 0, so the train part is empty; expected 0 train, 1 validation, 2 test."
            )
    step: dict[str, object] = {"step": "read", "format": "mmrec", "file": inter.name}
    if "timestamp" in found:
        optional["timestamp"], unit = columns.timestamps(table["timestamp"], inter)
        step |= {"timestamp_unit": unit} if unit else {}
    if "rating" in found:
        optional["rating"] = columns.numbers(table["rating"], inter)
    weight = columns.pick(found, weight, (), "weight", inter)
    if weight is not None:
        optional["weight"] = columns.weights(table[weight], inter)
        step["weight"] = weight
    arrays = {"user": user, "item": item} | optional
    item_table = _item_table(inter.parent, int(item.max()) + 1)
    modalities = folder_features(inter.parent, len(item_table), nan=nan)
    missing = missing_counts(modalities)
    return Dataset(
        name=name or inter.stem,
        users=IdMap(pl.Series("user", np.arange(int(user.max()) + 1)), "user"),
        items=IdMap(item_table["item"], "item"),
        interactions=Interactions(**{name: a.astype(COLUMNS[name]) for name, a in arrays.items()}),
        modalities=modalities,
        item_table=item_table,
        provenance={"steps": [step | ({"missing": missing} if missing else {})]},
    )


def _need(found: Sequence[str], name: str, inter: Path) -> str:
    return str(columns.pick(found, name, (), name.removesuffix("ID"), inter))


def _item_table(folder: Path, n_items: int) -> pl.DataFrame:
    """Rows ``0..`` of all items with what the tables beside the interactions say; a column is taken from the first."""
    tables = []
    for path in (folder / name for name in ITEM_TABLES):
        if path.exists():
            table = columns.collect(columns.scan(path), path)
            if "itemID" in table.columns:
                ids = columns.integers(table["itemID"], path)
                table = table.with_columns(pl.Series("itemID", ids))
                twice = table["itemID"].is_duplicated()
                if twice.any():
                    raise PrismError(
                        f"{path} describes item {table['itemID'].filter(twice)[0]} more than once; expected one row per item."
                    )
                tables.append(table)
                n_items = max(n_items, int(ids.max(initial=-1)) + 1)
    items = pl.DataFrame({"item": np.arange(n_items)})
    for table in tables:
        new = [name for name in table.columns if name not in items.columns]
        items = items.join(table.select(new), left_on="item", right_on="itemID", how="left", maintain_order="left")
    return items
