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
from prismrec.export import change, rank, store
from prismrec.export.ann import Near
from prismrec.export.explain import FUSED, Why
from prismrec.export.filters import Filter
from prismrec.export.lists import Lists
from prismrec.export.reasons import why
from prismrec.export.score import Part
from prismrec.export.tables import Dense, Dtype, Seen, Side, Sparse, Table, lengths

Ids = Sequence[Any] | pl.Series | np.ndarray


@dataclass(frozen=True)
class Shelf:
    """Who is recommended what, from final representations.

    ``sides``: ``"fused"`` and each modality for which the model states a score of its own. ``contents``: modality → vectors
    of items (I, c) made from their features alone, by ``axes`` (r, c): what looks or reads alike. ``seen``: items of each user
    that are left out unless asked for. ``popularity`` (I,): users known to have taken an item. ``item_table``: a row for each
    item, the first column its id. ``info``: where it came from; ``measured``: what storing numbers in fewer bits costs, or
    None; ``pictures``: the folder of items' pictures, or None. ``near``: an approximate index, or None. ``threads``: as many as
    rank together; 0 takes what ``OMP_NUM_THREADS`` allows, else all cores.

    A Shelf never changes: ``add`` and ``forget`` return another one.
    """

    users: IdMap
    items: IdMap
    sides: Mapping[str, Side]
    seen: Seen
    popularity: np.ndarray
    item_table: pl.DataFrame
    contents: Mapping[str, Dense] = field(default_factory=dict)
    axes: Mapping[str, np.ndarray] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] | None = None
    pictures: str | None = None
    near: Near | None = None
    threads: int = 0

    @staticmethod
    def load(path: str | Path, *, verify: bool = True, approximate: bool = True, threads: int = 0) -> Shelf:
        """What ``prismrec export`` or ``save`` wrote to the folder ``path``, memory-mapped.

        ``verify``: compare checksums too, which reads every byte once. ``approximate``: with the approximate index, where the
        export has one, whose library must then be there. Raises ``PrismError`` for a file that is missing, cut
        short or changed, and for tables that do not fit each other.
        """
        return replace(store.load(Path(path), verify, approximate), threads=threads)

    def save(self, path: str | Path) -> None:
        """Write an export to the folder ``path``, replacing an earlier one there in one step."""
        store.save(self, Path(path))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have a score of their own, for ``modality`` and ``weights``."""
        return tuple(name for name in self.sides if name != FUSED)

    @property
    def views(self) -> tuple[str, ...]:
        """Modalities by which items can be compared, for ``similar``."""
        return tuple(dict.fromkeys([*self.modalities, *self.contents]))

    @property
    def dtype(self) -> str:
        """How representations are stored."""
        return self.sides[FUSED].item.kind

    # lists

    def recommend(self, user_ids: Ids, k: int = 10, **how: Any) -> pl.DataFrame:
        """``lists`` as a table: columns user, rank (from 1), item, score, and title where known."""
        return self.lists(user_ids, k, **how).table()

    def recommend_all(self, k: int = 10, *, block: int = 1 << 16, **how: Any) -> Iterator[pl.DataFrame]:
        """``recommend`` for everybody, in tables of ``block`` users at a time."""
        for start in range(0, len(self.users), block):
            yield self.recommend(self.users.external[start : start + block], k, **how)

    def lists(
        self,
        user_ids: Ids,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        modality: str | None = None,
        weights: Mapping[str, float] | None = None,
        only: Filter | None = None,
        diversity: float = 0.0,
        exact: bool = False,
    ) -> Lists:
        """The ``k`` best items of each user; equal scores stand in the order of the catalogue.

        ``modality``: by that modality's score alone. ``weights``: name of a side → its weight, with 1 for the fused side where
        it is not named: s = Σ w_s · (σ_f(u) / σ_s(u)) · s_s(u, i), where σ_s(u) is the standard deviation of u's scores over
        the catalogue, so that a weight means the same whatever the scale of a side. ``only``: items that may be listed.
        ``diversity``: from 0 to 1, how much likeness to items further up counts against an item (maximal marginal relevance).
        ``exact``: do without the approximate index, where there is one.
        A user with fewer than ``k`` items left gets a shorter list.
        Raises ``PrismError`` for an unknown user, modality or column, and for k outside 1..I.
        """
        rows = self.rows_of_users(user_ids)
        queries = {name: side.user.take(rows) for name, side in rank.wanted(self, modality, weights).items()}
        ask = rank.Ask(k, only, diversity, exact)
        masked = self.seen.take(rows) if exclude_seen else None
        return rank.lists(self, self.users.names(rows), rank.parts(self, queries, modality, weights), masked, ask)

    def session(
        self,
        item_ids: Ids,
        k: int = 10,
        *,
        modality: str | None = None,
        weights: Mapping[str, float] | None = None,
        only: Filter | None = None,
        diversity: float = 0.0,
        exact: bool = False,
    ) -> Lists:
        """One list for somebody of whom nothing is known but these items, which are left out of it.

        Where a user is a row of the training matrix (ItemKNN, EASE) it is exact; else his vector is fitted to the items'
        (``prismrec.folding``). The rest is as in ``lists``. Raises ``PrismError`` for an unknown item.
        """
        taken = np.unique(self.rows_of_items(item_ids))
        if not len(taken):
            raise PrismError("A session needs at least one item; for somebody without any ask for popular items.")
        given = Seen(np.array([0, len(taken)]), taken.astype(np.int32))
        wanted = rank.wanted(self, modality, weights)
        queries = {name: rank.folded(self, name, given) for name in wanted}
        ask = rank.Ask(k, only, diversity, exact)
        return rank.lists(self, [None], rank.parts(self, queries, modality, weights), given, ask)

    def popular(self, k: int = 10, *, only: Filter | None = None) -> Lists:
        """One list of the items that most users have taken: for somebody of whom nothing is known. The score is that number."""
        counts = Dense(self.popularity.astype(np.float32)[:, None])
        return rank.lists(self, [None], [Part(np.ones((1, 1), np.float32), counts)], None, rank.Ask(k, only))

    def similar(self, item_ids: Ids, k: int = 10, *, modality: str | None = None, only: Filter | None = None) -> Lists:
        """The ``k`` items most like each item: by the fused representation, or by what a modality shows.

        The score is the cosine: with ``modality`` of the items' features where the export holds them, else of what the model
        makes of them. Where users are rows of the training matrix (ItemKNN, EASE) the fused score is instead what having
        taken the item adds to the other's. Raises ``PrismError`` for an unknown item or modality, and for k outside 1..I-1.
        """
        rows = self.rows_of_items(item_ids)
        if k >= len(self.items):
            raise PrismError(
                f"k is {k}, but an item has {len(self.items) - 1:,} others; ask for k from 1 to that number."
            )
        itself = Seen(np.arange(len(rows) + 1), rows.astype(np.int32))
        if modality is None and isinstance(self.sides[FUSED].user, Sparse):
            part = Part(rank.folded(self, FUSED, itself), self.sides[FUSED].item)
        else:
            table, inverse = self.compared(modality), self.inverse_length(modality)
            part = Part(rank.scaled(table.take(rows), inverse[rows]), table, inverse)
        found = rank.lists(self, self.items.names(rows), [part], itself, rank.Ask(k, only))
        return replace(found, name="item", what="similar")

    def scores(self, user_ids: Ids, item_ids: Ids, modality: str | None = None) -> pl.DataFrame:
        """Scores of pairs, the first user with the first item and so on: columns user, item, score."""
        user, item = self.rows_of_users(user_ids), self.rows_of_items(item_ids)
        if len(user) != len(item):
            raise PrismError(
                f"scores() got {len(user):,} users and {len(item):,} items; it needs as many of one as of the other."
            )
        side = self.side(modality)
        ids = {"user": self.users.decode(user), "item": self.items.decode(item)}
        return pl.DataFrame({**ids, "score": rank.paired(side.user.take(user), side.item.take(item))})

    def explain(self, user_id: Any, item_id: Any, *, k: int = 10, near: int = 3) -> Why:
        """Why an item is among the ``k`` first of a user, or why not, with the ``near`` nearest items of the history."""
        return why(self, user_id, item_id, k, near)

    # what is known

    def knows(self, user_id: Any) -> bool:
        """Whether a user is known."""
        return bool(self.users.find([user_id])[0] >= 0)

    def history(self, user_id: Any) -> list[Any]:
        """Items that a user is known to have taken, in the order of the catalogue."""
        (row,) = self.rows_of_users([user_id])
        return self.items.names(self.seen.of(int(row)))

    def item(self, item_id: Any) -> dict[str, Any]:
        """The row of an item in the item table."""
        (row,) = self.rows_of_items([item_id])
        return self.item_table.row(int(row), named=True)

    def picture(self, item_id: Any) -> Path | None:
        """The picture of an item: a file in the folder of pictures, or None. No id leads to a file elsewhere."""
        name = self.item(item_id).get("picture")
        if self.pictures is None or not isinstance(name, str):
            return None
        folder = Path(self.pictures).resolve()
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None

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

    def compared(self, modality: str | None) -> Table:
        """The item vectors by whose cosine items are compared."""
        if modality is not None and modality not in self.views:
            hint = nearest(modality, self.views) if self.views else "It describes items by no modality."
            raise PrismError(f"This export has nothing on modality {modality!r}. {hint}")
        content = self.contents.get(modality or "")
        return self.sides[modality or FUSED].item if content is None else content

    def inverse_length(self, modality: str | None) -> np.ndarray:
        """1 / length (I,) of those vectors, 0 for one without a direction."""
        if modality not in self._inverse:
            length = lengths(self.compared(modality))
            self._inverse[modality] = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
        return self._inverse[modality]

    # other forms

    def stored_as(self, dtype: Dtype) -> Shelf:
        """The same with representations stored in another type."""
        kept: dict[int, Table] = {}

        def stored(table: Table) -> Table:
            if id(table) not in kept:
                kept[id(table)] = table.as_type(dtype)
            return kept[id(table)]

        return replace(self, sides={name: Side(stored(s.user), stored(s.item)) for name, s in self.sides.items()})

    def content(self, modality: str, features: np.ndarray) -> np.ndarray:
        """What ``contents`` holds, for features (n, r) of other items: (n, c), by ``axes``."""
        if modality not in self.axes:
            raise PrismError(
                f"This export does not know how to read features of {modality!r}. {nearest(modality, self.axes)}"
            )
        axes, values = self.axes[modality], np.asarray(features, np.float32)
        if values.ndim != 2 or values.shape[1] != len(axes):
            raise PrismError(f"Features of {modality!r} have shape {values.shape}; expected (items, {len(axes)}).")
        length = np.linalg.norm(values, axis=1, keepdims=True)
        return np.asarray((values / np.where(length > 0, length, 1)) @ axes)

    def add(
        self,
        item_ids: Sequence[Any],
        *,
        sides: Mapping[str, np.ndarray] | None = None,
        features: Mapping[str, np.ndarray] | None = None,
        table: Mapping[str, Sequence[Any]] | pl.DataFrame | None = None,
    ) -> Shelf:
        """With items that were not there, and no retraining.

        ``sides``: name → (n, d), as the model makes them of features (``Recommender.add_items``). Those not given come from
        ``features`` (modality → (n, r)): the mean of the sides of the ten items most like it, weighted by mean cosine.
        ``table``: columns of the item table. Raises ``PrismError`` for ids that are known, and shapes that do not fit.
        """
        contents = {m: self.content(m, values) for m, values in (features or {}).items()}
        return change.add(self, item_ids, sides, contents, table)

    def forget(self, user_ids: Ids) -> Shelf:
        """Without these users: neither their ids, nor vectors, nor items are left. ``save`` it to forget them on disk."""
        return change.forget(self, user_ids)

    @cached_property
    def made(self) -> dict[tuple[str, str], Any]:
        """What was computed of a side when it was first asked for: (what, name) → value."""
        return {}

    @cached_property
    def _inverse(self) -> dict[str | None, np.ndarray]:
        return {}


def _rows(known: IdMap, ids: Ids) -> np.ndarray:
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence | pl.Series | np.ndarray):
        raise PrismError(f"Give a list of {known.what}s, such as [{ids!r}], not the single value {ids!r}.")
    return known.encode(ids)
