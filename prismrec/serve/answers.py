"""From what was asked to what is answered: no HTTP, no event loop. A bad wish is a ``PrismError``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prismrec.export import Filter, Lists, Range
from prismrec.export.explain import Said, evidence_of, shares_of
from prismrec.export.score import Part, all_scores
from prismrec.serve.batching import cards_of
from prismrec.serve.catalogue import Catalogue
from prismrec.serve.forms import Between, Wishes

Cards = list[dict[str, Any]]


def filter_of(wishes: Wishes) -> Filter | None:
    """The items that may be listed; None for all."""
    if wishes.allow is None and not wishes.deny and not wishes.where:
        return None
    where = {
        column: Range(wish.least, wish.most) if isinstance(wish, Between) else wish
        for column, wish in wishes.where.items()
    }
    return Filter(None if wishes.allow is None else list(wishes.allow), list(wishes.deny), where)


def users(catalogue: Catalogue, rows: Sequence[int], k: int, wishes: Wishes) -> list[Cards]:
    """Lists of known users."""
    ids = catalogue.shelf.users.decode(np.array(rows))
    found = catalogue.shelf.lists(ids, _within(catalogue, k), exclude_seen=wishes.exclude_seen, **_how(wishes))
    return _cards(catalogue, found)


def session(catalogue: Catalogue, items: Sequence[int], k: int, wishes: Wishes) -> Cards:
    """The list of whoever took some items."""
    ids = catalogue.shelf.items.decode(np.array(items))
    found = catalogue.shelf.session(ids, _within(catalogue, k), **_how(wishes))
    return _cards(catalogue, found)[0]


def popular(catalogue: Catalogue, k: int, wishes: Wishes | None = None) -> Cards:
    """The items most taken."""
    if (wishes is None or filter_of(wishes) is None) and k <= len(catalogue.most_taken):
        return catalogue.most_taken[:k]
    only = None if wishes is None else filter_of(wishes)
    return _cards(catalogue, catalogue.shelf.popular(_within(catalogue, k), only=only))[0]


def similar(catalogue: Catalogue, row: int, k: int, by: str | None) -> Cards:
    """Items like an item."""
    most = len(catalogue.items) - 1
    if not most:
        return []
    ids = catalogue.shelf.items.decode(np.array([row]))
    return _cards(catalogue, catalogue.shelf.similar(ids, min(k, most), modality=by))[0]


def said_of(catalogue: Catalogue, row: int, cards: Cards, k: int) -> None:
    """Add to the cards of a known user's list what each side says of each item."""
    if not cards:
        return
    shelf = catalogue.shelf
    items = np.array([catalogue.items.row(card["item"]) for card in cards])
    seen = shelf.seen.of(row)
    said: dict[str, list[Said]] = {}
    for name, side in shelf.sides.items():
        scores = all_scores([Part(side.user.take(np.array([row])), side.item)])[0]
        mean, spread = float(scores.mean(dtype=np.float64)), float(scores.std(dtype=np.float64))
        own = scores[items]
        unseen = scores.copy()
        unseen[seen] = -np.inf
        ascending = np.sort(unseen)
        ranks = len(ascending) - ascending.searchsorted(own, side="right") + 1
        said[name] = [
            Said(score, (score - mean) / spread if spread else 0.0, rank)
            for score, rank in zip(own.tolist(), ranks.tolist(), strict=True)
        ]
    for place, card in enumerate(cards):
        of_item = {name: values[place] for name, values in said.items()}
        card["said"] = {name: vars(one) for name, one in of_item.items()}
        card["shares"], card["evidence"] = shares_of(of_item), evidence_of(of_item, k)


def why(catalogue: Catalogue, user: int, item: int, k: int) -> dict[str, Any]:
    """What is to be said of an item and a known user."""
    shelf = catalogue.shelf
    found = shelf.explain(shelf.users.external[user], shelf.items.external[item], k=_within(catalogue, k))
    near = {}
    for name, neighbours in found.near.items():
        rows = shelf.rows_of_items([one for one, _ in neighbours]) if neighbours else np.zeros(0, np.int64)
        cards = catalogue.cards(rows)
        near[name] = [{**card, "cosine": cosine} for card, (_, cosine) in zip(cards, neighbours, strict=True)]
    (card,) = catalogue.cards(np.array([item]))
    return {
        "user": catalogue.users.text(user),
        "item": card,
        "k": k,
        "said": {name: vars(one) for name, one in found.said.items()},
        "shares": dict(found.shares),
        "near": near,
        "evidence": found.evidence,
    }


def _how(wishes: Wishes) -> dict[str, Any]:
    """Wishes that lists of users and of sessions have in common, as the Shelf takes them."""
    return {
        "modality": wishes.modality,
        "weights": wishes.weights,
        "diversity": wishes.diversity,
        "only": filter_of(wishes),
    }


def _within(catalogue: Catalogue, k: int) -> int:
    return min(k, len(catalogue.items))


def _cards(catalogue: Catalogue, found: Lists) -> list[Cards]:
    return cards_of(catalogue, found.items, found.scores, [found.items.shape[1]] * len(found.items))
