"""From raw interactions to those worth learning from: duplicates, a rating threshold, the k-core.

Each function takes a ``Dataset`` and returns another. None draws random numbers. After ``prepare`` the rows are sorted by
user, item and time, so that the same log in another order of rows gives the same data set, bit for bit (without times,
``"first"`` and ``"last"`` of a duplicate mean the order of rows, and only then it matters).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import polars as pl

from prismrec.data.dataset import COLUMNS, Dataset, Interactions
from prismrec.data.ids import IdMap
from prismrec.errors import PrismError

Duplicates = Literal["keep", "first", "last", "sum"]
"""Of the rows of one user and one item: keep all, the first, the last, or the last with the sum of all weights."""


def prepare(
    dataset: Dataset,
    *,
    duplicates: Duplicates = "last",
    min_rating: float | None = None,
    k_core: tuple[int, int] = (5, 5),
) -> Dataset:
    """Duplicates first (the last opinion counts), then ratings below ``min_rating``, then the k-core (users, items)."""
    dataset = drop_duplicates(dataset, duplicates)
    if min_rating is not None:
        dataset = drop_low_ratings(dataset, min_rating)
    return core(dataset, *k_core)


def drop_duplicates(dataset: Dataset, keep: Duplicates = "last") -> Dataset:
    """Sort rows by user, item and time; of each user and item keep what ``keep`` says.

    ``"sum"`` adds weights up (a row without weight counts 1); all other columns are those of the last row.
    """
    rows = _sorted(dataset.interactions)
    n = len(rows)
    changes = np.ones(n + 1, bool)
    changes[1:n] = (rows.user[1:] != rows.user[:-1]) | (rows.item[1:] != rows.item[:-1])
    if keep == "first":
        rows = rows.take(changes[:-1])
    elif keep in ("last", "sum"):
        weight = np.ones(n, np.float32) if rows.weight is None else rows.weight
        starts = np.flatnonzero(changes[:-1])
        rows = rows.take(changes[1:])
        if keep == "sum":
            total = np.add.reduceat(weight, starts, dtype=np.float64) if n else weight
            rows = replace(rows, weight=total.astype(np.float32))
    elif keep != "keep":
        raise PrismError(f"Duplicates can be handled by keep, first, last or sum; {keep!r} was asked for.")
    step = {"step": "duplicates", "keep": keep, "dropped": n - len(rows)}
    return replace(dataset, interactions=rows, provenance=with_step(dataset, step))


def drop_low_ratings(dataset: Dataset, minimum: float) -> Dataset:
    """Keep the rows rated ``minimum`` or higher. Raises ``PrismError`` without ratings, and if nothing is left."""
    rows = dataset.interactions
    if rows.rating is None:
        raise PrismError(
            f"A minimum rating of {minimum:g} was asked for, but {dataset.name!r} has no ratings; "
            "name their column when reading (rating='…', --rating), or leave the minimum out."
        )
    enough = rows.rating >= minimum
    if not enough.any():
        raise PrismError(
            f"No row of {dataset.name!r} is rated {minimum:g} or higher (the highest rating is {rows.rating.max():g}); "
            "ask for less."
        )
    step = {"step": "ratings", "minimum": minimum, "dropped": int((~enough).sum())}
    return replace(dataset, interactions=rows.take(enough), provenance=with_step(dataset, step))


def core(dataset: Dataset, users: int = 5, items: int = 5) -> Dataset:
    """The largest part in which each user has ``users`` rows and each item ``items`` rows, or more; 0 asks for nothing.

    Rows of all parts of a split count. Users and items below their threshold leave the data set, with their ids, features
    and rows of the item table; with a threshold of 0 they stay, those without any row too. Raises ``PrismError`` if nothing
    is left.
    """
    if users < 0 or items < 0:
        raise PrismError(
            f"A k-core of {users} rows per user and {items} per item was asked for; both must be 0 or more."
        )
    rows = dataset.interactions
    kept_users, kept_items = np.ones(dataset.n_users, bool), np.ones(dataset.n_items, bool)
    left = np.arange(len(rows))
    user, item = rows.user, rows.item
    rounds = 0
    while True:
        kept_users &= np.bincount(user, minlength=dataset.n_users) >= users
        kept_items &= np.bincount(item, minlength=dataset.n_items) >= items
        stay = kept_users[user] & kept_items[item]
        if stay.all():
            break
        left, user, item = left[stay], user[stay], item[stay]
        rounds += 1
    if not len(left):
        raise PrismError(
            f"Nothing is left of the {len(rows):,} interactions of {dataset.name!r} when each user must have {users} and each "
            f"item {items} of them; ask for a smaller k-core."
        )
    step = {"step": "k-core", "users": users, "items": items, "rounds": rounds, "dropped": len(rows) - len(left)}
    dataset = replace(dataset, interactions=rows.take(left), provenance=with_step(dataset, step))
    return restrict(dataset, kept_users, kept_items)


def restrict(dataset: Dataset, users: np.ndarray, items: np.ndarray) -> Dataset:
    """Only the users and items of two masks, (U,) and (I,) bool; all rows must be theirs. Ids close up, in their order."""
    if users.all() and items.all():
        return dataset
    rows = dataset.interactions
    to_user, to_item = (np.cumsum(mask, dtype=np.int32) - np.int32(1) for mask in (users, items))
    keep = pl.Series(items)
    return replace(
        dataset,
        users=IdMap(dataset.users.external.filter(pl.Series(users)), "user"),
        items=IdMap(dataset.items.external.filter(keep), "item"),
        interactions=replace(rows, user=to_user[rows.user], item=to_item[rows.item]),
        modalities={
            name: m if items.all() else replace(m, values=m.values[items], present=m.present[items])
            for name, m in dataset.modalities.items()
        },
        item_table=dataset.item_table.filter(keep) if dataset.item_table.width else dataset.item_table,
    )


def with_step(dataset: Dataset, step: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of ``dataset`` with one more step."""
    return {**dataset.provenance, "steps": [*dataset.provenance.get("steps", []), dict(step)]}


def _sorted(rows: Interactions) -> Interactions:
    """Rows by user, item and time, then by all other columns; without times, rows of one pair keep their order."""
    by = ["user", "item"]
    if rows.timestamp is not None:
        by += ["timestamp", *(c for c in ("split", "rating", "weight") if getattr(rows, c) is not None)]
    names = [name for name in COLUMNS if getattr(rows, name) is not None]
    frame = pl.DataFrame({name: getattr(rows, name) for name in names}).sort(by, maintain_order=True)
    return Interactions(**{name: frame[name].to_numpy() for name in names})
