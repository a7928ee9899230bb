"""Which items may be listed: lists of ids, and conditions on the columns of the item table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from prismrec.data.ids import IdMap
from prismrec.errors import PrismError, nearest


@dataclass(frozen=True)
class Range:
    """Numbers from ``least`` to ``most``, both included; None leaves an end open."""

    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Filter:
    """An item passes that is in ``allow`` (None: all are), not in ``deny``, and meets every one of ``where``.

    ``where``: column of the item table → a value, a list of values of which one must hold, or a ``Range``. In a column of
    lists one common element is enough; an item without a value meets no condition. Ids that no item has are passed over:
    lists of ids are often older or newer than a catalogue.

    Examples:
        >>> Filter(deny=["i00007"], where={"category": ["shoes", "bags"], "price": Range(most=50)})
        Filter(allow=None, deny=['i00007'], where={'category': ['shoes', 'bags'], 'price': Range(least=None, most=50)})
    """

    allow: Sequence[Any] | None = None
    deny: Sequence[Any] = ()
    where: Mapping[str, Any] = field(default_factory=dict)

    def columns(self, items: IdMap, table: pl.DataFrame) -> np.ndarray | None:
        """Rows of the items that pass, ascending; None where all do. Raises ``PrismError`` for an unknown column."""
        if self.allow is None and not self.deny and not self.where:
            return None
        passes = np.ones(len(items), bool)
        if self.allow is not None:
            passes[:] = False
            passes[_found(items, self.allow)] = True
        passes[_found(items, self.deny)] = False
        if self.where:
            conditions = [_condition(table, name, wanted) for name, wanted in self.where.items()]
            passes &= table.select(pl.all_horizontal(conditions).fill_null(False)).to_series().to_numpy()
        return np.flatnonzero(passes)


def _found(items: IdMap, ids: Sequence[Any]) -> np.ndarray:
    rows = items.find(list(ids)) if len(ids) else np.zeros(0, np.int64)
    return rows[rows >= 0]


def _condition(table: pl.DataFrame, name: str, wanted: Any) -> pl.Expr:
    if name not in table.columns:
        raise PrismError(f"The item table has no column {name!r}. {nearest(name, table.columns)}")
    column, dtype = pl.col(name), table.schema[name]
    if isinstance(wanted, Range):
        if not dtype.is_numeric():
            raise PrismError(f"A range needs a column of numbers; {name!r} is one of {dtype}.")
        ends = [column >= wanted.least if wanted.least is not None else None,
                column <= wanted.most if wanted.most is not None else None]  # fmt: skip
        return pl.all_horizontal([column.is_not_null(), *(end for end in ends if end is not None)])
    values = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    try:
        known = pl.Series(values, strict=False).cast(inner, strict=False)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise PrismError(f"{wanted!r} is no value of the column {name!r}, which is one of {dtype} ({error}).") from None
    if isinstance(dtype, pl.List):
        return column.list.eval(pl.element().is_in(known.implode())).list.any()
    return column.is_in(known.implode())
