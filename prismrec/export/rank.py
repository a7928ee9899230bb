"""What the verbs of a Shelf share: the terms of a score, folding-in, and lists of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prismrec.errors import PrismError, nearest
from prismrec.export import diversity
from prismrec.export.explain import FUSED
from prismrec.export.filters import Filter
from prismrec.export.lists import Lists
from prismrec.export.score import Part, best
from prismrec.export.tables import Dense, Seen, Side, Sparse, covariance, gram
from prismrec.folding import fitted

if TYPE_CHECKING:
    from prismrec.export.shelf import Shelf


@dataclass(frozen=True)
class Ask:
    """How long a list is wanted, of which items, and how diverse."""

    k: int
    only: Filter | None = None
    diversity: float = 0.0
    exact: bool = True


def wanted(shelf: Shelf, modality: str | None, weights: Mapping[str, float] | None) -> dict[str, Side]:
    """The sides whose queries a score needs, by name; what cannot be weighed is a ``PrismError``."""
    if weights is None:
        return {modality or FUSED: shelf.side(modality)}
    if modality is not None:
        raise PrismError("Give either a modality, to rank by it alone, or weights of several sides; not both.")
    for name, weight in weights.items():
        if name not in shelf.sides:
            hint = nearest(name, shelf.sides)
            raise PrismError(f"weights name {name!r}, for which this model states no score. {hint}")
        if not np.isfinite(weight):
            raise PrismError(f"The weight of {name!r} is {weight}; a weight is a finite number.")
    names = {FUSED, *(name for name, weight in weights.items() if weight)}
    if names == {FUSED} and not weights.get(FUSED, 1.0):
        raise PrismError("All weights are 0, so that nothing is left to rank by; give one side a weight.")
    return {name: side for name, side in shelf.sides.items() if name in names}


def parts(
    shelf: Shelf, queries: Mapping[str, Any], modality: str | None, weights: Mapping[str, float] | None
) -> list[Part]:
    """The terms of a score, of queries (n, d) for each side that ``wanted`` named."""
    if weights is None:
        name = modality or FUSED
        return [Part(queries[name], shelf.sides[name].item)]
    weight = {FUSED: 1.0, **weights}
    spread = {name: _spread(shelf, name, query) for name, query in queries.items()}
    found = []
    for name, query in queries.items():
        if weight[name]:
            factor = weight[name] * spread[FUSED] / np.where(spread[name] > 0, spread[name], 1)
            found.append(Part(scaled(query, factor.astype(np.float32)), shelf.sides[name].item))
    return found


def scaled(queries: Any, factor: np.ndarray) -> Any:
    """Queries (n, d), each times its factor (n,)."""
    dense = isinstance(queries, np.ndarray)
    return queries * factor[:, None] if dense else queries.multiply(factor[:, None]).tocsr()


def _spread(shelf: Shelf, name: str, queries: Any) -> np.ndarray:
    """Standard deviation (n,) over the catalogue of the scores of queries: √(qᵀ Cov q)."""
    if ("covariance", name) not in shelf.made:
        shelf.made["covariance", name] = covariance(shelf.sides[name].item)
    left = queries @ shelf.made["covariance", name]
    product = (left * queries).sum(1) if isinstance(queries, np.ndarray) else queries.multiply(left).sum(1)
    return np.asarray(np.sqrt(np.maximum(np.asarray(product, np.float64).reshape(-1), 0)))


def folded(shelf: Shelf, name: str, taken: Seen) -> Any:
    """Queries (n, d) of whoever took the items of each row of ``taken``, and nothing else that is known."""
    side = shelf.sides[name]
    if isinstance(side.user, Sparse):
        known = taken.indices < side.user.width
        kept = np.concatenate([[0], np.cumsum(known)])
        ones = np.ones(int(known.sum()), np.float32)
        return Sparse(kept[taken.indptr], taken.indices[known], ones, side.user.width).matrix
    if not isinstance(side.item, Dense):
        raise PrismError("This model has dense users and sparse items, so nobody can be fitted to some of its items.")
    if ("gram", name) not in shelf.made:
        shelf.made["gram", name] = gram(side.item)
    products = shelf.made["gram", name]
    return np.stack([fitted(side.item.take(taken.of(row)), products, len(side.item)) for row in range(len(taken))])


def paired(left: Any, right: Any) -> np.ndarray:
    """Inner products (n,) float32 of rows, dense or sparse."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return np.asarray(np.einsum("nd,nd->n", left, right))
    from scipy import sparse

    product = sparse.csr_array(left).multiply(sparse.csr_array(right))
    return np.asarray(product.sum(axis=1), np.float32).reshape(-1)


def lists(shelf: Shelf, asked: Sequence[Any], terms: Sequence[Part], masked: Seen | None, ask: Ask) -> Lists:
    """The lists of queries, as asked for."""
    most = len(shelf.items)
    if not 1 <= ask.k <= most:
        raise PrismError(f"k is {ask.k}, but there are {most:,} items to list; ask for k from 1 to that number.")
    if not 0 <= ask.diversity <= 1:
        raise PrismError(f"diversity is {ask.diversity}; it goes from 0 (the order of scores) to 1.")
    length = min(most, ask.k * diversity.POOL) if ask.diversity else ask.k
    items, scores = _found(shelf, terms, length, masked, ask)
    if ask.diversity:
        items, scores = diversity.rearranged(items, scores, ask.k, ask.diversity, lambda rows: _alike(shelf, rows))
    titles = shelf.item_table["title"] if "title" in shelf.item_table.columns else None
    return Lists(asked, items, scores, shelf.items, titles)


def _found(shelf: Shelf, terms: Sequence[Part], k: int, masked: Seen | None, ask: Ask) -> tuple[np.ndarray, np.ndarray]:
    columns = None if ask.only is None else ask.only.columns(shelf.items, shelf.item_table)
    plain = len(terms) == 1 and terms[0].items is shelf.sides[FUSED].item and terms[0].factor is None
    if shelf.near is not None and plain and columns is None and not ask.exact:
        found = shelf.near.best(terms[0], k, masked)
        if found is not None:
            return found
    return best(terms, k, masked, columns, shelf.threads)


def _alike(shelf: Shelf, rows: np.ndarray) -> list[np.ndarray]:
    """Unit vectors (…, d) of items, one for each modality; of the fused side where there is none."""
    views = []
    for view in shelf.views or (None,):
        table = shelf.compared(view)
        if not isinstance(table, Dense):
            raise PrismError(
                "Items of this model are rows of a sparse table and have no modality, so likeness is not known."
            )
        vectors = table.take(rows.reshape(-1)) * shelf.inverse_length(view)[rows.reshape(-1), None]
        views.append(vectors.reshape(*rows.shape, -1))
    return views
