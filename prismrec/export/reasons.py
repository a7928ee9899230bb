"""How ``explain`` comes to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prismrec.errors import PrismError
from prismrec.export.explain import FUSED, Said, Why, evidence_of, shares_of
from prismrec.export.rank import paired, scaled
from prismrec.export.score import Part, all_scores
from prismrec.export.tables import Sparse

if TYPE_CHECKING:
    from prismrec.export.shelf import Shelf


def why(shelf: Shelf, user_id: Any, item_id: Any, k: int, near: int) -> Why:
    """See ``Shelf.explain``."""
    if k < 1 or near < 0:
        raise PrismError(f"k is {k} and near is {near}; ask for k ≥ 1 and near ≥ 0.")
    users, items = shelf.rows_of_users([user_id]), shelf.rows_of_items([item_id])
    taken = shelf.seen.of(int(users[0]))
    said = {name: _said(shelf, name, users, int(items[0]), taken) for name in sorted(shelf.sides, key=FUSED.__ne__)}
    history = taken[taken != items[0]]
    compared = {
        view: _nearest(shelf, view, int(users[0]), int(items[0]), history, near) for view in (None, *shelf.views)
    }
    return Why(
        user=user_id,
        item=item_id,
        k=k,
        said=said,
        shares=shares_of(said),
        near={view or FUSED: found for view, found in compared.items()},
        evidence=evidence_of(said, k),
    )


def _said(shelf: Shelf, name: str, users: np.ndarray, item: int, taken: np.ndarray) -> Said:
    side = shelf.sides[name]
    (scores,) = all_scores([Part(side.user.take(users), side.item)])
    own, mean, spread = scores[item], scores.mean(dtype=np.float64), scores.std(dtype=np.float64)
    others = scores > own
    others[taken] = False
    return Said(float(own), float((own - mean) / spread) if spread else 0.0, 1 + int(others.sum()))


def _nearest(
    shelf: Shelf, view: str | None, user: int, item: int, history: np.ndarray, near: int
) -> list[tuple[Any, float]]:
    """The items of a history that are nearest to one: (id, cosine or what it adds to the score), best first."""
    side = shelf.sides[FUSED]
    if view is None and isinstance(side.user, Sparse):
        history, weights = side.user.row(user)
        values = weights * _numbers(side.item.take(np.array([item])))[history]
    else:
        own = np.full(len(history), item)
        table, inverse = shelf.compared(view), shelf.inverse_length(view)
        values = paired(scaled(table.take(own), inverse[own]), scaled(table.take(history), inverse[history]))
    order = np.argsort(-values, kind="stable")[:near]
    return list(zip(shelf.items.names(history[order]), values[order].tolist(), strict=True))


def _numbers(row: Any) -> np.ndarray:
    """One row (1, d), dense or sparse, as (d,)."""
    dense: np.ndarray = row if isinstance(row, np.ndarray) else row.toarray()
    return np.asarray(dense[0], np.float32)
