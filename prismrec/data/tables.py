"""From a table of interactions with external ids to a ``Dataset``: ids mapped once, item table and features aligned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from prismrec.data import columns
from prismrec.data.dataset import COLUMNS, PARTS, Dataset, Interactions, Modality
from prismrec.data.ids import IdMap
from prismrec.data.modalities import NaN, missing_counts, modality
from prismrec.errors import PrismError

NullIds = Literal["refuse", "drop"]
"""What to do with rows without a user or an item."""

_PARTS = {**PARTS, "val": 1, "validation": 1, "0": 0, "1": 1, "2": 2}


@dataclass(frozen=True)
class Log:
    """A lazy table of interactions and the column that plays each role of ``COLUMNS`` (``user`` and ``item`` at least).

    ``typed``: text is text (Parquet), not numbers that were written as text (delimited files).
    """

    path: Path
    table: pl.LazyFrame
    roles: Mapping[str, str]
    typed: bool


@dataclass(frozen=True)
class ItemSide:
    """What is known of items: ``table`` whose column ``id`` holds external ids; ``features``: modality → (ids, values)."""

    path: Path
    table: pl.DataFrame | None = None
    id: str = "item"
    features: Mapping[str, tuple[pl.Series, np.ndarray]] = field(default_factory=dict)


def build(log: Log, side: ItemSide, name: str, step: Mapping[str, Any], nan: NaN, null_ids: NullIds) -> Dataset:
    """The Dataset of a log. Internal ids follow the order of the sorted external ids, whatever the order of rows.

    The catalogue is every item of the log and of the item table. Rows keep the order of the log. Columns are read one at
    a time, so that a large log never stands in memory as text as a whole.
    """
    arrays: dict[str, np.ndarray] = {}
    step = dict(step) | {"columns": dict(log.roles)}
    keep = _rows_with_ids(log, null_ids)
    if keep is not None:
        step["rows_without_ids"] = int((~keep).sum())
    user_ids = _clean(_column(log, "user", keep), log.path)
    users = IdMap(_external([user_ids], log.typed, "user"), "user")
    arrays["user"] = users.find(user_ids)
    del user_ids
    item_ids = _clean(_column(log, "item", keep), log.path)
    known = [] if side.table is None else [_table_ids(side)]
    items = IdMap(_external([item_ids, *known], log.typed, "item"), "item")
    arrays["item"] = items.find(item_ids)
    del item_ids
    if not len(arrays["user"]):
        raise PrismError(f"{log.path} has no rows of interactions; expected at least one.")
    for role in log.roles:
        if role not in arrays:
            arrays[role], unit = _values(role, _column(log, role, keep), log.path)
            step |= {"timestamp_unit": unit} if unit else {}
    modalities = {
        m: _aligned(modality(values, m, len(ids), nan=nan), items.find(ids), len(items))
        for m, (ids, values) in side.features.items()
    }
    missing = missing_counts(modalities)
    return Dataset(
        name=name,
        users=users,
        items=items,
        interactions=Interactions(**{role: a.astype(COLUMNS[role]) for role, a in arrays.items()}),
        modalities=modalities,
        item_table=_item_table(items, side),
        provenance={"steps": [step | ({"missing": missing} if missing else {})]},
    )


def _column(log: Log, role: str, keep: np.ndarray | None) -> pl.Series:
    series = columns.collect(log.table.select(log.roles[role]), log.path).to_series()
    return series if keep is None else series.filter(pl.Series(keep))


def _rows_with_ids(log: Log, null_ids: NullIds) -> np.ndarray | None:
    """Which rows have both ids; None if all do. Empty text counts as none."""
    named = [log.roles["user"], log.roles["item"]]
    types = log.table.collect_schema()
    empty = [pl.col(c) == "" for c in named if types[c] == pl.String]
    lacks = pl.any_horizontal(*(pl.col(c).is_null() for c in named), *empty).fill_null(True)
    if not columns.collect(log.table.select(lacks.any().alias("lacks")), log.path).item():
        return None
    rows = columns.collect(log.table.select(lacks.alias("lacks")), log.path)["lacks"].to_numpy()
    if null_ids == "refuse":
        raise PrismError(
            f"{int(rows.sum()):,} rows of {log.path} have no {' or no '.join(map(repr, named))} "
            f"(first: data row {int(rows.argmax()) + 1:,}); mend them, or read with null_ids='drop' (--null-ids drop)."
        )
    return ~rows


def _clean(ids: pl.Series, path: Path) -> pl.Series:
    """Ids of a type that compares and prints: whole floats become integers, categories and bytes become text."""
    if ids.dtype.is_float():
        return pl.Series(ids.name, columns.integers(ids, path, low=-(2**53), high=2**53))
    if ids.dtype in (pl.Categorical, pl.Enum):
        return ids.cast(pl.String)
    if ids.dtype == pl.Binary:
        return ids.bin.encode("hex")
    if ids.dtype.is_nested():
        raise PrismError(f"Column {ids.name!r} of {path} has type {ids.dtype}; ids must be numbers or text.")
    return ids


def _external(parts: list[pl.Series], typed: bool, what: str) -> pl.Series:
    """All distinct ids, sorted. Ids of two types meet as text; text of a delimited file becomes integers if all of it can."""
    if len({part.dtype for part in parts}) > 1:
        whole = all(part.dtype.is_integer() for part in parts)
        parts = [part.cast(pl.Int64 if whole else pl.String) for part in parts]
    ids = pl.concat([part.unique().alias(what) for part in parts]).unique()
    if not typed and ids.dtype == pl.String:
        number = ids.cast(pl.Int64, strict=False)
        if (number.cast(pl.String) == ids).fill_null(False).all():
            ids = number
    return ids.sort()


def _values(role: str, column: pl.Series, path: Path) -> tuple[np.ndarray, str | None]:
    if role == "timestamp":
        return columns.timestamps(column, path)
    if role == "split":
        return _split(column, path), None
    return (columns.weights if role == "weight" else columns.numbers)(column, path), None


def _split(column: pl.Series, path: Path) -> np.ndarray:
    """Codes of ``PARTS`` from their names (``val`` and ``validation`` too) or from the codes 0, 1, 2."""
    text = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    codes = text.replace_strict(_PARTS, default=None, return_dtype=pl.Int8)
    if codes.null_count():
        row = int(codes.is_null().arg_max() or 0)
        raise PrismError(
            f"Column {column.name!r} of {path} holds {column[row]!r} in data row {row + 1:,} "
            f"({codes.null_count():,} such rows); expected train, valid or test, or 0, 1 or 2."
        )
    if not (codes == 0).any():
        raise PrismError(f"No row of {path} belongs to the train part; expected some in column {column.name!r}.")
    return codes.to_numpy()


def _table_ids(side: ItemSide) -> pl.Series:
    assert side.table is not None
    ids = _clean(side.table[side.id], side.path)
    twice = ids.is_duplicated() | ids.is_null()
    if twice.any():
        raise PrismError(
            f"{side.path} has {int(twice.sum()):,} rows whose {side.id!r} is missing or stands twice "
            f"(first: {ids.filter(twice)[0]!r}); expected one row per item."
        )
    return ids


def _item_table(items: IdMap, side: ItemSide) -> pl.DataFrame:
    known = pl.DataFrame({"item": items.external})
    if side.table is None:
        return known
    ids = _table_ids(side).cast(items.external.dtype).alias("item")
    rest = side.table.drop(side.id)
    clash = {"item": "item_"} if "item" in rest.columns else {}
    return known.join(rest.rename(clash).insert_column(0, ids), on="item", how="left", maintain_order="left")


def _aligned(m: Modality, rows: np.ndarray, n_items: int) -> Modality:
    """Features whose row k belongs to item ``rows[k]`` (-1: to none) → one row per item, others missing."""
    if np.array_equal(rows, np.arange(n_items)):
        return m
    values, present = np.zeros((n_items, m.width), m.values.dtype), np.zeros(n_items, bool)
    known = rows >= 0
    values[rows[known]] = m.values[known]
    present[rows[known]] = m.present[known]
    return Modality(values, present)
