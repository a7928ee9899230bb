"""A Shelf with items more, or with users less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from prismrec.data.ids import IdMap
from prismrec.errors import PrismError, nearest
from prismrec.export.tables import Dense, Side, Table

if TYPE_CHECKING:
    from prismrec.export.shelf import Ids, Shelf

NEIGHBOURS = 10
"""Items by whose sides an item is described of which only features are known."""


def forget(shelf: Shelf, user_ids: Ids) -> Shelf:
    """Without these users: their ids, vectors and seen items are gone, and items are less popular by them."""
    gone = np.zeros(len(shelf.users), bool)
    gone[shelf.rows_of_users(user_ids)] = True
    kept: dict[int, Table] = {}

    def table(side: Table) -> Table:
        if id(side) not in kept:
            kept[id(side)] = side.without(gone)
        return kept[id(side)]

    left = shelf.seen.take(np.flatnonzero(~gone))
    theirs = shelf.seen.take(np.flatnonzero(gone)).indices
    return replace(
        shelf,
        users=IdMap(shelf.users.external.filter(pl.Series(~gone)), "user"),
        sides={name: Side(table(side.user), side.item) for name, side in shelf.sides.items()},
        seen=left,
        popularity=shelf.popularity - np.bincount(theirs, minlength=len(shelf.items)),
    )


def add(
    shelf: Shelf,
    item_ids: Sequence[Any],
    sides: Mapping[str, np.ndarray] | None = None,
    contents: Mapping[str, np.ndarray] | None = None,
    table: Mapping[str, Sequence[Any]] | pl.DataFrame | None = None,
) -> Shelf:
    """With items that were not there; see ``Shelf.add``."""
    ids = pl.Series(list(item_ids)).cast(shelf.items.external.dtype, strict=False)
    if not len(ids) or ids.null_count() or ids.n_unique() != len(ids):
        raise PrismError("New items need distinct ids of the kind that the catalogue has, at least one.")
    known = shelf.items.find(ids) >= 0
    if known.any():
        raise PrismError(f"item {ids[int(known.argmax())]!r} is in the catalogue already; only new items can be added.")
    described = {m: _rows(f"content {m!r}", values, len(ids)) for m, values in (contents or {}).items()}
    for m, values in described.items():
        if m not in shelf.contents:
            raise PrismError(f"This export has no content of {m!r}. {nearest(m, shelf.contents)}")
        if values.shape[1] != shelf.contents[m].width:
            raise PrismError(
                f"The content {m!r} of the new items has {values.shape[1]} columns; expected {shelf.contents[m].width}. "
                "Make it of features with Shelf.content."
            )
    given = {name: _rows(f"side {name!r}", values, len(ids)) for name, values in (sides or {}).items()}
    for name in given:
        if name not in shelf.sides:
            raise PrismError(f"This model has no side {name!r}. {nearest(name, shelf.sides)}")
    missing = [name for name in shelf.sides if name not in given]
    if missing and not described:
        raise PrismError(
            f"The new items come without the sides {', '.join(missing)}, and without content to find neighbours by; give "
            "one or the other."
        )
    kept: dict[int, Table] = {}

    def extended(name: str, old: Table) -> Table:
        if not isinstance(old, Dense):
            raise PrismError("Items of this model are rows of a sparse table, so none can be added; export it again.")
        if id(old) not in kept:
            new = given[name] if name in given else _of_neighbours(shelf, described, old)
            if new.shape[1] != old.width:
                raise PrismError(
                    f"The side {name!r} of the new items has {new.shape[1]} columns; expected {old.width}."
                )
            kept[id(old)] = old.extended(new)
        return kept[id(old)]

    rows = pl.DataFrame({"item": ids}).with_columns(
        [pl.Series(name, values) for name, values in _columns(table).items() if name != "item"]
    )
    fits = [
        pl.col(name).cast(dtype, strict=False)
        for name, dtype in shelf.item_table.schema.items()
        if name in rows.columns
    ]
    content = {
        m: old.extended(described.get(m, np.zeros((len(ids), old.width), np.float32)))
        for m, old in shelf.contents.items()
    }
    return replace(
        shelf,
        items=IdMap(pl.concat([shelf.items.external, ids.rename(shelf.items.external.name)]), "item"),
        sides={name: Side(side.user, extended(name, side.item)) for name, side in shelf.sides.items()},
        popularity=np.concatenate([shelf.popularity, np.zeros(len(ids), np.int64)]),
        item_table=pl.concat([shelf.item_table, rows.select(fits)], how="diagonal"),
        contents=content,
    )


def _columns(table: Mapping[str, Sequence[Any]] | pl.DataFrame | None) -> Mapping[str, Any]:
    if table is None:
        return {}
    return table.to_dict() if isinstance(table, pl.DataFrame) else table


def _rows(what: str, values: np.ndarray, n: int) -> np.ndarray:
    values = np.asarray(values, np.float32)
    if values.ndim != 2 or len(values) != n or not np.isfinite(values).all():
        raise PrismError(
            f"The {what} of the new items has shape {values.shape}, or numbers that are not finite; expected a row for each of "
            f"the {n:,} items."
        )
    return values


def _of_neighbours(shelf: Shelf, contents: Mapping[str, np.ndarray], side: Dense) -> np.ndarray:
    """The mean of the nearest items' sides, by mean cosine over modalities, weighted by it."""
    likeness: np.ndarray | None = None
    for m, values in contents.items():
        own = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        known = shelf.contents[m]
        cosine = own @ known.take(np.arange(len(known))).T * shelf.inverse_length(m)
        likeness = cosine if likeness is None else likeness + cosine
    assert likeness is not None
    k = min(NEIGHBOURS, likeness.shape[1])
    near = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
    weight = np.maximum(np.take_along_axis(likeness, near, 1), 0)
    if not (weight.sum(1) > 0).all():
        raise PrismError("A new item is like no item of the catalogue in any modality; give its sides instead.")
    weight /= weight.sum(1, keepdims=True)
    vectors = side.take(near.reshape(-1)).reshape(*near.shape, -1)
    return np.asarray(np.einsum("nk,nkd->nd", weight, vectors), np.float32)
