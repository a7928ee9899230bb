"""The Shelf: an export in use. It recommends with NumPy and polars alone; torch and the model are not needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from prismrec.data.ids import IdMap
from prismrec.errors import PrismError, nearest
from prismrec.export.filters import Filter
from prismrec.export.lists import Lists
from prismrec.export.score import Part, best
from prismrec.export.tables import Dense, Dtype, Seen, Sparse, Table, covariance

FUSED = "fused"
Ids = Sequence[Any] | pl.Series | np.ndarray


@dataclass(frozen=True)
class Side:
    """Representations of users (U, d) and items (I, d) whose inner product is a score."""

    user: Table
    item: Table


@dataclass(frozen=True)
class Shelf:
    """Who is recommended what, from final representations.

    ``sides``: ``"fused"`` and each modality for which the model states a score of its own. ``contents``: modality → vectors
    of items (I, c) made from their features alone: what looks or reads alike. ``seen``: items of each user that are left
    out unless asked for. ``popularity`` (I,): users known to have taken an item. ``item_table``: a row for each item, the
    first column its id. ``info``: where it came from; ``measured``: what storing numbers in fewer bits costs, or None;
    ``pictures``: the folder of items' pictures, or None.

    A Shelf never changes: ``add`` and ``forget`` return another one.
    """

    users: IdMap
    items: IdMap
    sides: Mapping[str, Side]
    seen: Seen
    popularity: np.ndarray
    item_table: pl.DataFrame
    contents: Mapping[str, Dense] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] | None = None
    pictures: str | None = None
    threads: int = 0

    @staticmethod
    def load(path: str | Path, *, verify: bool = True, threads: int = 0) -> Shelf:
        """What ``prismrec export`` or ``save`` wrote to the folder ``path``, memory-mapped.

        ``verify``: compare checksums too, which reads every byte once. ``threads``: as many as rank together; 0 takes what
        ``OMP_NUM_THREADS`` allows, else all cores. Raises ``PrismError`` for a file that is missing, cut short or changed, and
        for tables that do not fit each other.
        """
        from prismrec.export.store import load

        return replace(load(Path(path), verify), threads=threads)

    def save(self, path: str | Path) -> None:
        """Write an export to the folder ``path``, replacing an earlier one there in one step."""
        from prismrec.export.store import save

        save(self, Path(path))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have a score of their own, for ``modality`` and ``weights``."""
        return tuple(name for name in self.sides if name != FUSED)

    @property
    def dtype(self) -> str:
        """How representations are stored."""
        return self.sides[FUSED].item.kind

    # lists

    def recommend(self, user_ids: Ids, k: int = 10, **how: Any) -> pl.DataFrame:
        """``lists`` as a table: columns user, rank (from 1), item, score, and title where known."""
        return self.lists(user_ids, k, **how).table()

    def lists(
        self,
        user_ids: Ids,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        modality: str | None = None,
        weights: Mapping[str, float] | None = None,
        only: Filter | None = None,
    ) -> Lists:
        """The ``k`` best items of each user; equal scores stand in the order of the catalogue.

        ``modality``: by that modality's score alone. ``weights``: name of a side → its weight, with 1 for the fused side where
        it is not named: s = Σ w_s · (σ_f(u) / σ_s(u)) · s_s(u, i), where σ_s(u) is the standard deviation of u's scores over
        the catalogue, so that a weight means the same whatever the scale of a side. ``only``: items that may be listed.
        A user with fewer than ``k`` items left gets a shorter list.
        Raises ``PrismError`` for an unknown user, modality or column, and for k outside 1..I.
        """
        rows = self.rows_of_users(user_ids)
        self._check_k(k, len(self.items))
        parts = self._parts(rows, modality, weights)
        masked = self.seen.take(rows) if exclude_seen else None
        return self._lists(user_ids, *best(parts, k, masked, self._columns(only), self.threads))

    def recommend_all(self, k: int = 10, *, block: int = 1 << 16, **how: Any) -> Iterator[pl.DataFrame]:
        """``recommend`` for everybody, in tables of ``block`` users at a time."""
        for start in range(0, len(self.users), block):
            yield self.recommend(self.users.external[start : start + block], k, **how)

    def popular(self, k: int = 10, *, only: Filter | None = None) -> Lists:
        """One list of the items that most users have taken: for somebody of whom nothing is known. The score is that number."""
        self._check_k(k, len(self.items))
        counts = Dense(self.popularity.astype(np.float32)[:, None])
        found = best([Part(np.ones((1, 1), np.float32), counts)], k, None, self._columns(only), 1)
        return self._lists([None], *found)

    def similar(self, item_ids: Ids, k: int = 10, *, modality: str | None = None, only: Filter | None = None) -> Lists:
        """The ``k`` items most like each item: by the fused representation, or by what a modality shows.

        The score is the cosine: with ``modality`` of the items' features where the export holds them, else of what the model
        makes of them. Where users are rows of the training matrix (ItemKNN, EASE) the fused score is instead what having
        taken the item adds to the other's. Raises ``PrismError`` for an unknown item or modality, and for k outside 1..I-1.
        """
        rows = self.rows_of_items(item_ids)
        self._check_k(k, len(self.items) - 1)
        itself = Seen(np.arange(len(rows) + 1), rows.astype(np.int32))
        if modality is None and isinstance(self.sides[FUSED].user, Sparse):
            parts = [Part(self._taken(itself), self.sides[FUSED].item)]
        else:
            unit = self._unit(modality)
            parts = [Part(unit.take(rows), unit)]
        found = best(parts, k, itself, self._columns(only), self.threads)
        return replace(self._lists(item_ids, *found), name="item", what="similar")

    def scores(self, user_ids: Ids, item_ids: Ids, modality: str | None = None) -> pl.DataFrame:
        """Scores of pairs, the first user with the first item and so on: columns user, item, score."""
        user, item = self.rows_of_users(user_ids), self.rows_of_items(item_ids)
        if len(user) != len(item):
            raise PrismError(
                f"scores() got {len(user):,} users and {len(item):,} items; it needs as many of one as of the other."
            )
        side = self.side(modality)
        left, right = side.user.take(user), side.item.take(item)
        dense = isinstance(left, np.ndarray) and isinstance(right, np.ndarray)
        score = np.einsum("nd,nd->n", left, right) if dense else _sparse_pairs(left, right)
        ids = {"user": self.users.decode(user), "item": self.items.decode(item)}
        return pl.DataFrame({**ids, "score": score.astype(np.float32)})

    # what is known

    def knows(self, user_id: Any) -> bool:
        """Whether a user is known."""
        return bool(self.users.find([user_id])[0] >= 0)

    def history(self, user_id: Any) -> list[Any]:
        """Items that a user is known to have taken, in the order of the catalogue."""
        (row,) = self.rows_of_users([user_id])
        return self.items.decode(self.seen.of(int(row))).to_list()

    def item(self, item_id: Any) -> dict[str, Any]:
        """The row of an item in the item table."""
        (row,) = self.rows_of_items([item_id])
        return self.item_table.row(int(row), named=True)

    def rows_of_users(self, ids: Ids) -> np.ndarray:
        """Internal ids (n,) of users; an unknown one is a ``PrismError``."""
        return _rows(self.users, ids)

    def rows_of_items(self, ids: Ids) -> np.ndarray:
        """Internal ids (n,) of items; an unknown one is a ``PrismError``."""
        return _rows(self.items, ids)

    def side(self, modality: str | None) -> Side:
        """The two tables behind a score."""
        if modality is not None and modality not in self.modalities:
            hint = nearest(modality, self.modalities) if self.modalities else "It has no scores by modality."
            raise PrismError(f"This model states no score for modality {modality!r}. {hint}")
        return self.sides[modality or FUSED]

    # other forms

    def stored_as(self, dtype: Dtype) -> Shelf:
        """The same with representations stored in another type."""
        sides = {name: Side(side.user.as_type(dtype), side.item.as_type(dtype)) for name, side in self.sides.items()}
        return replace(self, sides=sides)

    # within

    def _check_k(self, k: int, most: int) -> None:
        if not 1 <= k <= most:
            raise PrismError(f"k is {k}, but there are {most:,} items to list; ask for k from 1 to that number.")

    def _columns(self, only: Filter | None) -> np.ndarray | None:
        return None if only is None else only.columns(self.items, self.item_table)

    def _lists(self, asked: Ids, items: np.ndarray, scores: np.ndarray) -> Lists:
        titles = self.item_table["title"] if "title" in self.item_table.columns else None
        return Lists(list(asked), items, scores, self.items, titles)

    def _parts(self, rows: np.ndarray, modality: str | None, weights: Mapping[str, float] | None) -> list[Part]:
        """The terms of the score of users."""
        if weights is None:
            side = self.side(modality)
            return [Part(side.user.take(rows), side.item)]
        if modality is not None:
            raise PrismError("Give either a modality, to rank by it alone, or weights of several sides; not both.")
        for name, weight in weights.items():
            if name not in self.sides:
                raise PrismError(
                    f"weights name {name!r}, for which this model states no score. {nearest(name, self.sides)}"
                )
            if not np.isfinite(weight):
                raise PrismError(f"The weight of {name!r} is {weight}; a weight is a finite number.")
        wanted = {name: weight for name, weight in {FUSED: 1.0, **weights}.items() if weight}
        if not wanted:
            raise PrismError("All weights are 0, so that nothing is left to rank by; give one side a weight.")
        queries = {name: self.sides[name].user.take(rows) for name in {FUSED, *wanted}}
        scale = {name: self._spread(name, query) for name, query in queries.items()}
        parts = []
        for name, weight in wanted.items():
            factor = np.asarray(weight * scale[FUSED] / np.where(scale[name] > 0, scale[name], 1), np.float32)[:, None]
            parts.append(Part(_scaled(queries[name], factor), self.sides[name].item))
        return parts

    def _spread(self, name: str, queries: Any) -> np.ndarray:
        """Standard deviation (n,) over the catalogue of the scores of queries: √(qᵀ Cov q)."""
        left = queries @ self._covariance(name)
        product = (left * queries).sum(1) if isinstance(left, np.ndarray) else left.multiply(queries).sum(1)
        return np.sqrt(np.maximum(np.asarray(product, np.float64).reshape(-1), 0))

    def _covariance(self, name: str) -> np.ndarray:
        if name not in self._covariances:
            self._covariances[name] = covariance(self.sides[name].item)
        return self._covariances[name]

    @cached_property
    def _covariances(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def _units(self) -> dict[str, Dense]:
        return {}

    def _unit(self, modality: str | None) -> Dense:
        """Items of unit length (I, d) by which they are compared; an item without a direction stays zero."""
        name = modality or FUSED
        if name not in self._units:
            known = {
                **self.contents,
                **{side: self.sides[side].item for side in self.sides if side not in self.contents},
            }
            if name not in known:
                others = [other for other in known if other != FUSED]
                hint = nearest(name, others) if others else "It describes items by no modality."
                raise PrismError(f"This export has nothing on modality {name!r}. {hint}")
            self._units[name] = _unit(known[name])
        return self._units[name]

    def _taken(self, items: Seen) -> Any:
        """Rows of ones at the given items, as a SciPy CSR array."""
        ones = np.ones(len(items.indices), np.float32)
        return Sparse(items.indptr, items.indices, ones, self.sides[FUSED].user.width).matrix


def _rows(known: IdMap, ids: Ids) -> np.ndarray:
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence | pl.Series | np.ndarray):
        raise PrismError(f"Give a list of {known.what}s, such as [{ids!r}], not the single value {ids!r}.")
    return known.encode(ids)


def _unit(table: Table) -> Dense:
    values = table.take(np.arange(len(table)))
    values = values if isinstance(values, np.ndarray) else values.toarray()
    length = np.sqrt(np.einsum("nd,nd->n", values, values))
    values /= np.where(length > 0, length, 1)[:, None]
    return Dense(values)


def _scaled(queries: Any, factor: np.ndarray) -> Any:
    """Queries (n, d), each times its factor (n, 1)."""
    return queries * factor if isinstance(queries, np.ndarray) else queries.multiply(factor).tocsr()


def _sparse_pairs(left: Any, right: Any) -> np.ndarray:
    from scipy import sparse

    return np.asarray(sparse.csr_array(left).multiply(sparse.csr_array(right)).sum(axis=1)).reshape(-1)
